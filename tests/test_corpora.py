"""corpora: a folder becomes a clip table; what is untidy in it is left out with its reason."""

import logging
import os
import re
from pathlib import Path

import pytest
import soundfile as sf

from sercore.audio import load_audio
from sercore.corpora import COLUMNS, crema_d, emodb, load_corpora, load_corpus, ravdess, savee, skipped_files, tess
from sercore.corpora.own import emotion_of
from sercore.errors import ConfigError, CorpusError
from sercore.labels import EMOTIONS


def touch(path, content=b""):
    """Names alone make the clip table; the content only tells copies, and what has no sound's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def own(folder):
    """What a corpus of one's own says: place, speaker and emotion of each clip."""
    return load_corpus("own", folder)[["clip", "speaker", "emotion"]].to_numpy().tolist()


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "name", "statement"),
    [
        (ravdess.parse, "Actor_07/02-02-03-02-01-02-07.flac", "Kids are talking by the door"),
        (emodb.parse, "emodb/16b10Wb.wav", "Die wird auf dem Platz sein, wo wir sie immer hinlegen"),
        (tess.parse, "YAF_germ_ps.wav", "Say the word germ"),
        (crema_d.parse, "AudioWAV/1001_IEO_ANG_HI.wav", "It's eleven o'clock"),
        (savee.parse, "AudioData/DC/sa03.flac", None),
    ],
)
def test_a_name_tells_the_words(parse, name, statement):
    assert parse(name)["statement"] == statement


def test_the_actors_of_crema_d_are_those_of_its_demographics_table():
    sexes = list(crema_d.SPEAKERS.values())
    assert (len(sexes), sexes.count("male"), sexes.count("female")) == (91, 48, 43)
    assert [crema_d.SPEAKERS[actor] for actor in ("1034", "1047", "1091")] == ["male", "female", "female"]


# --- folders ---------------------------------------------------------------------------------------------------------


def test_a_clip_table_says_what_the_names_say(tmp_path):
    paths = [
        touch(tmp_path / "Actor_12" / "03-01-06-02-02-01-12.wav"),
        touch(tmp_path / "Actor_03" / "03-01-01-01-01-02-03.wav"),
        touch(tmp_path / "03-02-02-01-01-01-01.FLAC"),
    ]
    clips = load_corpus("ravdess", tmp_path)
    assert tuple(clips.columns) == COLUMNS
    kids, dogs = "Kids are talking by the door", "Dogs are sitting by the door"
    ids = [f"ravdess/Actor_{path.stem[-2:]}/{path.stem}" for path in paths]
    assert list(clips.itertuples(index=False, name=None)) == [
        (str(paths[2]), ids[2], "ravdess", "ravdess-01", "male", "calm", "normal", kids, 1, "song"),
        (str(paths[1]), ids[1], "ravdess", "ravdess-03", "male", "neutral", "normal", kids, 2, "speech"),
        (str(paths[0]), ids[0], "ravdess", "ravdess-12", "female", "fearful", "strong", dogs, 1, "speech"),
    ]
    assert clips.attrs["skipped"] == [] and skipped_files(clips).empty


def test_the_recorded_clips_are_those_of_the_whole_corpus(tmp_path):
    for stem in ravdess.expected_files():
        touch(tmp_path / f"Actor_{stem[-2:]}" / f"{stem}.flac")
    recorded, clips = ravdess.recorded_clips(), load_corpus("ravdess", tmp_path)
    assert recorded.drop(columns="path").equals(clips.drop(columns="path"))
    assert recorded["path"][0] == "03-01-01-01-01-01-01.wav"


def test_what_cannot_be_right_is_skipped_with_its_reason(tmp_path, caplog):
    stem = "03-01-06-01-02-01-12"
    kept = touch(tmp_path / "Actor_12" / f"{stem}.wav")
    reasons = {
        touch(tmp_path / "audio_speech_actors_01-24" / "Actor_12" / f"{stem}.wav"): f"Duplicate of {kept}",
        touch(tmp_path / "copies" / f"{stem}.flac"): f"Duplicate of {kept}",
        touch(tmp_path / "Actor_11" / "03-01-05-01-02-01-12.wav"): "name says actor 12, its folder Actor_11",
        touch(tmp_path / "Actor_12" / "01-01-05-01-02-01-12.wav"): "Bad modality 'full-AV'",
        touch(tmp_path / "Actor_12" / "03-01-01-02-02-01-12.wav"): "Bad intensity '02'",
        touch(tmp_path / "music.ogg"): "expected seven two-digit codes",
    }
    touch(tmp_path / "Actor_12" / f"._{stem}.wav")
    touch(tmp_path / "README.txt")
    touch(tmp_path / "Actor_12" / f"{stem}.wav.part")

    with caplog.at_level(logging.INFO):
        clips = load_corpus("ravdess", tmp_path)
    assert list(clips["path"]) == [str(kept)]
    skipped = skipped_files(clips).set_index("path")["reason"]
    assert set(skipped.index) == {str(path) for path in reasons}
    for path, reason in reasons.items():
        assert reason in skipped[str(path)]
    assert f"{tmp_path}: skipped 6 of 7 files, the first because: " in caplog.text
    left = [(r.levelname, r.getMessage()) for r in caplog.records if "left out" in r.getMessage()]
    assert left == [("INFO", f"{tmp_path}: left out 2 files that are no recordings: .part 1, .txt 1")]


def test_the_song_is_a_corpus_of_its_own_by_the_same_people(tmp_path):
    touch(tmp_path / "Actor_01" / "03-02-03-01-01-01-01.wav")
    speech = touch(tmp_path / "Actor_01" / "03-01-03-01-01-01-01.wav")
    clips = load_corpus("ravdess_song", tmp_path)
    assert clips[["corpus", "speaker", "vocal_channel"]].to_numpy().tolist() == [["ravdess_song", "ravdess-01", "song"]]
    assert skipped_files(clips)["path"].tolist() == [str(speech)]


def test_boredom_is_dropped_and_counted(tmp_path):
    for name in ("03a01Fa.wav", "03a01Lb.wav", "08a02Wc.wav"):
        touch(tmp_path / name)
    clips = load_corpus("emodb", tmp_path)
    assert clips["emotion"].tolist() == ["happy", "angry"] and clips["intensity"].isna().all()
    assert clips.attrs["dropped"] == [str(tmp_path / "03a01Lb.wav")] and clips.attrs["skipped"] == []


def test_misspelt_and_soundless_clips_of_crema_d_are_known(tmp_path):
    for stem in ("1040_ITH_SAD_X", "1091_TSI_NEU_LO", "1076_MTI_SAD_XX"):
        touch(tmp_path / "AudioWAV" / f"{stem}.wav")
    clips = load_corpus("crema_d", tmp_path)
    assert clips[["clip", "intensity"]].fillna("-").to_numpy().tolist() == [
        ["crema_d/1040_ITH_SAD_XX", "-"],
        ["crema_d/1091_TSI_NEU_LO", "low"],
    ]
    assert "known to hold no sound" in skipped_files(clips)["reason"][0]


def test_a_mended_name_of_tess_is_no_other_clip(tmp_path):
    touch(tmp_path / "OA_bite_neutral.wav")
    mended = touch(tmp_path / "mirror" / "OAF_bite_neutral.wav")
    clips = load_corpus("tess", tmp_path)
    assert clips[["clip", "speaker"]].to_numpy().tolist() == [["tess/OA_bite_neutral", "tess-OAF"]]
    assert skipped_files(clips)["path"].tolist() == [str(mended)]


def test_the_speakers_of_savee_share_file_names_but_no_clip(tmp_path):
    for name in ("DC/a01.wav", "JE/a01.wav", "JE/su15.wav", "KL_n30.wav", "copy/DC_a01.wav"):
        touch(tmp_path / name)
    clips = load_corpus("savee", tmp_path)
    assert clips[["clip", "speaker", "emotion"]].to_numpy().tolist() == [
        ["savee/DC/a01", "savee-DC", "angry"],
        ["savee/JE/a01", "savee-JE", "angry"],
        ["savee/JE/su15", "savee-JE", "surprised"],
        ["savee/KL/n30", "savee-KL", "neutral"],
    ]
    assert clips["statement"].isna().all()
    assert skipped_files(clips)["path"].tolist() == [str(tmp_path / "copy" / "DC_a01.wav")]


def test_several_corpora_become_one_table_without_mixing_up_speakers(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    for name in ("ravdess/03-01-05-01-02-01-03.wav", "ravdess/music.wav", "emodb/03a01Wa.wav", "emodb/03a01La.wav"):
        touch(tmp_path / name)
    clips = load_corpora(["ravdess", "emodb"])
    assert tuple(clips.columns) == COLUMNS and list(clips.index) == [0, 1]
    assert clips[["clip", "speaker"]].to_numpy().tolist() == [
        ["ravdess/Actor_03/03-01-05-01-02-01-03", "ravdess-03"],
        ["emodb/03a01Wa", "emodb-03"],
    ]
    assert clips["intensity"].isna().tolist() == [False, True]
    assert clips.attrs["dropped"] == [str(tmp_path / "emodb" / "03a01La.wav")] and len(skipped_files(clips)) == 1
    assert load_corpora("emodb").equals(load_corpus("emodb", tmp_path / "emodb"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"Bad corpora \[\]: expected at least one of"),
        (["tess", "tess"], r"Bad corpora \['tess', 'tess'\].*each once"),
        (["radvess"], r"Bad corpus 'radvess': expected one of \['crema_d', 'emodb', 'nemo', 'own', "),
    ],
)
def test_corpora_that_cannot_be_joined_are_named(names, message):
    with pytest.raises(ConfigError, match=message):
        load_corpora(names)


def test_a_missing_folder_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    where = re.escape(str(tmp_path / "ravdess"))
    with pytest.raises(
        CorpusError, match=f"No ravdess folder at {where}.*Set SERCORE_DATA.*run `sercore download ravdess`"
    ):
        load_corpus("ravdess")
    with pytest.raises(CorpusError, match=r"No savee folder at .*or see data/README\.md for where to get it"):
        load_corpus("savee")
    with pytest.raises(
        CorpusError, match=r"No recordings at .*own: expected a folder with a folder per emotion, or a CSV"
    ):
        load_corpus("own")


def test_an_empty_folder_says_what_was_expected(tmp_path):
    with pytest.raises(CorpusError, match=r"No ravdess clip in .*zenodo.org/records/1188976; 0 files were skipped\."):
        load_corpus("ravdess", tmp_path)
    touch(tmp_path / "music.wav")
    with pytest.raises(CorpusError, match="1 files were skipped, the first because: Bad RAVDESS file name"):
        load_corpus("ravdess", tmp_path)
    touch(tmp_path / "all.zip")
    with pytest.raises(CorpusError, match=r"expected unpacked audio files, and found zip files \(`sercore"):
        load_corpus("ravdess", tmp_path)


# --- one's own -------------------------------------------------------------------------------------------------------


def test_a_folder_per_emotion_is_a_corpus(tmp_path):
    for place in ("happy/anna/01.wav", "happy/ben/01.wav", "happy/ben/01.m4a", "anna/Sadness/01.wav", "Fear/2.wav"):
        touch(tmp_path / place)
    wrong = {
        touch(tmp_path / "bored" / "1.wav"): "Bad emotion 'bored' (bored/): expected one folder named as one of",
        touch(tmp_path / "happy" / "sad" / "1.wav"): "Bad place of 1.wav in happy/sad",
        touch(tmp_path / "1.wav"): f"Bad place of 1.wav in {tmp_path}",
    }
    clips = load_corpus("own", tmp_path)
    assert clips[["clip", "speaker", "emotion"]].to_numpy().tolist() == [
        ["own/anna/Sadness/01.wav", "own-anna", "sad"],
        ["own/happy/anna/01.wav", "own-anna", "happy"],
        ["own/happy/ben/01.m4a", "own-ben", "happy"],
        ["own/happy/ben/01.wav", "own-ben", "happy"],
        ["own/Fear/2.wav", "own-unknown", "fearful"],
    ]
    assert clips[["sex", "intensity", "statement", "repetition"]].isna().all(axis=None)
    reasons = skipped_files(clips).set_index("path")["reason"]
    assert set(reasons.index) == {str(path) for path in wrong}
    assert all(reasons[str(path)].startswith(reason) for path, reason in wrong.items())


def test_who_is_not_named_counts_as_one_speaker_and_that_is_said(tmp_path, caplog):
    for i in range(3):
        touch(tmp_path / "happy" / f"{i}.wav")
    assert load_corpus("own", tmp_path)["speaker"].unique().tolist() == ["own-unknown"]
    assert "nothing says who speaks in some clips; all of them count as one speaker" in caplog.text


@pytest.mark.parametrize(("name", "place"), [("own", "happy"), ("ravdess", "caf\udce9")])
def test_a_name_that_no_table_can_hold_is_skipped(tmp_path, name, place):
    touch(tmp_path / place / "03-01-03-01-01-01-01.wav", b"RIFF\0\0\0\0WAVE one")
    kept = touch(tmp_path / "happy" / "Actor_02" / "03-01-03-01-01-01-02.wav", b"RIFF\0\0\0\0WAVE two")
    bad = touch(tmp_path / "happy" / "caf\udce9" / "03-01-03-01-01-01-03.wav", b"RIFF\0\0\0\0WAVE three")
    clips = load_corpus(name, tmp_path)
    assert str(kept) in set(clips["path"]) and str(bad) not in set(clips["path"])
    skipped = skipped_files(clips).set_index("path")["reason"]
    assert "expected UTF-8" in skipped[str(bad).replace("\udce9", "\\udce9")]


def test_recordings_are_known_by_their_content_and_in_linked_folders(tmp_path, caplog):
    touch(tmp_path / "own" / "happy" / "anna" / "x.3gpp", b"\0\0\0\x18ftyp3gp4")
    touch(tmp_path / "elsewhere" / "voice", b"RIFF\0\0\0\0WAVE")
    for name in ("._x.wav", "notes.txt", "x.csv", "y.csv"):
        touch(tmp_path / "own" / "happy" / "anna" / name, b"words")
    (tmp_path / "own" / "sad").symlink_to(tmp_path / "elsewhere")
    assert own(tmp_path / "own") == [
        ["own/happy/anna/x.3gpp", "own-anna", "happy"],
        ["own/sad/voice", "own-unknown", "sad"],
    ]
    [left] = [record for record in caplog.records if "left out" in record.getMessage()]
    assert left.levelname == "WARNING" and "3 files that are no recordings: .csv 2, .txt 1" in left.getMessage()


@pytest.mark.parametrize(
    ("emotion", "words"),
    [
        ("neutral", "Neutrality"),
        ("calm", "calmness"),
        ("happy", "JOY, joyful, Happy!, happiness"),
        ("sad", "sadness, _sad_"),
        ("angry", "Anger, mad"),
        ("fearful", "fear, scared, afraid, frightened"),
        ("disgust", "disgusted"),
        ("surprised", "ps, surprise, suprised, Pleasant Surprise, pleasant_surprised, pleasant-surprise!"),
        (None, "boredom, happily ever after, !"),
    ],
)
def test_an_emotion_is_understood_in_the_words_people_use(emotion, words):
    assert {emotion_of(word) for word in words.split(", ")} == {emotion}


def test_the_emotions_that_are_lost_are_named_with_their_folders(tmp_path, caplog):
    lost = ("bored/anna/1", "bored/anna/2", "bored/ben/1", "ben/tired/1", "anna/tired/2")
    for place in ("happy/anna/1", "ben/happy/1", *lost, "1"):
        touch(tmp_path / f"{place}.wav")
    assert len(own(tmp_path)) == 2
    assert (
        f"{tmp_path}: skipped 6 of 8 files: no emotion is called 'bored' (3 files in bored/), no emotion is called "
        "'tired' (2 files); 1 others, the first because: Bad place of 1.wav"
    ) in caplog.text


def test_folders_that_are_no_people_are_no_speakers(tmp_path, caplog):
    for place in ("anna/happy/wav", "Test/anna/happy", "fold_1/sad/ANNA", "train-2/sad/07", "sad/Audio files/valid"):
        touch(tmp_path / place / "1.wav")
    assert own(tmp_path) == [
        ["own/train-2/sad/07/1.wav", "own-07", "sad"],
        ["own/Test/anna/happy/1.wav", "own-anna", "happy"],
        ["own/anna/happy/wav/1.wav", "own-anna", "happy"],
        ["own/fold_1/sad/ANNA/1.wav", "own-anna", "sad"],
        ["own/sad/Audio files/valid/1.wav", "own-unknown", "sad"],
    ]
    assert f"{tmp_path}: speakers taken from the names of folders: anna (3), 07 (1). Where these" in caplog.text


def test_a_recording_is_one_person_and_one_emotion_by_whatever_path(tmp_path):
    kept = touch(tmp_path / "happy" / "anna" / "1.wav", b"one")
    touch(tmp_path / "happy" / "anna" / "2.wav", b"two")
    first = "Same recording as {}, contradicting: {} says {}, happy/anna/1.wav says {}."
    reasons = {
        touch(tmp_path / "happy" / "anna" / "copy.wav", b"one"): f"Duplicate of {kept}: each clip counts once.",
        touch(tmp_path / "happy" / "ben" / "1.wav", b"one"): first.format(
            kept, "happy/ben/1.wav", "happy of ben", "happy of anna"
        ),
        tmp_path / "sad" / "anna" / "1.wav": first.format(kept, "sad/anna/1.wav", "sad", "happy"),
    }
    (tmp_path / "sad" / "anna").mkdir(parents=True)
    (tmp_path / "sad" / "anna" / "1.wav").symlink_to(kept)
    clips = load_corpus("own", tmp_path)
    assert clips["clip"].tolist() == ["own/happy/anna/1.wav", "own/happy/anna/2.wav"]
    skipped = skipped_files(clips).set_index("path")["reason"].to_dict()
    assert skipped == {str(path): reason for path, reason in reasons.items()}


def test_clips_of_a_known_corpus_keep_its_speakers(tmp_path, caplog):
    for k in range(1, 6):
        touch(tmp_path / "angry" / f"03-01-05-01-02-01-{k:02d}.wav")
    for name in ("Ben/03a01Fa.wav", "anna/1.wav", "anna/2.wav", "anna/3.wav", "anna/4.wav", "anna/5.wav"):
        touch(tmp_path / "happy" / name)
    clips = load_corpus("own", tmp_path)
    speakers = [*["own-Ben"], *["own-anna"] * 5, *(f"ravdess-{k:02d}" for k in range(1, 6))]
    assert clips["speaker"].tolist() == speakers and set(clips["corpus"]) == {"own"}
    assert f"{tmp_path}: 5 of 11 files look like clips of ravdess, which a network may have been trained" in caplog.text
    assert f"--corpus ravdess --root {tmp_path}" in caplog.text and "anna (5), Ben (1). " in caplog.text


def test_a_csv_file_is_a_corpus(tmp_path):
    table, elsewhere = tmp_path / "study" / "clips.csv", touch(tmp_path / "elsewhere" / "4.wav")
    paths = [touch(tmp_path / "study" / "sounds" / f"{i}.wav") for i in range(3)]
    table.write_text(
        "Path,emotion, speaker,sex,repetition,mood\n"
        f"sounds/0.wav,happy,7,female,2,x\n{paths[1]}, Anger,8,,,\nsounds/2.wav,bored,8,,,\nsounds/3.wav,happy,8,,,\n"
        f"sounds/../sounds/0.wav,sad,7,female,2,\n../elsewhere/4.wav,calm,9,,,\n",
        encoding="utf-8-sig",
    )
    clips = load_corpus("own", table)
    assert clips[["clip", "speaker", "emotion"]].to_numpy().tolist() == [
        ["own/sounds/0.wav", "own-7", "happy"],
        ["own/sounds/1.wav", "own-8", "angry"],
        [f"own/{elsewhere}", "own-9", "calm"],
    ]
    assert clips["path"].tolist()[:2] == [str(path) for path in paths[:2]]
    assert clips["sex"].tolist()[0] == "female" and clips["sex"].isna()[1] and clips["repetition"][0] == 2
    assert [reason.partition(": expected")[0] for reason in skipped_files(clips)["reason"]] == [
        "Bad emotion 'bored' (clips.csv, line 4)",
        "No recording 'sounds/3.wav' (clips.csv, line 5)",
        f"Same recording as {paths[0]}, contradicting: line 6 says sad, line 2 says happy.",
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_as_spreadsheets_write_it(separator, tmp_path, caplog):
    rows = [("path", "emotion", "speaker", "repetition")]
    for k, speaker in enumerate(("NA", "None", "nan", "na", "")):
        rows.append((touch(tmp_path / f"{k}.wav").name, "happy", speaker, "1"))
    rows += [("x" * 300, "happy", "anna", "1"), ("0.wav", "happy", "NA", "1"), ("4.wav", "sad", "anna", "9" * 5000)]
    # Rows that end with a separator, the names do not.
    lines = [separator.join(row) + separator * (k > 0) for k, row in enumerate(rows)]
    (tmp_path / "clips.csv").write_text("\r\n".join(lines), encoding="utf-8-sig")
    clips = load_corpus("own", tmp_path / "clips.csv")
    assert clips["speaker"].tolist() == ["own-NA", "own-NA", "own-None", "own-nan", "own-unknown"]
    assert [reason[:14] for reason in skipped_files(clips)["reason"]] == [
        "No recording '",
        "Duplicate of /",
        "Bad repetition",
    ]
    assert "folders" not in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,emotion\n", r"No column \['speaker'\] in .*clips.csv: expected \['path', 'emotion', 'speaker'\], got"),
        ("", r"No column \['path', 'emotion', 'speaker'\] in .*clips.csv: expected .*, got \[\]"),
        ('path,emotion,speaker\n"x,happy,7\n', r"Bad table .*clips.csv: expected a CSV file in UTF-8; unexpected end"),
        ("path\nx.wav\n", r"No column \['emotion', 'speaker'\] in .*clips.csv: expected .*, got \['path'\]"),
        ("path,emotion,speaker\n", r"No own clip in .*clips.csv: expected a row a clip; 0 files were skipped"),
        (
            "path,emotion,speaker\nx.wav,hapy,7\n",
            r"No own clip .* 1 files were skipped, the first because: No recording",
        ),
        ("path,emotion,speaker,repetition\nclips.csv,happy,7,two\n", r"Bad repetition 'two' \(clips.csv, line 2\)"),
        ("path,emotion,speaker\n,happy,7\n", r"No recording '' \(clips.csv, line 2\)"),
    ],
)
def test_a_csv_file_that_cannot_be_right_is_named(tmp_path, text, message):
    (tmp_path / "clips.csv").write_text(text)
    with pytest.raises(CorpusError, match=message):
        load_corpus("own", tmp_path / "clips.csv")


# --- the real corpora ------------------------------------------------------------------------------------------------


def real(name):
    if not (Path(os.environ.get("SERCORE_DATA", "data")) / name).is_dir():
        pytest.skip(f"needs {name} under SERCORE_DATA")
    return load_corpus(name)


@pytest.mark.real
def test_ravdess_is_whole_and_balanced():
    clips = real("ravdess")
    assert len(clips) == 1440 and clips.attrs["skipped"] == []
    assert set(clips["speaker"].value_counts()) == {60} and clips["speaker"].nunique() == 24
    assert dict(clips["emotion"].value_counts()) == {e: 96 if e == "neutral" else 192 for e in EMOTIONS}
    assert dict(clips["sex"].value_counts()) == {"male": 720, "female": 720}
    assert dict(clips["intensity"].value_counts()) == {"normal": 768, "strong": 672}
    stereo = [path for path in clips["path"] if sf.info(path).channels == 2]
    assert len(stereo) == 5 and all(load_audio(path).ndim == 1 for path in stereo)


@pytest.mark.real
def test_emodb_is_whole():
    clips = real("emodb")
    counts = clips["emotion"].value_counts().to_dict()
    assert counts == {"angry": 127, "neutral": 79, "happy": 71, "fearful": 69, "sad": 62, "disgust": 46}
    assert len(clips.attrs["dropped"]) == 81 and clips["speaker"].nunique() == 10


@pytest.mark.real
def test_tess_is_balanced():
    clips = real("tess")
    assert clips.attrs["skipped"] == [] and sorted(clips["speaker"].unique()) == ["tess-OAF", "tess-YAF"]
    assert clips["emotion"].value_counts().nunique() == 1 and clips["emotion"].nunique() == 7
