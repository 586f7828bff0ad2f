"""What the demo does without a browser: uploads, recordings, live; cards, table, download; names that stay names."""

import base64
import gc
import io
import json
import re
import tracemalloc
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from string import Formatter

import ipywidgets
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from traitlets import TraitError
from typer.testing import CliRunner

from sercore import live, settings, widgets
from sercore.card import Player
from sercore.cli import app
from sercore.corpora.synthetic import SR, synthesize
from sercore.errors import AudioError, ConfigError
from sercore.labels import COLORS, EMOTIONS
from sercore.models import build_model, save_checkpoint
from sercore.pieces import WORDS
from sercore.predict import Doubt, Predictor, predict_emotion
from sercore.widgets import MAX_UPLOAD_MB, build_demo

EVIL = """<img src=x onerror="alert('1')">&.wav"""


def encode(y, *, sr=SR, format="WAV"):
    file = io.BytesIO()
    sf.write(file, y, sr, format=format)
    return file.getvalue()


VOICE = np.tile(synthesize("happy"), 2)[: 2 * SR]
HAPPY = encode(synthesize("happy"))
HISS = (0.05 * np.random.default_rng(0).standard_normal(SR)).astype(np.float32)


def make_predictor(folder, temperature):
    torch.manual_seed(0)
    path = save_checkpoint(folder / "untrained.safetensors", build_model("cnn"), name="cnn", temperature=temperature)
    return Predictor(path)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    return make_predictor(tmp_path_factory.mktemp("sure"), 1e-3)


@pytest.fixture
def demo(predictor):
    demo = build_demo(predictor)
    demo.explanation.value = False  # it takes most of the time, and one test looks at it
    return demo


def walk(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from walk(child)


def html(widget):
    return "".join(part.value for part in walk(widget) if isinstance(part, ipywidgets.HTML))


def saved(demo):
    """What a click on the download link would save."""
    data = re.search(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', demo.download.value).group(1)
    return pd.read_csv(io.BytesIO(base64.b64decode(data)), keep_default_na=False)


def test_a_card_holds_player_bars_and_verdict(demo, predictor):
    prediction = demo.add("happy.wav", HAPPY)
    (card,) = demo.results.children
    player = card.player
    played, sr = sf.read(io.BytesIO(player.sound), dtype="float32")
    assert sr == SR and played == pytest.approx(predictor.load(io.BytesIO(HAPPY)), abs=1e-4)  # what the network heard
    text = unescape(html(card))
    verdict = f"{prediction.label}, {100 * prediction.confidence:.0f}\u00a0% sure"
    assert verdict in re.sub("<[^>]*>", "", text) and f"answered by {prediction.network}" in text
    words = " ".join(re.sub("<[^>]*>", " ", text).split())
    for emotion, share in prediction.probabilities.items():
        assert f"{emotion} {100 * share:.0f} %" in words.replace("\u00a0", " ") and COLORS[emotion] in text


def test_the_browser_gets_small_numbers_to_draw(demo, predictor):
    demo.add("long.wav", encode(np.tile(VOICE, 10)))
    player = demo.results.children[0].player
    about, config = player.about, predictor.config
    levels = np.frombuffer(player.levels, np.uint8).reshape(config.n_mels, -1)
    assert levels.shape[1] <= 1200 and about["n_mels"] == config.n_mels
    assert levels.shape[1] * about["column_s"] == pytest.approx(about["duration_s"], abs=2 * about["column_s"])
    assert (levels.min(), levels.max()) == (0, 255)
    lowest, highest = np.frombuffer(player.envelope, np.int8).reshape(2, -1)
    assert len(lowest) <= 1200 and max(-lowest.min(), highest.max()) == 127 and (lowest <= highest).all()
    (low, first), *_, (high, last) = about["marks"]
    assert (low, high) == (500, 4000) and 0 < first < last < 1
    assert about["verdict"].startswith(player.about["label"]) and "\u00a0" not in about["verdict"].strip()


def test_a_tone_stands_where_its_mark_is(predictor):
    demo = build_demo(predictor)
    demo.explanation.value = False
    demo.add("tone.wav", encode(0.3 * np.sin(2 * np.pi * 2000 * np.arange(SR) / SR)))
    player = demo.results.children[0].player
    levels = np.frombuffer(player.levels, np.uint8).reshape(64, -1)
    place = dict(map(tuple, player.about["marks"]))[2000]
    assert levels[:, 20].argmax() / 64 == pytest.approx(place, abs=0.02)


def ask(demo, monkeypatch, **message):
    """Press 'Ask about this part' in the newest card; give what it says of it."""
    player = demo.results.children[0].player
    browser = Browser(player, monkeypatch)
    browser.send({"kind": "part"} | message)
    assert browser.answers == [{"kind": "answered"}]
    return unescape(player.answer.value)


def test_a_part_is_answered_as_a_recording_of_its_own(demo, predictor, monkeypatch):
    y = np.concatenate([synthesize("happy"), synthesize("sad")])
    demo.add("two.wav", encode(y))
    expected = predictor.predict((demo.results.children[0].player.load()[SR : 2 * SR + SR // 2], SR))
    text = ask(demo, monkeypatch, start=1.0, end=2.5)
    assert "From 1.0 to 2.5 s alone" in text
    assert f"{expected.label}, {100 * expected.confidence:.0f}\u00a0% sure" in re.sub("<[^>]*>", "", text)
    assert text in unescape(html(demo.results)) and len(demo.clips) == 1  # in the card, under the verdict


def test_a_part_brings_its_own_doubts(demo, monkeypatch):
    demo.add("two.wav", encode(VOICE))
    assert "⚠ Too short: " in ask(demo, monkeypatch, start=0.0, end=0.5)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"start": 0.5, "end": 0.6}, "Too short a part, 0.10 s: expected at least 0.2 s."),
        ({"start": 1.0, "end": 0.5}, "Bad part from 1.0 to 0.5: expected two times from 0 to 2.0 s"),
        ({"start": -1, "end": 1}, "Bad part from -1 to 1"),
        ({"start": 0, "end": 99}, "Bad part from 0 to 99"),
        ({"start": 0, "end": float("nan")}, "Bad part from 0 to nan"),
        ({"start": "<b>0", "end": None}, "Bad part from '<b>0' to None"),
        ({}, "Bad part from None to None"),
    ],
)
def test_a_part_that_is_none_is_refused(demo, monkeypatch, message, said):
    demo.add("voice.wav", encode(VOICE))
    text = ask(demo, monkeypatch, **message)
    assert said in text and "ser-verdict" not in text
    assert "<b>" not in demo.results.children[0].player.answer.value


def test_a_silent_part_has_no_emotion(demo, monkeypatch):
    demo.add("pause.wav", encode(np.concatenate([VOICE, np.zeros(2 * SR)])))
    assert "silen" in ask(demo, monkeypatch, start=2.5, end=3.9).lower()


def test_what_the_browser_changes_is_not_what_is_asked_about(demo, monkeypatch):
    demo.add("voice.wav", encode(VOICE))
    player = demo.results.children[0].player
    before = ask(demo, monkeypatch, start=0.0, end=2.0)
    player.sound, player.about = b"nothing", {}
    assert ask(demo, monkeypatch, start=0.0, end=2.0) == before and demo.snapshot().count("<img ") == 1


def test_what_a_visitor_says_is_counted_and_kept_in_the_table(demo):
    first, second = (demo.add(name, HAPPY).label for name in ("a.wav", "b.wav"))
    newest, oldest = (card.player for card in demo.results.children)
    oldest.told = first
    newest.told = other = next(emotion for emotion in EMOTIONS if emotion != second)
    assert demo.clips["told"].to_list() == [first, other] == saved(demo)["told"].to_list()
    assert "1 of 2 right, as you say." in demo.status.value and f"<td>{other}</td>" in demo.table.value
    newest.told = ""
    assert demo.clips["told"].to_list() == [first, ""] and "1 of 1 right" in demo.status.value
    demo.add("bad.wav", b"")
    demo.clear.click()
    demo.clear.click()
    assert demo.clips["told"].to_list() == [first, "", ""] and "1 of 1 right" in demo.status.value


def test_only_an_emotion_can_be_told(demo):
    demo.add("a.wav", HAPPY)
    with pytest.raises(TraitError):
        demo.results.children[0].player.told = "=HYPERLINK()"
    assert demo.clips["told"].to_list() == [""]


def places(words):
    """Each key of a language, with the names in braces."""
    return {
        (part, key): sorted(name for _, name, *_ in Formatter().parse(text) if name)
        for part, texts in words.items()
        for key, text in texts.items()
    }


def test_both_languages_say_the_same():
    english, german = WORDS["en"], dict(WORDS["de"])
    german.pop("doubts")  # in English they are the library's, with numbers
    assert places(english) == places(german) and all(text for part in german.values() for text in part.values())
    same = {(part, key) for part in english for key in english[part] if english[part][key] == german[part][key]}
    assert len(same) < 15, same  # words such as Live and Hz
    assert set(EMOTIONS) < set(english["emotions"])


@pytest.mark.parametrize("name", ["microphone", "player", "upload"])
def test_a_script_has_no_words_of_its_own_and_none_is_missing(name):
    text = (Path(widgets.__file__).parent / f"{name}.js").read_text()
    used = set(re.findall(r"\bwords\.(\w+)", text)) | set(re.findall(r'get\("words"\)\.(\w+)', text))
    assert used and used <= set(WORDS["en"][name])
    assert re.findall(r'(?:textContent|say\()[ =:]*"[A-Za-z]{3,} ', text) == []


def test_a_german_page_speaks_german(predictor, monkeypatch):
    demo = build_demo(predictor, language="de")
    demo.explanation.value = False
    german = WORDS["de"]["emotions"]
    assert "Noch keine Aufnahme." in demo.status.value and demo.clear.description == "Leeren"
    assert demo.upload.words["choose"] == "Aufnahmen wählen" and "30 MB und 5 Minuten" in demo.upload.hint
    label = demo.add("happy.wav", HAPPY).label
    text = unescape(html(demo))
    assert f"{german[label]}, zu 100\u00a0% sicher" in re.sub("<[^>]*>", "", text) and "2,1 s" in text
    assert demo.clips["label"].to_list() == saved(demo)["label"].to_list() == [label]  # data stay as they are
    demo.add("quiet.wav", encode(0.004 * synthesize("happy")[: SR // 2]))
    assert "⚠ Zu leise: näher am Mikrofon" in html(demo.results) and "Too " not in html(demo)
    assert "Zu kurz: " in demo.table.value
    demo.add("bad.wav", b"")
    assert 'unbrauchbar.</b> <span lang="en">' in html(demo.results)
    monkeypatch.setenv("SERCORE_LANGUAGE", "de")
    assert build_demo(predictor).clear.description == "Leeren"
    with pytest.raises(ConfigError, match=r"Bad language 'fr': expected one of \['en', 'de'\]"):
        build_demo(predictor, language="fr")


def test_below_one_half_the_verdict_names_two(tmp_path):
    demo = build_demo(make_predictor(tmp_path, 1.0))
    prediction = demo.add("happy.wav", HAPPY)
    first, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
    assert f"not sure: {first} or {second}" in html(demo.results)
    assert "% sure" not in html(demo.results)
    assert "⚠" not in html(demo.results)  # said once, not again as a warning


def test_warnings_stand_in_the_card_and_in_the_table(demo):
    warnings = demo.add("hiss.wav", encode(HISS[: SR // 2])).warnings
    assert [doubt.code for doubt in warnings] == ["short", "no_speech"]
    for doubt in warnings:
        assert f"⚠ {doubt.text}" in html(demo.results) and doubt.text in demo.table.value


@pytest.mark.parametrize("content", [b"", b"not audio", HAPPY[:30], encode(np.zeros(SR))],
                         ids=["empty", "text", "header", "silence"])  # fmt: skip
def test_a_bad_file_says_why_and_the_others_go_on(demo, content):
    assert demo.add("bad.wav", content) is None and demo.add("good.wav", HAPPY)
    good, bad = demo.results.children
    assert "Cannot use this file" in html(bad) and "bad.wav" in html(bad)
    assert "Cannot use this file" not in html(good)
    assert list(demo.clips["file"]) == ["bad.wav", "good.wav"]
    assert demo.clips["error"].iloc[0] and not demo.clips["error"].iloc[1]
    assert "2 recordings, 1 of them unusable." in demo.status.value


def test_a_recording_above_the_limit_is_refused_unread(predictor):
    demo = build_demo(predictor, max_upload_mb=1.5)
    assert demo.add("large.wav", bytes(1_500_001)) is None
    assert "Too large: large.wav has 2 MB, expected at most 1.5 MB" in html(demo.results)
    assert (
        "1.5 MB and 5 minutes each" in demo.upload.hint and demo.upload.max_mb == 1.5
    )  # told before, and known to the browser


@pytest.mark.parametrize("option", ["max_upload_mb", "max_clips"])
def test_a_limit_that_lets_nothing_through_is_refused(predictor, option):
    with pytest.raises(ConfigError, match=f"Bad {option} 0: expected a number above 0"):
        build_demo(predictor, **{option: 0})


class Browser:
    """Talks to a widget as its JavaScript does, and keeps the answers."""

    def __init__(self, widget, monkeypatch):
        self.widget, self.answers = widget, []
        monkeypatch.setattr(widget, "send", lambda content, buffers=None: self.answers.append(content))

    def send(self, message, data=b""):
        self.widget._handle_custom_msg(message, [memoryview(data)])


def test_a_file_comes_in_parts_and_each_is_acknowledged(demo, monkeypatch):
    browser = Browser(demo.upload, monkeypatch)
    third = len(HAPPY) // 3
    for offset, end in ((0, third), (third, 2 * third), (2 * third, len(HAPPY))):
        assert demo.clips.empty
        browser.send({"name": "parts.wav", "size": len(HAPPY), "offset": offset}, HAPPY[offset:end])
    assert browser.answers == 3 * [{"kind": "arrived"}]
    assert demo.clips[["file", "error"]].to_numpy().tolist() == [["parts.wav", ""]]


def test_a_file_with_a_gap_is_refused_and_the_next_one_is_whole_again(demo, monkeypatch):
    browser = Browser(demo.upload, monkeypatch)
    head = {"name": "gap.wav", "size": len(HAPPY)}
    browser.send(head | {"offset": 0}, HAPPY[:1000])
    browser.send(head | {"offset": 2000}, HAPPY[2000:])
    assert demo.clips["error"][0].startswith("Incomplete: gap.wav arrived with a gap. Choose it again")
    browser.send(head | {"offset": 0}, HAPPY)
    assert demo.clips["error"][1] == ""


def test_a_file_that_the_browser_kept_back_gets_its_card(demo, monkeypatch):
    browser = Browser(demo.upload, monkeypatch)
    browser.send({"name": "film.mp4", "size": 700 * 10**6, "offset": 0})
    assert f"Too large: film.mp4 has 700 MB, expected at most {MAX_UPLOAD_MB} MB." in html(demo.results)
    assert browser.answers == [{"kind": "arrived"}]


def test_a_recording_of_the_microphone_is_answered_like_a_file(demo, predictor):
    demo.microphone.recording = memoryview(HAPPY)  # as it arrives
    demo.microphone.recording = HAPPY
    assert list(demo.clips["file"]) == ["microphone-1.wav", "microphone-2.wav"]
    assert demo.clips["confidence"][0] == pytest.approx(predictor.predict(io.BytesIO(HAPPY)).confidence, abs=1e-6)
    assert demo.microphone.recording == b""  # the card has it


def test_live_answers_every_second_as_the_predictor_does(demo, predictor):
    seconds = VOICE.reshape(2, SR)
    for second in seconds:
        demo.microphone.listen(second)
    expected = [predictor.predict((seconds[:1].ravel(), SR)), predictor.predict((seconds.ravel(), SR))]
    assert demo.live.heard[["start_s", "end_s"]].to_numpy().tolist() == [[0, 1], [0, 2]]
    assert list(demo.live.heard["label"]) == [answer.label for answer in expected]
    assert demo.live.heard["confidence"].to_numpy() == pytest.approx(
        [answer.confidence for answer in expected], abs=1e-6
    )
    shown = html(demo.live)
    means = pd.DataFrame([answer.probabilities for answer in expected]).mean()
    verdict = f"{means.idxmax()}, {100 * means.max():.0f}\u00a0% sure"  # of both, or it would flicker
    assert verdict in re.sub("<[^>]*>", "", unescape(shown)) and COLORS[means.idxmax()] in shown
    assert f'alt="Emotion over time, live: {expected[0].label} until ' in shown
    assert demo.clips.empty  # live is not kept


@pytest.mark.parametrize("sound", [np.zeros(SR, np.float32), HISS], ids=["silence", "hiss"])
def test_live_no_voice_has_no_emotion(demo, sound):
    demo.microphone.listen(sound)
    assert list(demo.live.heard["label"]) == ["silence"]
    assert demo.live.heard[list(EMOTIONS)].isna().all(axis=None)
    assert "silence" in html(demo.live) and "%" not in re.sub("<[^>]*>", "", html(demo.live))


def test_live_small_pieces_make_one_answer_a_second_and_skipped_sound_is_time(demo):
    for piece in np.split(VOICE, 20):
        demo.microphone.listen(piece)
    assert demo.live.heard["end_s"].to_list() == pytest.approx([1, 2])
    demo.microphone.listen(VOICE[:SR], skipped_s=10)
    assert demo.live.heard[["start_s", "end_s"]].iloc[-1].to_list() == pytest.approx([12, 13])  # no window over the gap
    demo.microphone.listen(VOICE[:SR], anew=True)
    assert demo.live.heard["end_s"].to_list() == [1]


def growth(action, settled, turns):
    """Bytes by which memory grows per turn, once the first ones are over."""
    tracemalloc.start()
    for turn in range(turns):
        action(turn)
        if turn == settled:
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / (turns - 1 - settled)


@pytest.mark.slow
def test_live_keeps_no_more_than_it_shows(demo, monkeypatch):
    monkeypatch.setattr(live, "LIVE_WINDOWS", 3)
    demo.microphone.listen(np.zeros(SR, np.float32), anew=True)

    def hear(second):
        demo.microphone.listen(np.zeros(SR, np.float32))

    assert growth(hear, 4, 13) < 5_000  # of the 64,000 bytes that a second brings
    assert demo.live.heard["end_s"].to_list() == [12, 13, 14]


def test_live_sound_of_the_browser_is_heard_and_bad_sound_is_told(demo, monkeypatch):
    browser = Browser(demo.microphone, monkeypatch)
    message = {"sr": 48_000, "anew": True, "skipped_s": 0}
    browser.send(message, synthesize("sad", sr=48_000)[:48_000].astype("<f4").tobytes())
    assert demo.live.heard["end_s"].to_list() == [1] and browser.answers == [{"kind": "heard"}]
    browser.send(message, np.full(9, np.nan, "<f4").tobytes())
    error, heard = browser.answers[1:]
    assert error["kind"] == "error" and "Bad live samples" in error["text"]
    assert heard == {"kind": "heard"}  # and the browser goes on


@pytest.mark.parametrize(
    ("samples", "sr", "message"),
    [
        (np.zeros((2, 9)), SR, r"float64 of shape \(2, 9\): expected finite floating point, mono"),
        (np.zeros(9, np.int16), SR, r"int16 of shape \(9,\)"),
        (np.zeros(9), 0, "Bad rate 0 Hz of live audio: expected 4000 to 384000 Hz"),
    ],
)
def test_live_samples_that_are_none_are_refused(demo, samples, sr, message):
    with pytest.raises(AudioError, match=message):
        demo.microphone.listen(samples, sr=sr)


def test_only_a_longer_recording_has_a_timeline_and_pauses_are_silence(demo):
    demo.add("short.wav", HAPPY)
    assert demo.results.children[0].player.timeline == []
    pause = np.zeros(4 * SR, np.float32)
    demo.add("long.wav", encode(np.concatenate([VOICE, pause, VOICE])))
    player = demo.results.children[0].player
    said = player.spoken.removeprefix("Emotion over time in long.wav: ")
    labels = [span.split(" until ")[0] for span in said.split(", ")]
    assert labels.count("silence") == 1 and labels == [label for *_, label in player.timeline]
    starts, ends = zip(*((start, end) for start, end, _ in player.timeline), strict=True)
    assert starts == (0, *ends[:-1]) and ends[-1] == pytest.approx(8, abs=0.01)
    (first, last) = player.timeline[labels.index("silence")][:2]
    assert 1.5 < first < 3.5 < last < 6.5


def test_the_card_says_what_the_network_listened_to_unless_it_is_switched_off(predictor):
    demo = build_demo(predictor)
    label = demo.add("happy.wav", HAPPY).label
    demo.explanation.value = False
    demo.add("again.wav", HAPPY)
    without, with_it = (card.player for card in demo.results.children)
    assert without.shares == b"" and len(with_it.shares) == len(with_it.levels)
    shares = np.frombuffer(with_it.shares, np.uint8)
    assert shares.max() == 255 and (shares == 0).any()
    assert f"voice that spoke most for “{label}”" in with_it.picture() and "spoke most" not in without.picture()


def test_old_cards_close_and_stay_in_the_table(predictor, monkeypatch):
    demo = build_demo(predictor, max_clips=2)
    demo.explanation.value = False
    for name in ("a.wav", "b.wav"):
        demo.add(name, HAPPY)
    oldest = list(walk(demo.results.children[-1]))
    demo.add("c.wav", HAPPY)
    assert [card.row["file"] for card in demo.results.children] == ["c.wav", "b.wav"]
    assert all(part.comm is None for part in oldest)
    assert list(saved(demo)["file"]) == ["a.wav", "b.wav", "c.wav"]
    said = " ".join(demo.status.value.split())
    assert "3 recordings. The newest 2 have their cards below; the table has all." in said
    monkeypatch.setattr(widgets, "MAX_KEPT_MB", 0)
    demo.add("d.wav", HAPPY)
    assert len(demo.results.children) == 1  # the newest is shown, whatever it weighs


def test_a_closed_card_leaves_no_widget_behind(demo):
    n_before = len(ipywidgets.widgets.widget._instances)
    demo.add("happy.wav", HAPPY)
    demo.microphone.listen(VOICE[:SR])
    assert len(ipywidgets.widgets.widget._instances) > n_before
    (remove,) = (part for part in walk(demo.results) if getattr(part, "description", "") == "Remove")
    remove.click()
    assert len(ipywidgets.widgets.widget._instances) == n_before
    assert demo.results.children == () and demo.clips.empty


@pytest.mark.slow
def test_a_long_session_does_not_fill_the_memory(predictor):
    demo = build_demo(predictor, max_clips=3)
    demo.explanation.value = False
    assert growth(lambda turn: demo.add(f"{turn}.wav", HAPPY), 8, 24) < 10_000  # its row in the table


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
    demo.microphone.listen(VOICE[:SR])
    demo.clear.click()
    assert (demo.results.children, demo.table.value, demo.download.value) == ((), "", "")
    assert demo.live.layout.display == "none" and demo.live.heard.empty
    assert demo.clips.empty
    demo.add("happy.wav", HAPPY)
    assert len(demo.clips) == 1
    assert all(part.comm is None for part in forgotten)  # closed: the kernel lets go of the bytes


def test_clear_can_be_undone_until_something_new_comes(demo):
    demo.add("happy.wav", HAPPY)
    shown = demo.results.children, demo.table.value
    demo.clear.click()
    assert demo.clear.description == "Undo" and demo.clips.empty
    demo.clear.click()
    assert (demo.results.children, demo.table.value) == shown and demo.clear.description == "Clear"


def test_the_verdict_yields_to_its_doubts(demo, monkeypatch):
    demo.add("hum.wav", encode(HISS))
    assert "no speech found" in html(demo.results) and "% sure" not in html(demo.results)
    monkeypatch.setattr(demo._predictor, "predict", unlike(demo._predictor.predict))
    label = demo.add("whisper.wav", HAPPY).label
    text = html(demo.results.children[0])
    assert f"sounds {label}, but this is unlike anything it knows" in text and "% sure" not in text
    assert text.index("ser-verdict") < text.index("ser-doubt") < text.index("ser-bars")


def unlike(predict):
    doubt = Doubt("unlike", "Unlike the training data.")
    return lambda recording: replace(predict(recording), warnings=(doubt,))


def test_all_of_a_queue_is_answered_before_anything_is_explained(predictor, monkeypatch):
    demo, said = build_demo(predictor), []
    monkeypatch.setattr(Player, "explain", lambda player: said.append((len(demo.clips), player.about["name"])))
    for waiting in (1, 0):
        message = {"name": f"{waiting}.wav", "size": len(HAPPY), "offset": 0, "waiting": waiting}
        demo.upload._handle_custom_msg(message, [HAPPY])
    assert said == [(2, "1.wav"), (2, "0.wav")]


def test_an_example_is_one_click_away_with_data_and_without(predictor, monkeypatch, tmp_path):
    for folder, words in ((settings.samples_dir(), "Real speech"), (tmp_path / "none", "Synthetic speech")):
        monkeypatch.setenv("SERCORE_SAMPLES", str(folder))
        demo = build_demo(predictor)
        demo.explanation.value = False
        buttons = [part for part in walk(demo) if getattr(part, "description", "") in EMOTIONS]
        assert [button.description for button in buttons] == list(EMOTIONS) and words in html(demo)
        buttons[4].click()
        assert demo.clips["file"].to_list() == ["example-angry.flac"] and demo.clips["error"].to_list() == [""]


def test_the_other_network_is_one_click_away():
    demo = build_demo()
    demo.add("happy.wav", HAPPY)
    (ask,) = (part for part in walk(demo.results) if getattr(part, "description", "") == "Ask ravdess as well")
    ask.click()
    expected = Predictor("ravdess").predict(io.BytesIO(HAPPY))
    assert f"{expected.network} answers" in html(demo.results) and expected.label in html(demo.results)


@pytest.mark.parametrize("name", ["=1+1.wav", "+cmd.wav", "-2.wav", "@SUM(1).wav", "\t=1.wav"])
def test_a_spreadsheet_takes_no_name_for_a_formula(demo, name):
    demo.add(name, b"not audio")
    data = re.search(r'base64,([^"]+)"', demo.download.value).group(1)
    assert base64.b64decode(data).startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    assert saved(demo)["file"][0] == f"'{name}"


def test_nothing_is_written_to_disk(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo.add("happy.wav", HAPPY)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_gets_the_same_probabilities_by_every_way(tmp_path):
    path = tmp_path / "happy.wav"
    path.write_bytes(HAPPY)
    demo = build_demo()
    demo.explanation.value = False
    demo.upload._handle_custom_msg({"name": "happy.wav", "size": len(HAPPY), "offset": 0}, [HAPPY])
    demo.microphone.recording = HAPPY
    said = json.loads(CliRunner().invoke(app, ["predict", str(path), "--json"]).output)
    ways = {
        "upload": demo.clips.iloc[0], "microphone": demo.clips.iloc[1], "command line": said[0],
        "Python": predict_emotion(path).probabilities, "waveform": predict_emotion(sf.read(path)).probabilities,
        "table": next(Predictor().predict_files([path])),
    }  # fmt: skip
    shares = np.array([[row[emotion] for emotion in EMOTIONS] for row in ways.values()], dtype=float)
    np.testing.assert_allclose(shares, np.tile(shares[0], (len(ways), 1)), atol=1e-6)


def test_by_default_a_visitor_chooses_between_the_shipped_networks():
    demo = build_demo()
    demo.explanation.value = False
    demo.add("happy.wav", HAPPY)
    demo.variant.value = "ravdess"
    demo.add("happy.wav", HAPPY)
    assert demo.clips["model"].tolist() == ["any_voice", "ravdess"]
    for name, confidence in zip(("any_voice", "ravdess"), demo.clips["confidence"], strict=True):
        assert confidence == pytest.approx(Predictor(name).predict(io.BytesIO(HAPPY)).confidence, abs=1e-6)
    assert "any_voice" in demo.table.value and "ravdess" in demo.table.value


def test_a_snapshot_shows_the_cards_without_a_kernel(demo):
    demo.add("<b>a.wav", encode(synthesize("happy")))
    html = demo.snapshot()
    assert "&lt;b&gt;a.wav" in html and "<b>a.wav" not in html
    assert html.count("<img ") == 1 and "<audio" not in html
    png = base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', html).group(1))
    assert png.startswith(b"\x89PNG")
    assert 'alt="Waveform and log-mel spectrogram of &lt;b&gt;a.wav"' in html
    assert "1 recording." in html
    demo.add("long.wav", encode(np.tile(VOICE, 3)))
    assert 'alt="Emotion over time in long.wav: ' in demo.snapshot()
