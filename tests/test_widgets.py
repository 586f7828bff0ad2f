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
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from typer.testing import CliRunner

from sercore import live, settings, widgets
from sercore.card import Answered
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


class Page:
    """What the page shows: it takes the messages of a demo as page.js does, and sends as it does."""

    def __init__(self, demo, *, explains=False):
        self.demo, self.cards, self.answers = demo, {}, []
        self.status = self.table = self.csv = self.live = self.state = ""
        demo.send, demo.explains = self.receive, explains  # an explanation takes most of the time
        self.send("hello")

    def send(self, kind, data=b"", **values):
        self.demo._handle_custom_msg({"kind": kind, **values}, [memoryview(data)])

    def receive(self, message, buffers):
        match message:
            case {"kind": "card", "card": number}:
                shown = {"bars": "", "other": "", "part": "", "about": None} | message
                self.cards.setdefault(number, SimpleNamespace(**shown, buffers=list(buffers)))
            case {"kind": "close", "card": number}:
                del self.cards[number]
            case {"kind": "clear"}:
                self.cards.clear()
                self.live = ""
            case {"kind": "more", "card": number}:
                self.cards[number].__dict__.update(message)
                self.cards[number].buffers[3:] = buffers
            case {"kind": "part" | "other" as kind, "card": number, "html": html}:
                setattr(self.cards[number], kind, html)
            case {"kind": "table"}:
                self.table, self.csv, self.state = message["html"], message["csv"], message["state"]
            case {"kind": "options", "network": network, "explains": explains}:
                self.options = (network, explains)
            case {"kind": "status" | "live" as kind, "html": html}:
                setattr(self, kind, html)
            case _:
                self.answers.append(message)

    @property
    def newest(self):
        return self.cards[max(self.cards)]

    @property
    def html(self):
        """All that is shown, but for the players."""
        cards = [card.head + card.other + card.part + card.bars for _, card in sorted(self.cards.items(), reverse=True)]
        return "".join([self.status, self.live, *cards, self.table])

    @property
    def text(self):
        return plain(self.html)

    def ask(self, **part):
        """Ask about a part of the newest card; give what it says of it."""
        self.send("part", card=self.newest.card, **part)
        return unescape(self.newest.part)

    def saved(self):
        """What a click on the download link would save."""
        return pd.read_csv(io.BytesIO(base64.b64decode(self.csv.split(",", 1)[1])), keep_default_na=False)


def plain(html):
    """HTML without its tags, each space plain."""
    return " ".join(re.sub("<[^>]*>", " ", re.sub("</?(span|b|bdi)[^>]*>", "", unescape(html))).split())


@pytest.fixture
def page(predictor):
    return Page(build_demo(predictor))


@pytest.fixture
def demo(page):
    return page.demo


def test_a_card_holds_player_bars_and_verdict(page, demo, predictor):
    prediction = demo.add("happy.wav", HAPPY)
    (card,) = page.cards.values()
    played, sr = sf.read(io.BytesIO(card.buffers[0]), dtype="float32")
    assert sr == SR and played == pytest.approx(predictor.load(io.BytesIO(HAPPY)), abs=1e-4)  # what the network heard
    assert f"{prediction.label}, {100 * prediction.confidence:.0f} % sure" in plain(card.head)
    assert f"answered by {prediction.network}" in plain(card.head)
    for emotion, share in prediction.probabilities.items():
        assert f"{emotion} {100 * share:.0f} %" in plain(card.bars) and COLORS[emotion] in card.bars


def test_the_browser_gets_small_numbers_to_draw(page, demo, predictor):
    demo.add("long.wav", encode(np.tile(VOICE, 10)))
    _, envelope, levels, _ = page.newest.buffers
    about, config = page.newest.about, predictor.config
    levels = np.frombuffer(levels, np.uint8).reshape(config.n_mels, -1)
    assert levels.shape[1] <= 1200 and about["n_mels"] == config.n_mels
    assert levels.shape[1] * about["column_s"] == pytest.approx(about["duration_s"], abs=2 * about["column_s"])
    assert (levels.min(), levels.max()) == (0, 255)
    lowest, highest = np.frombuffer(envelope, np.int8).reshape(2, -1)
    assert len(lowest) <= 1200 and max(-lowest.min(), highest.max()) == 127 and (lowest <= highest).all()
    (low, first), *_, (high, last) = about["marks"]
    assert (low, high) == (500, 4000) and 0 < first < last < 1
    assert about["verdict"].startswith(about["label"]) and "\u00a0" not in about["verdict"].strip()


def test_a_tone_stands_where_its_mark_is(page, demo):
    demo.add("tone.wav", encode(0.3 * np.sin(2 * np.pi * 2000 * np.arange(SR) / SR)))
    levels = np.frombuffer(page.newest.buffers[2], np.uint8).reshape(64, -1)
    place = dict(map(tuple, page.newest.about["marks"]))[2000]
    assert levels[:, 20].argmax() / 64 == pytest.approx(place, abs=0.02)


def test_a_part_is_answered_as_a_recording_of_its_own(page, demo, predictor):
    demo.add("two.wav", encode(np.concatenate([synthesize("happy"), synthesize("sad")])))
    heard = sf.read(io.BytesIO(page.newest.buffers[0]), dtype="float32")[0]
    expected = predictor.predict((heard[SR : 2 * SR + SR // 2], SR))
    text = plain(page.ask(start=1.0, end=2.5))
    assert "From 1.0 to 2.5 s alone" in text
    assert f"{expected.label}, {100 * expected.confidence:.0f} % sure" in text
    assert text in plain(demo.snapshot()) and len(demo.clips) == 1  # in the card, under the verdict


def test_a_part_brings_its_own_doubts(page, demo):
    demo.add("two.wav", encode(VOICE))
    assert "⚠ Too short: " in page.ask(start=0.0, end=0.5)


@pytest.mark.parametrize(
    ("part", "said"),
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
def test_a_part_that_is_none_is_refused(page, demo, part, said):
    demo.add("voice.wav", encode(VOICE))
    text = page.ask(**part)
    assert said in text and "ser-verdict" not in text
    assert "<b>" not in page.newest.part


def test_a_silent_part_has_no_emotion(page, demo):
    demo.add("pause.wav", encode(np.concatenate([VOICE, np.zeros(2 * SR)])))
    assert "silen" in page.ask(start=2.5, end=3.9).lower()


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"kind": "nothing"},
        {"kind": "example", "emotion": "../secret"},
        {"kind": "example", "emotion": ["happy"]},
        {"kind": "network", "name": "/etc/passwd"},
        {"kind": "told", "card": 10**9, "emotion": "happy"},
        {"kind": "part", "card": "0", "start": 0, "end": 1},
        {"kind": "recording", "sr": 0},
        {"kind": "undo"},
    ],
    ids=str,
)
def test_a_message_that_is_none_changes_nothing(page, demo, message):
    demo.add("voice.wav", HAPPY)
    before = page.html
    demo._handle_custom_msg(message, [])
    demo.page = {}  # what is synchronised, a browser can change
    assert page.html == before and page.ask(start=0.0, end=1.0).count("ser-verdict") == 1


def test_what_a_visitor_says_is_counted_and_kept_in_the_table(page, demo):
    first, second = (demo.add(name, HAPPY).label for name in ("a.wav", "b.wav"))
    oldest, newest = page.cards
    other = next(emotion for emotion in EMOTIONS if emotion != second)
    page.send("told", card=oldest, emotion=first)
    page.send("told", card=newest, emotion=other)
    assert demo.clips["told"].to_list() == [first, other] == page.saved()["told"].to_list()
    assert "1 of 2 right, as you say." in page.status and f"<td>{other}</td>" in page.table
    page.send("told", card=newest, emotion="")
    assert demo.clips["told"].to_list() == [first, ""] and "1 of 1 right" in page.status
    demo.add("bad.wav", b"")
    page.send("clear")
    page.send("undo")
    assert demo.clips["told"].to_list() == [first, "", ""] and "1 of 1 right" in page.status
    assert [card.told for card in page.cards.values()] == [first, "", ""]


def test_only_an_emotion_can_be_told(page, demo):
    demo.add("a.wav", HAPPY)
    page.send("told", card=page.newest.card, emotion="=HYPERLINK()")
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
    german.pop("doubts"), german.pop("errors")  # in English they are the library's, with numbers
    assert places(english) == places(german) and all(text for part in german.values() for text in part.values())
    same = {(part, key) for part in english for key in english[part] if english[part][key] == german[part][key]}
    assert len(same) < 15, same  # words such as Live and Hz
    assert set(EMOTIONS) < set(english["emotions"])


@pytest.mark.parametrize("name", ["microphone", "page", "player", "upload"])
def test_a_script_has_no_words_of_its_own_and_none_is_missing(name):
    text = (Path(widgets.__file__).parent / f"{name}.js").read_text()
    used = set(re.findall(r"(?<!page\.)\bwords\.(\w+)", text))
    assert used and used <= set(WORDS["en"][name])
    for part, key in re.findall(r"page\.words\.(\w+)\.(\w+)", text):
        assert key in WORDS["en"][part]
    assert re.findall(r'(?:textContent|say\()[ =:]*"[A-Za-z]{3,} ', text) == []


def test_a_german_page_speaks_german(predictor, monkeypatch):
    page = Page(demo := build_demo(predictor, language="de"))
    german, words = WORDS["de"]["emotions"], demo.page["words"]
    assert "Noch keine Aufnahme." in page.status and words["page"]["clear"] == "Leeren"
    assert words["upload"]["choose"] == "Aufnahmen wählen" and "30 MB und 5 Minuten" in demo.page["hint"]
    label = demo.add("happy.wav", HAPPY).label
    assert f"{german[label]}, zu 100 % sicher" in page.text and "2,1 s" in page.text
    assert demo.clips["label"].to_list() == page.saved()["label"].to_list() == [label]  # data stay as they are
    demo.add("quiet.wav", encode(0.004 * synthesize("happy")[: SR // 2]))
    assert "⚠ Zu leise: näher am Mikrofon" in page.text and "Too " not in page.text
    assert "Zu kurz: " in page.table
    demo.add("bad.wav", b"")
    assert 'unbrauchbar.</b> Leer: Die Datei enthält keinen Ton. <span lang="en">' in page.html
    monkeypatch.setenv("SERCORE_LANGUAGE", "de")
    assert build_demo(predictor).page["words"]["page"]["clear"] == "Leeren"
    with pytest.raises(ConfigError, match=r"Bad language 'fr': expected one of \['en', 'de'\]"):
        build_demo(predictor, language="fr")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"not audio", "Nicht lesbar"),
        (HAPPY[:44], "Leer"),
        (HAPPY[:9000], "Abgebrochen"),
        (encode(np.zeros(SR)), "Stille"),
        (encode(np.stack([VOICE, -VOICE], axis=1)), "Die Kanäle"),
        (encode(np.zeros(SR * 301, np.float32)), "Zu lang"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_german_page_says_in_german_why_a_file_cannot_be_used(predictor, content, said):
    page = Page(build_demo(predictor, language="de"))
    page.demo.add("bad.wav", content)
    assert f"unbrauchbar. {said}" in plain(page.newest.head)


def test_below_one_half_the_verdict_names_two(tmp_path):
    page = Page(build_demo(make_predictor(tmp_path, 1.0)))
    prediction = page.demo.add("happy.wav", HAPPY)
    first, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
    assert f"not sure: {first} or {second}" in page.text
    assert "% sure" not in page.text
    assert "⚠" not in page.text  # said once, not again as a warning


def test_warnings_stand_in_the_card_and_in_the_table(page, demo):
    warnings = demo.add("hiss.wav", encode(HISS[: SR // 2])).warnings
    assert [doubt.code for doubt in warnings] == ["short", "no_speech"]
    for doubt in warnings:
        assert f"⚠ {doubt.text}" in page.newest.head and doubt.text in page.table


@pytest.mark.parametrize("content", [b"", b"not audio", HAPPY[:30], encode(np.zeros(SR))],
                         ids=["empty", "text", "header", "silence"])  # fmt: skip
def test_a_bad_file_says_why_and_the_others_go_on(page, demo, content):
    assert demo.add("bad.wav", content) is None and demo.add("good.wav", HAPPY)
    bad, good = page.cards.values()
    assert "Cannot use this file" in bad.head and "bad.wav" in bad.head and bad.buffers == []
    assert "Cannot use this file" not in good.head
    assert list(demo.clips["file"]) == ["bad.wav", "good.wav"]
    assert demo.clips["error"].iloc[0] and not demo.clips["error"].iloc[1]
    assert "2 recordings, 1 of them unusable." in page.status


def test_a_recording_above_the_limit_is_refused_unread(predictor):
    page = Page(build_demo(predictor, max_upload_mb=1.5))
    assert page.demo.add("large.wav", bytes(1_500_001)) is None
    assert "Too large: large.wav has 2 MB, expected at most 1.5 MB" in page.text
    told = page.demo.page  # before, and known to the browser
    assert "1.5 MB and 5 minutes each" in told["hint"] and told["max_mb"] == 1.5


@pytest.mark.parametrize("option", ["max_upload_mb", "max_clips"])
def test_a_limit_that_lets_nothing_through_is_refused(predictor, option):
    with pytest.raises(ConfigError, match=f"Bad {option} 0: expected a number above 0"):
        build_demo(predictor, **{option: 0})


def test_a_file_comes_in_parts_and_each_is_acknowledged(page, demo):
    third = len(HAPPY) // 3
    for offset, end in ((0, third), (third, 2 * third), (2 * third, len(HAPPY))):
        assert demo.clips.empty
        page.send("file", HAPPY[offset:end], name="parts.wav", size=len(HAPPY), offset=offset)
    assert page.answers == 3 * [{"kind": "arrived"}]
    assert demo.clips[["file", "error"]].to_numpy().tolist() == [["parts.wav", ""]]


def test_a_file_with_a_gap_is_refused_and_the_next_one_is_whole_again(page, demo):
    head = {"name": "gap.wav", "size": len(HAPPY)}
    page.send("file", HAPPY[:1000], offset=0, **head)
    page.send("file", HAPPY[2000:], offset=2000, **head)
    assert demo.clips["error"][0].startswith("Incomplete: gap.wav arrived with a gap. Choose it again")
    page.send("file", HAPPY, offset=0, **head)
    assert demo.clips["error"][1] == ""


def test_a_file_that_the_browser_kept_back_gets_its_card(page):
    page.send("file", name="film.mp4", size=700 * 10**6, offset=0)
    assert f"Too large: film.mp4 has 700 MB, expected at most {MAX_UPLOAD_MB} MB." in page.newest.head
    assert page.answers == [{"kind": "arrived"}]


def test_a_recording_of_the_microphone_is_answered_like_a_file(page, demo, predictor):
    y = sf.read(io.BytesIO(HAPPY), dtype="int16")[0]
    page.send("recording", y.tobytes(), sr=SR)
    demo.record(y / 2**15, sr=SR)
    assert list(demo.clips["file"]) == ["microphone-1.wav", "microphone-2.wav"]
    assert demo.clips["confidence"][0] == pytest.approx(predictor.predict(io.BytesIO(HAPPY)).confidence, abs=1e-6)


def test_live_answers_every_second_as_the_predictor_does(page, demo, predictor):
    seconds = VOICE.reshape(2, SR)
    for second in seconds:
        demo.listen(second)
    expected = [predictor.predict((seconds[:1].ravel(), SR)), predictor.predict((seconds.ravel(), SR))]
    assert demo.heard[["start_s", "end_s"]].to_numpy().tolist() == [[0, 1], [0, 2]]
    assert list(demo.heard["label"]) == [answer.label for answer in expected]
    assert demo.heard["confidence"].to_numpy() == pytest.approx([answer.confidence for answer in expected], abs=1e-6)
    means = pd.DataFrame([answer.probabilities for answer in expected]).mean()
    verdict = f"{means.idxmax()}, {100 * means.max():.0f} % sure"  # of both, or it would flicker
    assert verdict in plain(page.live) and COLORS[means.idxmax()] in page.live
    assert f'aria-label="Emotion over time, live: {expected[0].label} until ' in page.live
    assert demo.clips.empty  # live is not kept


@pytest.mark.parametrize("sound", [np.zeros(SR, np.float32), HISS], ids=["silence", "hiss"])
def test_live_no_voice_has_no_emotion(page, demo, sound):
    demo.listen(sound)
    assert list(demo.heard["label"]) == ["silence"]
    assert demo.heard[list(EMOTIONS)].isna().all(axis=None)
    assert "silence" in plain(page.live) and "%" not in plain(page.live)


def test_live_small_pieces_make_one_answer_a_second_and_skipped_sound_is_time(demo):
    for piece in np.split(VOICE, 20):
        demo.listen(piece)
    assert demo.heard["end_s"].to_list() == pytest.approx([1, 2])
    demo.listen(VOICE[:SR], skipped_s=10)
    assert demo.heard[["start_s", "end_s"]].iloc[-1].to_list() == pytest.approx([12, 13])  # no window over the gap
    demo.listen(VOICE[:SR], anew=True)
    assert demo.heard["end_s"].to_list() == [1]


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
    demo.listen(np.zeros(SR, np.float32), anew=True)
    assert growth(lambda _: demo.listen(np.zeros(SR, np.float32)), 4, 13) < 5_000  # of the 64,000 that a second brings
    assert demo.heard["end_s"].to_list() == [12, 13, 14]


def test_live_sound_of_the_browser_is_heard_and_bad_sound_is_told(page, demo):
    message = {"sr": 48_000, "anew": True, "skipped_s": 0}
    page.send("live", synthesize("sad", sr=48_000)[:48_000].astype("<f4").tobytes(), **message)
    assert demo.heard["end_s"].to_list() == [1] and page.answers == [{"kind": "heard"}]
    page.send("live", np.full(9, np.nan, "<f4").tobytes(), **message)
    error, heard = page.answers[1:]
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
        demo.listen(samples, sr=sr)


def test_only_a_longer_recording_has_a_timeline_and_pauses_are_silence(page, demo):
    demo.add("short.wav", HAPPY)
    assert page.newest.timeline == []
    pause = np.zeros(4 * SR, np.float32)
    demo.add("long.wav", encode(np.concatenate([VOICE, pause, VOICE])))
    timeline = page.newest.timeline
    said = page.newest.spoken.removeprefix("Emotion over time in long.wav: ")
    labels = [span.split(" until ")[0] for span in said.split(", ")]
    assert labels.count("silence") == 1 and labels == [label for *_, label in timeline]
    starts, ends = zip(*((start, end) for start, end, _ in timeline), strict=True)
    assert starts == (0, *ends[:-1]) and ends[-1] == pytest.approx(8, abs=0.01)
    first, last, _ = timeline[labels.index("silence")]
    assert 1.5 < first < 3.5 < last < 6.5


def test_the_card_says_what_the_network_listened_to_unless_it_is_switched_off(predictor):
    page = Page(demo := build_demo(predictor), explains=True)
    label = demo.add("happy.wav", HAPPY).label
    assert f"voice that spoke most for “{label}”" in demo.snapshot()
    page.send("explain", on=False)
    demo.add("again.wav", HAPPY)
    with_it, without = (card.buffers for card in page.cards.values())
    assert without[3] == b"" and len(with_it[3]) == len(with_it[2])
    shares = np.frombuffer(with_it[3], np.uint8)
    assert shares.max() == 255 and (shares == 0).any()
    assert demo.snapshot().count("spoke most") == 1


def test_old_cards_close_and_stay_in_the_table(predictor, monkeypatch):
    page = Page(demo := build_demo(predictor, max_clips=2))
    for name in ("a.wav", "b.wav", "c.wav"):
        demo.add(name, HAPPY)
    assert [card.name for card in page.cards.values()] == ["b.wav", "c.wav"]
    assert list(page.saved()["file"]) == ["a.wav", "b.wav", "c.wav"]
    assert "3 recordings. The newest 2 have their cards below; the table has all." in plain(page.status)
    monkeypatch.setattr(widgets, "MAX_KEPT_MB", 0)
    demo.add("d.wav", HAPPY)
    assert [card.name for card in page.cards.values()] == ["d.wav"]  # the newest is shown, whatever it weighs


def test_a_card_can_be_removed(page, demo):
    for name in ("a.wav", "b.wav"):
        demo.add(name, HAPPY)
    page.send("remove", card=min(page.cards))
    assert [card.name for card in page.cards.values()] == ["b.wav"] == demo.clips["file"].to_list()
    assert "a.wav" not in page.html


@pytest.mark.slow
def test_a_long_session_does_not_fill_the_memory(predictor):
    demo = build_demo(predictor, max_clips=3)
    demo.explains = False
    assert growth(lambda turn: demo.add(f"{turn}.wav", HAPPY), 8, 24) < 10_000  # its row in the table


@pytest.mark.parametrize("content", [HAPPY, b"not audio"], ids=["good", "bad"])
def test_a_file_name_never_becomes_html(page, demo, content):
    demo.add(EVIL, content)
    tags, texts = [], []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: tags.append((tag, dict(attributes)))
    parser.handle_data = texts.append
    parser.feed(page.html)
    assert not [tag for tag, attributes in tags if "onerror" in attributes or attributes.get("src") == "x"]
    assert "".join(texts).count(EVIL) >= 2  # in the card and in the table, as it is called
    assert page.saved()["file"][0] == EVIL


def test_the_download_is_the_table_of_the_session(page, demo):
    assert page.state == "empty"
    demo.add("happy.wav", HAPPY)
    demo.add('odd, "name"\n.wav', HAPPY)
    demo.add("bad.wav", b"")
    table = page.saved()
    assert list(table.columns) == list(demo.clips.columns)
    assert list(table["file"]) == ["happy.wav", 'odd, "name"\n.wav', "bad.wav"]
    assert float(table["confidence"][0]) == pytest.approx(demo.clips["confidence"][0], abs=1e-9)
    assert page.table.count("<tr>") == 4  # with the head


def test_clear_forgets_everything_and_can_be_undone_until_something_new_comes(page, demo):
    demo.add("happy.wav", HAPPY)
    before = page.html
    page.send("clear")
    assert (page.cards, page.table.strip(), page.state) == ({}, "", "cleared") and demo.clips.empty
    assert "<table" not in demo.snapshot()
    page.send("undo")
    assert page.html == before and page.state == "answered"
    demo.listen(VOICE[:SR])
    demo.clear()
    assert page.live == "" and demo.heard.empty
    demo.add("new.wav", HAPPY)
    assert demo.clips["file"].to_list() == ["new.wav"] and page.state == "answered"
    page.send("undo")
    assert demo.clips["file"].to_list() == ["new.wav"]  # the kernel has let go of the others


def test_a_page_that_is_opened_again_shows_the_same(page, demo):
    demo.add("happy.wav", HAPPY)
    demo.add("bad.wav", b"")
    demo.listen(VOICE[:SR])
    assert page.html == Page(demo).html


def test_the_verdict_yields_to_its_doubts(page, demo, monkeypatch):
    demo.add("hum.wav", encode(HISS))
    assert "no speech found" in page.text and "% sure" not in page.text
    monkeypatch.setattr(demo._predictor, "predict", unlike(demo._predictor.predict))
    label = demo.add("whisper.wav", HAPPY).label
    text = page.newest.head
    assert f"sounds {label}, but this is unlike anything it knows" in text and "% sure" not in plain(text)
    assert text.index("ser-verdict") < text.index("ser-doubt")


def unlike(predict):
    doubt = Doubt("unlike", "Unlike the training data.")
    return lambda recording: replace(predict(recording), warnings=(doubt,))


def test_all_of_a_queue_is_answered_before_anything_is_explained(predictor, monkeypatch):
    page, said = Page(build_demo(predictor), explains=True), []
    monkeypatch.setattr(Answered, "explain", lambda card: said.append((len(page.cards), card.row["file"])))
    for waiting in (1, 0):
        page.send("file", HAPPY, name=f"{waiting}.wav", size=len(HAPPY), offset=0, waiting=waiting)
    assert said == [(2, "1.wav"), (2, "0.wav")]


@pytest.mark.parametrize("real", [True, False])
def test_an_example_is_one_click_away_with_data_and_without(predictor, monkeypatch, tmp_path, real):
    folder = settings.samples_dir() if real else tmp_path / "none"
    monkeypatch.setenv("SERCORE_SAMPLES", str(folder))
    page = Page(demo := build_demo(predictor))
    assert list(demo.page["examples"]) == list(EMOTIONS) and demo.page["real"] is real
    page.send("example", emotion="angry")
    assert demo.clips["file"].to_list() == ["example-angry.flac"] and demo.clips["error"].to_list() == [""]


def test_the_other_network_is_one_click_away():
    page = Page(build_demo())
    page.demo.add("happy.wav", HAPPY)
    assert page.newest.ask == "ravdess"
    page.send("other", card=page.newest.card)
    expected = Predictor("ravdess").predict(io.BytesIO(HAPPY))
    assert f"{expected.network} answers" in page.newest.other and expected.label in page.newest.other


@pytest.mark.parametrize("name", ["=1+1.wav", "+cmd.wav", "-2.wav", "@SUM(1).wav", "\t=1.wav"])
def test_a_spreadsheet_takes_no_name_for_a_formula(page, demo, name):
    demo.add(name, b"not audio")
    assert base64.b64decode(page.csv.split(",")[1]).startswith(b"\xef\xbb\xbf")  # by which Excel knows UTF-8
    assert page.saved()["file"][0] == f"'{name}"


def test_nothing_is_written_to_disk(demo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    demo.add("happy.wav", HAPPY)
    assert list(tmp_path.iterdir()) == []


def test_a_clip_gets_the_same_probabilities_by_every_way(tmp_path):
    path = tmp_path / "happy.wav"
    path.write_bytes(HAPPY)
    page = Page(demo := build_demo())
    page.send("file", HAPPY, name="happy.wav", size=len(HAPPY), offset=0)
    page.send("recording", sf.read(path, dtype="int16")[0].tobytes(), sr=SR)
    said = json.loads(CliRunner().invoke(app, ["predict", str(path), "--json"]).output)
    ways = {
        "upload": demo.clips.iloc[0], "microphone": demo.clips.iloc[1], "command line": said[0],
        "Python": predict_emotion(path).probabilities, "waveform": predict_emotion(sf.read(path)).probabilities,
        "table": next(Predictor().predict_files([path])),
    }  # fmt: skip
    shares = np.array([[row[emotion] for emotion in EMOTIONS] for row in ways.values()], dtype=float)
    np.testing.assert_allclose(shares, np.tile(shares[0], (len(ways), 1)), atol=1e-6)


def test_by_default_a_visitor_chooses_between_the_shipped_networks(predictor):
    page = Page(demo := build_demo())
    assert list(demo.page["choice"]) == ["any_voice", "ravdess"] and build_demo(predictor).page["choice"] == {}
    demo.add("happy.wav", HAPPY)
    page.send("network", name="ravdess")
    page.send("explain", on=False)
    assert Page(demo).options == ("ravdess", False)  # a page that is opened again
    demo.send = page.receive
    demo.add("happy.wav", HAPPY)
    assert demo.clips["model"].tolist() == ["any_voice", "ravdess"]
    for name, confidence in zip(("any_voice", "ravdess"), demo.clips["confidence"], strict=True):
        assert confidence == pytest.approx(Predictor(name).predict(io.BytesIO(HAPPY)).confidence, abs=1e-6)
    assert "any_voice" in page.table and "ravdess" in page.table


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
    assert 'aria-label="Emotion over time in long.wav: ' in demo.snapshot()
