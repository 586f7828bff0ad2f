"""EMO-DB and TESS: what their names say, what is dropped, and that the real ones are whole."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sercore.corpora import emodb, load_corpus, tess, verify
from sercore.errors import CorpusError


def test_the_fields_of_emodb_are_read():
    assert emodb.parse("emodb/16b10Wb.wav") == {
        "speaker": "16",
        "sex": "female",
        "emotion": "angry",
        "statement": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
        "repetition": 2,
        "vocal_channel": "speech",
    }
    assert emodb.parse("03a01Lb.flac")["emotion"] is None


def test_the_fields_of_tess_are_read():
    assert tess.parse("YAF_germ_ps.wav") == {
        "speaker": "YAF",
        "sex": "female",
        "emotion": "surprised",
        "statement": "Say the word germ",
        "repetition": 1,
        "vocal_channel": "speech",
    }
    assert tess.parse("OA_bite_neutral.wav")["speaker"] == "OAF"


def test_every_code_of_emodb_says_something_of_its_own():
    names = [f"{s}{t}{e}a" for s, t, e in product(emodb.SPEAKERS, emodb.STATEMENTS, emodb.EMOTIONS_OF)]
    assert len({tuple(emodb.parse(name).items()) for name in names}) == len(names) == 10 * 10 * 7


@given(
    st.text("0123456789abAFLWz", min_size=6, max_size=8)
    | st.from_regex(r"[A-Z]{2,3}_[a-z]{1,4}_[a-z]{1,6}", fullmatch=True)
)
def test_other_names_are_refused_never_guessed(name):
    for module in (emodb, tess):
        try:
            fields = module.parse(f"{name}.wav")
        except CorpusError as error:
            assert name in str(error)
        else:
            assert fields["sex"] in ("female", "male")


@pytest.mark.parametrize(
    ("parse", "name", "message"),
    [
        (emodb.parse, "04a01Fa.wav", "Bad speaker '04' in 04a01Fa.wav"),
        (emodb.parse, "03a03Fa.wav", "Bad sentence 'a03'"),
        (emodb.parse, "03a01Xa.wav", "Bad emotion 'X'"),
        (emodb.parse, "erkennung.wav", "expected speaker, sentence, emotion and version, as in 03a01Fa.wav"),
        (tess.parse, "OBF_back_angry.wav", "Bad speaker 'OBF'"),
        (tess.parse, "OAF_back_surprise.wav", "Bad emotion 'surprise'"),
        (tess.parse, "back.wav", "expected speaker, word and emotion, as in OAF_back_angry.wav"),
    ],
)
def test_a_wrong_name_is_refused_with_its_reason(parse, name, message):
    with pytest.raises(CorpusError, match=message):
        parse(name)


def test_boredom_is_dropped_and_counted(tmp_path):
    for name in ("03a01Fa.wav", "03a01Lb.wav", "08a02Wc.wav"):
        sf.write(tmp_path / name, 0.1 * np.random.default_rng(0).standard_normal(1600), 16_000)
    clips = load_corpus("emodb", tmp_path)
    assert clips[["speaker", "emotion", "repetition"]].to_numpy().tolist() == [
        ["emodb-03", "happy", 1],
        ["emodb-08", "angry", 3],
    ]
    assert clips["intensity"].isna().all()
    assert clips.attrs["dropped"] == [str(tmp_path / "03a01Lb.wav")] and clips.attrs["skipped"] == []
    report = verify("emodb", tmp_path)
    assert (report.n_expected, report.n_found, report.ok) == (535, 3, False)


def real_folder(name):
    folder = Path(os.environ.get("SERCORE_DATA", "")) / name
    if not os.environ.get("SERCORE_DATA") or not folder.is_dir():
        pytest.skip(f"needs {name} under SERCORE_DATA")
    return folder


@pytest.mark.real
def test_emodb_is_whole():
    clips = load_corpus("emodb", real_folder("emodb"))
    counts = clips["emotion"].value_counts().to_dict()
    assert counts == {"angry": 127, "neutral": 79, "happy": 71, "fearful": 69, "sad": 62, "disgust": 46}
    assert len(clips.attrs["dropped"]) == 81 and clips["speaker"].nunique() == 10
    assert verify("emodb", real_folder("emodb")).ok


@pytest.mark.real
def test_tess_is_balanced():
    clips = load_corpus("tess", real_folder("tess"))
    assert clips.attrs["skipped"] == [] and sorted(clips["speaker"].unique()) == ["tess-OAF", "tess-YAF"]
    assert clips["emotion"].value_counts().nunique() == 1 and clips["emotion"].nunique() == 7
