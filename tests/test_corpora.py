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
from sercore.corpora import (
    COLUMNS,
    SUFFIXES,
    load_corpora,
    load_corpus,
    ravdess,
    ravdess_song,
    skipped_files,
    synthetic,
    verify,
)  # fmt: skip
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


def test_the_song_is_a_corpus_of_its_own_by_the_same_people(tmp_path):
    write_clip(tmp_path / "Actor_01" / "03-02-03-01-01-01-01.wav")
    speech = write_clip(tmp_path / "Actor_01" / "03-01-03-01-01-01-01.wav")
    clips = load_corpus("ravdess_song", tmp_path)
    assert clips[["corpus", "speaker", "vocal_channel"]].to_numpy().tolist() == [["ravdess_song", "ravdess-01", "song"]]
    assert clips.attrs["skipped"] == [{"path": str(speech), "reason": "Bad vocal channel '01' in "
        "03-01-03-01-01-01-01.wav: expected song (02); speech is in ravdess."}]  # fmt: skip
    report = verify("ravdess_song", tmp_path)
    assert (report.n_expected, report.n_found, len(report.missing)) == (1012, 1, 1011)
    assert set(ravdess_song.expected_files()) == SONG


# --- several corpora -------------------------------------------------------------------------------------------------


def test_several_corpora_become_one_table_without_mixing_up_speakers(tmp_path):
    write_clip(tmp_path / "ravdess" / "03-01-05-01-02-01-03.wav")
    write_clip(tmp_path / "ravdess" / "music.wav")
    write_clip(tmp_path / "emodb" / "03a01Wa.wav")
    boredom = write_clip(tmp_path / "emodb" / "03a01La.wav")
    roots = {name: tmp_path / name for name in ("ravdess", "emodb")}
    clips = load_corpora(["ravdess", "emodb"], roots=roots)
    assert tuple(clips.columns) == COLUMNS and list(clips.index) == [0, 1]
    assert clips[["corpus", "speaker", "emotion"]].to_numpy().tolist() == [
        ["ravdess", "ravdess-03", "angry"],
        ["emodb", "emodb-03", "angry"],
    ]
    assert clips["intensity"].isna().tolist() == [False, True]
    assert clips.attrs["dropped"] == [str(boredom)] and len(skipped_files(clips)) == 1
    assert load_corpora("emodb", roots={"emodb": tmp_path / "emodb"}).equals(load_corpus("emodb", tmp_path / "emodb"))


@pytest.mark.parametrize(
    ("names", "roots", "message"),
    [
        ([], None, r"Bad corpora \[\]: expected at least one of"),
        (["tess", "tess"], None, r"Bad corpora \['tess', 'tess'\].*each once"),
        (["tess"], {"emodb": "."}, r"Bad roots \['emodb'\]: expected folders of some of \['tess'\]"),
        (["radvess"], None, "Bad corpus 'radvess'"),
    ],
)
def test_corpora_that_cannot_be_joined_are_named(names, roots, message):
    with pytest.raises(ConfigError, match=message):
        load_corpora(names, roots=roots)


# --- one's own -------------------------------------------------------------------------------------------------------


def test_a_folder_per_emotion_is_a_corpus(tmp_path):
    for place in ("happy/anna/1.wav", "anna/Sadness/1.wav", "Fear/2.wav"):
        write_clip(tmp_path / place)
    wrong = {
        write_clip(tmp_path / "bored" / "1.wav"): "Bad place of 1.wav in bored: expected one folder named as one of",
        write_clip(tmp_path / "happy" / "sad" / "1.wav"): "Bad place of 1.wav in happy/sad",
        write_clip(tmp_path / "1.wav"): f"Bad place of 1.wav in {tmp_path}",
    }
    clips = load_corpus("own", tmp_path)
    assert clips[["speaker", "emotion"]].to_numpy().tolist() == [
        ["own-anna", "sad"],
        ["own-anna", "happy"],
        ["own-unknown", "fearful"],
    ]
    assert clips[["sex", "intensity", "statement", "repetition"]].isna().all(axis=None)
    reasons = skipped_files(clips).set_index("path")["reason"]
    assert set(reasons.index) == {str(path) for path in wrong}
    assert all(reasons[str(path)].startswith(reason) for path, reason in wrong.items())
    report = verify("own", tmp_path)
    assert report.whole and (report.n_expected, report.n_found) == (3, 3)


def test_who_is_not_named_counts_as_one_speaker_and_that_is_said(tmp_path, caplog):
    for i in range(3):
        write_clip(tmp_path / "happy" / f"{i}.wav")
    assert load_corpus("own", tmp_path)["speaker"].unique().tolist() == ["own-unknown"]
    assert "nothing says who speaks in some clips; all of them count as one speaker" in caplog.text


def test_a_csv_file_is_a_corpus(tmp_path):
    paths = [write_clip(tmp_path / "sounds" / f"{i}.wav") for i in range(3)]
    (tmp_path / "clips.csv").write_text(
        "Path,emotion, speaker,sex,repetition,mood\n"
        f"sounds/0.wav,happy,7,female,2,x\n{paths[1]}, Anger,8,,,\nsounds/2.wav,bored,8,,,\nsounds/3.wav,happy,8,,,\n"
        "sounds/0.wav,sad,7,female,2,\n",
        encoding="utf-8-sig",
    )
    clips = load_corpus("own", tmp_path / "clips.csv")
    assert clips[["path", "speaker", "emotion"]].to_numpy().tolist() == [
        [str(paths[0]), "own-7", "happy"],
        [str(paths[1]), "own-8", "angry"],
    ]
    assert clips["sex"].tolist()[0] == "female" and clips["sex"].isna()[1] and clips["repetition"][0] == 2
    assert [reason.partition(": expected")[0] for reason in skipped_files(clips)["reason"]] == [
        "Bad emotion 'bored' (clips.csv, line 4)",
        "No recording 'sounds/3.wav' (clips.csv, line 5)",
        f"Duplicate of {paths[0]}: each clip counts once.",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,emotion\n", r"No column \['speaker'\] in .*clips.csv: expected \['path', 'emotion', 'speaker'\], got"),
        ("", r"Bad table .*clips.csv: expected a CSV file in UTF-8; No columns to parse"),
        ("path,emotion,speaker\n", r"No own clip in .*clips.csv: expected a row a clip; 0 files were skipped"),
        (
            "path,emotion,speaker\nx.wav,hapy,7\n",
            r"No own clip .* 1 files were skipped, the first because: No recording",
        ),
        ("path,emotion,speaker,repetition\nclips.csv,happy,7,two\n", r"Bad repetition 'two' \(clips.csv, line 2\)"),
        ("path,emotion,speaker\n,happy,7\n", r"No recording None \(clips.csv, line 2\)"),
    ],
)
def test_a_csv_file_that_cannot_be_right_is_named(tmp_path, text, message):
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        load_corpus("own", tmp_path / "clips.csv")


def test_one_s_own_recordings_must_be_somewhere(tmp_path):
    with pytest.raises(
        CorpusError, match=r"No recordings at .*nowhere: expected a folder with a folder per emotion, or a CSV"
    ):
        load_corpus("own", tmp_path / "nowhere")


def test_raw_samples_without_a_header_are_not_taken_for_audio():
    assert {".wav", ".flac", ".mp3", ".ogg", ".aif"} <= SUFFIXES
    assert ".raw" not in SUFFIXES


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    where = re.escape(str(tmp_path / "ravdess"))
    with pytest.raises(
        CorpusError, match=f"No ravdess folder at {where}.*Set SERCORE_DATA.*run `sercore download ravdess`"
    ):
        load_corpus("ravdess")
    with pytest.raises(CorpusError, match=r"No savee folder at .*or see data/README\.md for where to get it"):
        load_corpus("savee")


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(CorpusError, match=r"No ravdess clip in .*zenodo.org/records/1188976; 0 files were skipped\."):
        load_corpus("ravdess", tmp_path)
    write_clip(tmp_path / "music.wav")
    with pytest.raises(CorpusError, match="1 files were skipped, the first because: Bad RAVDESS file name"):
        load_corpus("ravdess", tmp_path)


def test_an_unknown_corpus_is_named():
    with pytest.raises(
        ConfigError,
        match=r"Bad corpus 'radvess': expected one of "
        r"\['crema_d', 'emodb', 'own', 'ravdess', 'ravdess_song', 'savee', 'synthetic', 'tess'\]",
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


def test_second_copies_of_a_whole_corpus_do_no_harm(tmp_path, monkeypatch):
    stems = sorted(SPEECH)[:3]
    monkeypatch.setattr(ravdess, "expected_files", lambda channel: stems)
    for stem in stems:
        write_clip(tmp_path / f"Actor_{stem[-2:]}" / f"{stem}.wav")
    shutil.copytree(tmp_path, tmp_path / "audio_speech_actors_01-24")
    report = verify("ravdess", tmp_path)
    assert report.ok and len(report.copies) == 3
    write_clip(tmp_path / "music.wav")
    report = verify("ravdess", tmp_path)
    assert report.whole and not report.ok


def test_a_pointer_of_git_lfs_is_told_from_a_sound(tmp_path):
    path = tmp_path / "1001_DFA_ANG_XX.wav"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 72862\n")
    assert verify("crema_d", tmp_path).unreadable == {
        str(path): "is a pointer of git-lfs, not the sound: fetch it with `git lfs pull`"
    }


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


def test_recordings_of_a_phone_are_a_corpus_too_and_damaged_ones_are_found(tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    y = (synthetic.synthesize("happy") * 32767).astype("<i2")
    folder = tmp_path / "happy"
    folder.mkdir()
    for name in ("whole", "cut"):
        with av.open(folder / f"{name}.m4a", "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=synthetic.SR, layout="mono")
            frame = av.AudioFrame.from_ndarray(y[None], format="s16", layout="mono")
            frame.sample_rate = synthetic.SR
            container.mux([*stream.encode(frame), *stream.encode(None)])
    cut = folder / "cut.m4a"
    cut.write_bytes(cut.read_bytes()[:2000])
    clips = load_corpus("own", tmp_path)
    assert clips["emotion"].tolist() == ["happy", "happy"]
    report = verify("own", tmp_path)
    assert (report.n_found, [Path(path).name for path in report.unreadable]) == (1, ["cut.m4a"])
