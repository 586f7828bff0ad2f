"""corpora: every official RAVDESS name is read, every other refused; untidy folders are reported."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sercore.audio import load_audio
from sercore.corpora import COLUMNS, SUFFIXES, load_corpus, ravdess, skipped_files, verify
from sercore.errors import ConfigError, CorpusError
from sercore.labels import EMOTIONS


def official(channel, emotions, actors):
    """Stems of the audio-only part, written down independently of the code under test."""
    return {
        f"03-{channel}-{e:02d}-{i:02d}-{s:02d}-{r:02d}-{a:02d}"
        for e in emotions
        for i in ((1,) if e == 1 else (1, 2))
        for s in (1, 2)
        for r in (1, 2)
        for a in actors
    }


SPEECH = official("01", range(1, 9), range(1, 25))
SONG = official("02", range(1, 7), [a for a in range(1, 25) if a != 18])


def write_clip(path, *, n_channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    y = 0.1 * np.random.default_rng(len(path.name)).standard_normal((1600, n_channels))
    sf.write(path, y, 16_000)
    return path


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_seven_fields_and_the_sex_are_read():
    assert ravdess.parse("03-01-06-01-02-01-12.wav") == {
        "modality": "audio-only",
        "vocal_channel": "speech",
        "emotion": "fearful",
        "intensity": "normal",
        "statement": "Dogs are sitting by the door",
        "repetition": 1,
        "actor": 12,
        "speaker": "12",
        "sex": "female",
    }
    assert ravdess.parse(Path("Actor_07/02-02-03-02-01-02-07.flac")) == {
        "modality": "video-only",
        "vocal_channel": "song",
        "emotion": "happy",
        "intensity": "strong",
        "statement": "Kids are talking by the door",
        "repetition": 2,
        "actor": 7,
        "speaker": "07",
        "sex": "male",
    }


def test_the_official_lists_are_whole():
    assert set(ravdess.expected_files()) == SPEECH and len(ravdess.expected_files()) == 1440
    assert set(ravdess.expected_files("song")) == SONG and len(ravdess.expected_files("song")) == 1012


def test_every_official_name_survives_a_round_trip():
    for stem in SPEECH | SONG:
        fields = ravdess.parse(f"{stem}.wav")
        codes = (
            3,
            1 + ["speech", "song"].index(fields["vocal_channel"]),
            1 + EMOTIONS.index(fields["emotion"]),
            1 + ["normal", "strong"].index(fields["intensity"]),
            1 + ["Kids", "Dogs"].index(fields["statement"].split()[0]),
            fields["repetition"],
            fields["actor"],
        )
        assert "-".join(f"{code:02d}" for code in codes) == stem


@given(st.tuples(*(st.integers(0, last) for last in (4, 3, 10, 3, 3, 3, 26))) | st.tuples(*[st.integers(0, 99)] * 7))
def test_a_name_is_official_or_refused(codes):
    stem = "-".join(f"{code:02d}" for code in codes)
    if codes[0] in (1, 2, 3) and f"03{stem[2:]}" in SPEECH | SONG:
        assert ravdess.parse(stem)["actor"] == codes[6]
    else:
        with pytest.raises(CorpusError):
            ravdess.parse(stem)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("03-01-01-02-01-01-12.wav", "Bad intensity '02' in 03-01-01-02-01-01-12.wav: expected 01, because neutral"),
        ("03-02-07-01-01-01-12.wav", "Bad emotion 'disgust' in .*: expected one of .* in song"),
        ("03-02-08-01-01-01-12.wav", "Bad emotion 'surprised' in .* in song"),
        ("03-02-03-01-01-01-18.wav", "Bad actor '18' in .*: this actor recorded no song"),
        ("03-01-03-01-01-01-00.wav", "Bad actor '00' in .*: expected a code from 01 to 24"),
        ("03-01-03-01-01-01-25.wav", "Bad actor '25' in .*: expected a code from 01 to 24"),
        ("03-01-99-01-01-01-12.wav", "Bad emotion '99' in 03-01-99-01-01-01-12.wav: expected a code from 01 to 08"),
        ("04-01-03-01-01-01-12.wav", "Bad modality '04'"),
        ("03-03-03-01-01-01-12.wav", "Bad vocal channel '03'"),
        ("03-01-03-01-03-01-12.wav", "Bad statement '03'"),
        ("03-01-03-01-01-03-12.wav", "Bad repetition '03'"),
        ("03-01-03-01-01-12.wav", "Bad RAVDESS file name '03-01-03-01-01-12.wav': expected seven two-digit codes"),
        ("03-01-03-01-01-01-12-01.wav", "expected seven two-digit codes"),
        ("3-1-3-1-1-1-12.wav", "expected seven two-digit codes"),
        ("03-01-03-01-01-01-12 (1).wav", "expected seven two-digit codes"),
        ("03-01-03-01-01-01-١٢.wav", "expected seven two-digit codes"),
        ("03-01-03-01-01-01-¹².wav", "expected seven two-digit codes"),
        ("", "expected seven two-digit codes"),
    ],
)
def test_a_wrong_name_is_refused_with_its_reason(name, message):
    with pytest.raises(CorpusError, match=message):
        ravdess.parse(name)


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_clip_table_says_what_the_names_say(tmp_path):
    paths = [
        write_clip(tmp_path / "Actor_12" / "03-01-06-02-02-01-12.wav"),
        write_clip(tmp_path / "Actor_03" / "03-01-01-01-01-02-03.wav", n_channels=2),
        write_clip(tmp_path / "03-02-02-01-01-01-01.FLAC"),
    ]
    clips = load_corpus("ravdess", tmp_path)
    assert tuple(clips.columns) == COLUMNS
    kids, dogs = "Kids are talking by the door", "Dogs are sitting by the door"
    assert list(clips.itertuples(index=False, name=None)) == [
        (str(paths[2]), "ravdess", "ravdess-01", "male", "calm", "normal", kids, 1, "song"),
        (str(paths[1]), "ravdess", "ravdess-03", "male", "neutral", "normal", kids, 2, "speech"),
        (str(paths[0]), "ravdess", "ravdess-12", "female", "fearful", "strong", dogs, 1, "speech"),
    ]
    assert clips.attrs["skipped"] == [] and skipped_files(clips).empty


def test_what_cannot_be_right_is_skipped_with_its_reason(tmp_path, caplog):
    stem = "03-01-06-01-02-01-12"
    kept = write_clip(tmp_path / "Actor_12" / f"{stem}.wav")
    reasons = {
        write_clip(tmp_path / "audio_speech_actors_01-24" / "Actor_12" / f"{stem}.wav"): f"Duplicate of {kept}",
        write_clip(tmp_path / "copies" / f"{stem}.flac"): f"Duplicate of {kept}",
        write_clip(tmp_path / "Actor_11" / "03-01-05-01-02-01-12.wav"): "name says actor 12, its folder Actor_11",
        write_clip(tmp_path / "Actor_12" / "01-01-05-01-02-01-12.wav"): "Bad modality 'full-AV'",
        write_clip(tmp_path / "Actor_12" / "03-01-01-02-02-01-12.wav"): "Bad intensity '02'",
        write_clip(tmp_path / "music.ogg"): "expected seven two-digit codes",
        write_clip(tmp_path / "Actor_12" / f"._{stem}.wav"): "expected seven two-digit codes",
    }
    (tmp_path / "README.txt").write_text("not audio, not mentioned")
    (tmp_path / "Actor_12" / f"{stem}.wav.part").write_bytes(b"not audio, not mentioned")

    clips = load_corpus("ravdess", tmp_path)
    assert list(clips["path"]) == [str(kept)]
    skipped = skipped_files(clips).set_index("path")["reason"]
    assert set(skipped.index) == {str(path) for path in reasons}
    for path, reason in reasons.items():
        assert reason in skipped[str(path)]
    assert f"{tmp_path}: skipped 7 of 8 files" in caplog.text


def test_a_mirror_of_the_whole_folder_changes_nothing(tmp_path):
    for actor in (1, 2):
        write_clip(tmp_path / f"Actor_{actor:02d}" / f"03-01-05-01-02-01-{actor:02d}.wav")
    before = load_corpus("ravdess", tmp_path)
    for actor in (1, 2):
        mirror = tmp_path / "audio_speech_actors_01-24" / f"Actor_{actor:02d}"
        shutil.copytree(tmp_path / f"Actor_{actor:02d}", mirror)
    after = load_corpus("ravdess", tmp_path)
    assert after.equals(before) and len(after.attrs["skipped"]) == 2


def test_raw_samples_without_a_header_are_not_taken_for_audio():
    assert {".wav", ".flac", ".mp3", ".ogg", ".aif"} <= SUFFIXES
    assert ".raw" not in SUFFIXES


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    where = re.escape(str(tmp_path / "ravdess"))
    with pytest.raises(CorpusError, match=f"No ravdess folder at {where}.*Set SERCORE_DATA.*data/README.md"):
        load_corpus("ravdess")


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(CorpusError, match=r"No ravdess clip in .*zenodo.org/records/1188976; 0 files were skipped\."):
        load_corpus("ravdess", tmp_path)
    write_clip(tmp_path / "music.wav")
    with pytest.raises(CorpusError, match="1 files were skipped, the first because: Bad RAVDESS file name"):
        load_corpus("ravdess", tmp_path)


def test_an_unknown_corpus_is_named():
    with pytest.raises(
        ConfigError, match=r"Bad corpus 'radvess': expected one of \['emodb', 'ravdess', 'synthetic', 'tess'\]"
    ):
        load_corpus("radvess")


# --- verification ----------------------------------------------------------------------------------------------------


def test_verify_finds_what_is_missing_and_what_does_not_decode(tmp_path):
    stems = sorted(s for s in SPEECH if s.endswith("-12"))[:6]
    paths = [write_clip(tmp_path / f"{stem}.{suffix}") for stem, suffix in zip(stems, ["wav", "flac"] * 3, strict=True)]
    for path in paths[:2]:  # cut short: a WAV and a FLAC
        path.write_bytes(path.read_bytes()[:-700])
    paths[2].write_text("junk")
    sf.write(paths[3], np.zeros(0), 16_000)
    misplaced = write_clip(tmp_path / "Actor_01" / f"{stems[0][:-2]}02.wav")

    report = verify("ravdess", tmp_path)
    assert not report.ok
    assert (report.n_expected, report.n_found) == (1440, 2)
    assert set(report.missing) == SPEECH - set(stems)
    assert set(report.unreadable) == {str(path) for path in paths[:4]} and all(report.unreadable.values())
    assert set(report.skipped) == {str(misplaced)}


# --- the real corpus -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real():
    return load_corpus("ravdess")


@pytest.mark.real
def test_ravdess_is_whole_and_balanced(real):
    assert len(real) == 1440 and real.attrs["skipped"] == []
    assert set(real["speaker"].value_counts()) == {60} and real["speaker"].nunique() == 24
    assert dict(real["emotion"].value_counts()) == {e: 96 if e == "neutral" else 192 for e in EMOTIONS}
    assert dict(real["sex"].value_counts()) == {"male": 720, "female": 720}
    assert dict(real["intensity"].value_counts()) == {"normal": 768, "strong": 672}


@pytest.mark.real
def test_every_ravdess_clip_decodes(real):
    report = verify("ravdess")
    assert report.ok and report.n_found == report.n_expected == 1440


@pytest.mark.real
def test_the_five_stereo_files_of_ravdess_become_mono(real):
    stereo = [path for path in real["path"] if sf.info(path).channels == 2]
    assert len(stereo) == 5
    assert all(load_audio(path).ndim == 1 for path in stereo)
