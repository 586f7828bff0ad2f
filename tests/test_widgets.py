"""What the demo does without a browser: cards, table, download, and names that cannot become HTML."""

import base64
import datetime
import io
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from sercore.corpora.synthetic import SR, synthesize
from sercore.errors import ConfigError
from sercore.labels import COLORS, EMOTIONS
from sercore.models import build_model, save_checkpoint
from sercore.predict import PRETRAINED, Predictor
from sercore.widgets import ACCEPT, MAX_UPLOAD_MB, build_demo

ROOT = Path(__file__).resolve().parents[1]
EVIL = """<img src=x onerror="alert('1')">&.wav"""


def encode(y, *, sr=SR, format="WAV"):
    file = io.BytesIO()
    sf.write(file, y, sr, format=format)
    return file.getvalue()


HAPPY = encode(synthesize("happy"))


def make_predictor(folder, temperature):
    torch.manual_seed(0)
    path = save_checkpoint(folder / "untrained.safetensors", build_model("cnn"), name="cnn", temperature=temperature)
    return Predictor(path)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return make_predictor(tmp_path_factory.mktemp("sure"), 1e-3)


@pytest.fixture
def demo(predictor):
    return build_demo(predictor)


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def html(widget):
    return "".join(part.value for part in walk(widget) if isinstance(part, ipywidgets.HTML))


def uploaded(name, content):
    """As the browser sends it."""
    now = datetime.datetime.now(tz=datetime.UTC)
    return {
        "name": name,
        "type": "audio/wav",
        "size": len(content),
        "content": memoryview(content),
        "last_modified": now,
    }


def saved(demo):
    """What a click on the download link would save."""
    data = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', demo.download.value).group(1)
    return pd.read_csv(io.BytesIO(base64.b64decode(data)), keep_default_na=False)


def test_the_demo_agrees_with_the_predictor_on_the_same_bytes(demo, predictor):
    for name, content in {
        "a.wav": HAPPY,
        "b.flac": encode(synthesize("sad", sr=44_100), sr=44_100, format="FLAC"),
    }.items():
        expected, shown = predictor.predict(io.BytesIO(content)), demo.add(name, content)
        assert shown.label == expected.label
        assert shown.probabilities == pytest.approx(expected.probabilities, abs=1e-6)
        assert shown.duration_s == pytest.approx(expected.duration_s)
        row = demo.clips.iloc[-1]
        assert row[list(EMOTIONS)].to_dict() == pytest.approx(expected.probabilities, abs=1e-6)


def test_a_card_holds_player_picture_bars_and_verdict(demo):
    prediction = demo.add("happy.wav", HAPPY)
    (card,) = demo.results.children
    (player,) = (part for part in walk(card) if isinstance(part, ipywidgets.Audio))
    assert (player.value, player.format, player.autoplay) == (HAPPY, "wav", False)
    text = html(card)
    png = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', text).group(1))
    assert png.startswith(b"\x89PNG")
    assert 'alt="Waveform and log-mel spectrogram of happy.wav"' in text
    assert f"{prediction.label}, {100 * prediction.confidence:.0f}\u00a0% sure" in text
    bars = re.findall(r"ser-name[^>]*>([^<]+)<.*?background: (#\w+).*?ser-number[^>]*>([^<]+)<", text)
    assert bars == [
        (("▶ " if emotion == prediction.label else "") + emotion, COLORS[emotion], f"{100 * share:.0f}\u00a0%")
        for emotion, share in prediction.probabilities.items()
    ]


def test_below_one_half_the_verdict_names_two(tmp_path):
    demo = build_demo(make_predictor(tmp_path, 1.0))
    prediction = demo.add("happy.wav", HAPPY)
    first, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
    assert f"not sure: {first} or {second}" in html(demo.results)
    assert "% sure" not in html(demo.results)
    assert "⚠" not in html(demo.results)  # said once, not again as a warning


def test_warnings_stand_in_the_card_and_in_the_table(demo):
    hiss = 0.05 * np.random.default_rng(0).standard_normal(SR // 2)
    warnings = demo.add("hiss.wav", encode(hiss)).warnings
    assert [text.split(":")[0] for text in warnings] == ["Too short", "No speech found"]
    for text in warnings:
        assert f"⚠ {text}" in html(demo.results)
        assert text in demo.table.value


@pytest.mark.parametrize("content", [b"", b"not audio", HAPPY[:30], encode(np.zeros(SR))],
                         ids=["empty", "text", "header", "silence"])  # fmt: skip
def test_a_bad_file_says_why_and_the_others_go_on(demo, content):
    demo.upload.value = (uploaded("bad.wav", content), uploaded("good.wav", HAPPY))
    assert demo.upload.value == ()  # ready for the same files again
    good, bad = demo.results.children
    assert "Cannot use this file" in html(bad) and "bad.wav" in html(bad)
    assert "Cannot use this file" not in html(good)
    assert list(demo.clips["file"]) == ["bad.wav", "good.wav"]
    assert demo.clips["error"].iloc[0] and not demo.clips["error"].iloc[1]
    assert "2 recordings, 1 of them unusable." in demo.status.value


def test_a_recording_above_the_limit_is_refused_unread(demo):
    assert demo.add("large.wav", bytes(MAX_UPLOAD_MB * 10**6 + 1)) is None
    assert f"expected at most {MAX_UPLOAD_MB} MB" in html(demo.results)


@pytest.mark.parametrize("content", [HAPPY, b"not audio"], ids=["good", "bad"])
def test_a_file_name_never_becomes_html(demo, content):
    demo.add(EVIL, content)
    tags, texts = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = texts.append
    parser.feed(html(demo))
    assert not [tag for tag, attributes in tags if "onerror" in attributes or attributes.get("src") == "x"]
    assert "".join(texts).count(EVIL) >= 2  # in the card and in the table, as it is called
    assert saved(demo)["file"][0] == EVIL


def test_the_download_is_the_table_of_the_session(demo):
    assert demo.download.value == ""
    demo.add("happy.wav", HAPPY)
    demo.add('odd, "name"\n.wav', HAPPY)
    demo.add("bad.wav", b"")
    table = saved(demo)
    assert list(table.columns) == list(demo.clips.columns)
    assert list(table["file"]) == ["happy.wav", 'odd, "name"\n.wav', "bad.wav"]
    assert float(table["confidence"][0]) == pytest.approx(demo.clips["confidence"][0], abs=1e-9)
    assert demo.table.value.count("<tr>") == 4  # with the head


def test_clear_forgets_everything(demo):
    demo.add("happy.wav", HAPPY)
    forgotten = list(walk(demo.results.children[0]))
    demo.clear.click()
    assert (demo.results.children, demo.table.value, demo.download.value) == ((), "", "")
    assert demo.clips.empty
    assert all(part.comm is None for part in forgotten)  # closed: the kernel lets go of the bytes
    demo.add("happy.wav", HAPPY)
    assert len(demo.clips) == 1


def test_nothing_is_written_to_disk(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo.add("happy.wav", HAPPY)
    assert list(tmp_path.iterdir()) == []


def test_the_dialog_offers_sound_and_the_limit_is_written_on_the_page(demo):
    assert demo.upload.accept == ACCEPT and ACCEPT.startswith("audio/*")
    assert demo.upload.multiple
    assert f"At most {MAX_UPLOAD_MB} MB" in html(demo)


def test_the_shipped_server_config_lets_such_an_upload_through():
    c = SimpleNamespace(ServerApp=SimpleNamespace())
    runpy.run_path(str(ROOT / "notebooks" / "jupyter_server_config.py"), {"get_config": lambda: c})
    assert c.ServerApp.tornado_settings["websocket_max_message_size"] > 1.5 * MAX_UPLOAD_MB * 10**6


def test_the_shipped_weights_are_the_default():
    if PRETRAINED.exists():
        assert build_demo().add("happy.wav", HAPPY).label in EMOTIONS
    else:
        with pytest.raises(ConfigError, match="No checkpoint"):
            build_demo()


def test_a_snapshot_shows_the_cards_without_a_kernel(demo):
    demo.add("<b>a.wav", encode(synthesize("happy")))
    html = demo.snapshot()
    assert "&lt;b&gt;a.wav" in html and "<b>a.wav" not in html
    assert html.count("<img ") == 1 and "<audio" not in html
    assert "1 recording." in html
