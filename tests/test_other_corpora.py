"""EMO-DB, TESS, CREMA-D and SAVEE: what their names say, what is dropped, and that the real ones are whole."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from sercore.corpora import crema_d, emodb, load_corpus, savee, skipped_files, tess, verify
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


def test_the_fields_of_crema_d_are_read():
    assert crema_d.parse("AudioWAV/1001_IEO_ANG_HI.wav") == {
        "speaker": "1001",
        "sex": "male",
        "age": 51,
        "emotion": "angry",
        "intensity": "high",
        "statement": "It's eleven o'clock",
        "repetition": 1,
        "vocal_channel": "speech",
    }
    fields = crema_d.parse("1040_ITH_SAD_X.wav")  # as it was misspelt once
    assert fields["intensity"] is None and fields == crema_d.parse("1040_ITH_SAD_XX.wav")


def test_the_actors_of_crema_d_are_those_of_its_demographics_table():
    sexes = [sex for sex, _ in crema_d.SPEAKERS.values()]
    ages = [age for _, age in crema_d.SPEAKERS.values()]
    assert (len(sexes), sexes.count("male"), sexes.count("female")) == (91, 48, 43)
    assert (min(ages), max(ages)) == (20, 74)
    assert {crema_d.SPEAKERS[actor] for actor in ("1034", "1047", "1091")} == {
        ("male", 74),
        ("female", 22),
        ("female", 29),
    }


@pytest.mark.parametrize("name", ["DC_sa03.wav", "DC/sa03.wav", "AudioData/DC/sa03.flac", "ALL/DC_sa03.wav"])
def test_the_fields_of_savee_are_read_with_the_speaker_in_name_or_folder(name):
    assert savee.parse(name) == {
        "speaker": "DC",
        "sex": "male",
        "emotion": "sad",
        "sentence": 3,
        "statement": None,
        "repetition": 1,
        "vocal_channel": "speech",
    }


#: Each scheme's codes, written down independently of the code under test, and what an emotion's code means.
EMODB_EMOTIONS = dict(W="angry", L=None, E="disgust", A="fearful", F="happy", T="sad", N="neutral")
TESS_EMOTIONS = dict(
    angry="angry", disgust="disgust", fear="fearful", happy="happy", neutral="neutral", ps="surprised", sad="sad"
)
CREMA_D_EMOTIONS = dict(NEU="neutral", HAP="happy", SAD="sad", ANG="angry", FEA="fearful", DIS="disgust")
SAVEE_EMOTIONS = dict(
    a="angry", d="disgust", f="fearful", h="happy", n="neutral", sa="sad", su="surprised"
)  # fmt: skip
SCHEMES = {
    "{speaker}{text}{emotion}{version}.wav": (emodb.parse, EMODB_EMOTIONS, {
        "speaker": "03 08 09 10 11 12 13 14 15 16", "text": "a01 a02 a04 a05 a07 b01 b02 b03 b09 b10",
        "version": "a b c d e f",
    }),
    "{speaker}_{text}_{emotion}.wav": (tess.parse, TESS_EMOTIONS, {"speaker": "OAF YAF", "text": "back youth chain"}),
    "{speaker}_{text}_{emotion}_{level}.wav": (crema_d.parse, CREMA_D_EMOTIONS, {
        "speaker": " ".join(map(str, range(1001, 1092))), "text": "IEO TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI",
        "level": "LO MD HI XX",
    }),
    "{speaker}/{emotion}{text}.wav": (savee.parse, SAVEE_EMOTIONS, {
        "speaker": "DC JE JK KL", "text": "01 02 03 04 05 06 07 08 09 10 11 12 13 14 15",
    }),
}  # fmt: skip


@pytest.mark.parametrize("form", SCHEMES)
@given(st.data())
def test_every_name_of_a_scheme_is_read(form, data):
    parse, emotions, codes = SCHEMES[form]
    name = {field: data.draw(st.sampled_from(known.split())) for field, known in codes.items()}
    emotion = data.draw(st.sampled_from(list(emotions)))
    fields = parse(form.format(emotion=emotion, **name))
    assert (fields["speaker"], fields["emotion"]) == (name["speaker"], emotions[emotion])


@pytest.mark.parametrize("form", SCHEMES)
def test_every_name_of_a_scheme_says_something_of_its_own(form):
    parse, emotions, codes = SCHEMES[form]
    names = [
        form.format(**dict(zip(("emotion", *codes), values, strict=True)))
        for values in product(emotions, *(known.split() for known in codes.values()))
    ]
    assert len({tuple(parse(name).items()) for name in names}) == len(names)


def test_savee_has_120_names_a_speaker():
    names = [f"{s}_{e}{i:02d}.wav" for s in savee.SPEAKERS for e in savee.EMOTIONS_OF for i in range(1, 31)]
    emotions = []
    for name in names:
        try:
            emotions.append(savee.parse(name)["emotion"])
        except CorpusError:
            continue
    assert {emotion: emotions.count(emotion) for emotion in emotions} == {
        "sad": 60, "surprised": 60, "angry": 60, "disgust": 60, "fearful": 60, "happy": 60, "neutral": 120,
    }  # fmt: skip


@given(
    st.text("0123456789abAFLWz", min_size=6, max_size=8)
    | st.from_regex(r"[A-Z]{2,3}_[a-z]{1,4}_[a-z]{1,6}", fullmatch=True)
    | st.from_regex(r"1\d{3}_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}", fullmatch=True)
    | st.from_regex(r"(DC|JE|JK|KL|DJ)_[adfhnsu]{1,2}[0-3]\d", fullmatch=True)
)
def test_other_names_are_refused_never_guessed(name):
    for module in (emodb, tess, crema_d, savee):
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
        (crema_d.parse, "1092_DFA_ANG_XX.wav", "Bad actor '1092' in .*: expected a number from 1001 to 1091"),
        (crema_d.parse, "1001_DFB_ANG_XX.wav", "Bad sentence 'DFB'"),
        (crema_d.parse, "1001_DFA_SUR_XX.wav", "Bad emotion 'SUR'"),
        (crema_d.parse, "1001_DFA_ANG_ME.wav", "Bad level 'ME'"),
        (crema_d.parse, "1001_DFA_ANG.wav", "expected actor, sentence, emotion and level, as in 1001_DFA_ANG_XX.wav"),
        (savee.parse, "DC_s01.wav", "Bad emotion 's'"),
        (savee.parse, "DC_a16.wav", "Bad sentence '16' in DC_a16.wav: expected a number from 01 to 15"),
        (savee.parse, "DC_n31.wav", "Bad sentence '31' in DC_n31.wav: expected a number from 01 to 30"),
        (savee.parse, "a01.wav", "Bad speaker '' of a01.wav"),
        (savee.parse, "AA/a01.wav", "Bad speaker 'AA' of a01.wav"),
        (savee.parse, "DC_a1.wav", "expected speaker, emotion and sentence, as in DC_a01.wav or DC/a01.wav"),
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


def write_clips(root, names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(root / name, 0.1 * np.random.default_rng(i).standard_normal(400), 16_000)


def test_crema_d_is_loaded_and_its_soundless_clip_left_out(tmp_path):
    write_clips(
        tmp_path, ["AudioWAV/1002_IEO_SAD_LO.wav", "AudioWAV/1091_TSI_NEU_XX.wav", "AudioWAV/1076_MTI_SAD_XX.wav"]
    )
    clips = load_corpus("crema_d", tmp_path)
    assert clips[["speaker", "sex", "emotion", "intensity"]].fillna("-").to_numpy().tolist() == [
        ["crema_d-1002", "female", "sad", "low"],
        ["crema_d-1091", "female", "neutral", "-"],
    ]
    assert "known to hold no sound" in skipped_files(clips)["reason"][0]
    report = verify("crema_d", tmp_path)
    assert (report.n_expected, report.n_found, report.skipped) == (7441, 2, {})


def test_savee_is_loaded_though_its_speakers_share_file_names(tmp_path):
    write_clips(tmp_path, ["DC/a01.wav", "JE/a01.wav", "JE/su15.wav", "KL_n30.wav"])
    write_clips(tmp_path, ["copy/DC_a01.wav"])
    clips = load_corpus("savee", tmp_path)
    assert clips[["speaker", "emotion"]].to_numpy().tolist() == [
        ["savee-DC", "angry"],
        ["savee-JE", "angry"],
        ["savee-JE", "surprised"],
        ["savee-KL", "neutral"],
    ]
    assert clips["statement"].isna().all() and clips["sex"].unique().tolist() == ["male"]
    report = verify("savee", tmp_path)
    assert (report.n_expected, report.n_found, list(report.copies)) == (480, 4, [str(tmp_path / "copy" / "DC_a01.wav")])


def test_the_listening_test_of_emodb_is_read(tmp_path):
    with pytest.raises(CorpusError, match=r"No erkennung\.txt in .*: expected the listening test"):
        emodb.listening_test(tmp_path)
    table = tmp_path / "erkennung.txt"
    head = "Nr.\tSatz\terkannt\tnatuerlich\n"
    table.write_text(f"{head}1\xa0\xa0\t03a01Ab.wav\t65,00\xa0\xa0\t35,00\xa0\n\n", encoding="latin-1")
    assert emodb.listening_test(tmp_path).reset_index().to_numpy().tolist() == [["03a01Ab", 65.0, 35.0]]
    table.write_text(f"{head}1\t03a01Ab.wav\tviel\t35,00\n", encoding="latin-1")
    with pytest.raises(CorpusError, match=r"Bad line 2 of .*erkennung\.txt: expected number, file and two percentages"):
        emodb.listening_test(tmp_path)


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


@pytest.mark.real
def test_every_clip_of_emodb_was_judged_by_listeners():
    folder = real_folder("emodb")
    clips = load_corpus("emodb", folder)
    judged = emodb.listening_test(folder)
    assert len(judged) == 816 and judged.index.is_unique
    published = judged.loc[[Path(path).stem for path in [*clips["path"], *clips.attrs["dropped"]]]]
    assert len(published) == 535 and published["recognised"].min() == 80


@pytest.mark.real
def test_the_odd_files_of_tess_are_read():
    folder = real_folder("tess")
    report = verify("tess", folder)
    assert report.unreadable == report.skipped == {} and report.n_expected == 2800
    stems = {Path(path).stem: path for path in load_corpus("tess", folder)["path"]}
    assert {"YAF_neat_fear", "YAF_germ_angry", "OAF_food_fear", "OA_bite_neutral"} <= stems.keys()
    assert sf.info(stems["OAF_food_fear"]).samplerate == 96_000
    assert {Path(stems[stem]).suffix for stem in ("YAF_neat_fear", "YAF_germ_angry")} == {".wav"}
    assert {sf.info(stems[stem]).format for stem in ("YAF_neat_fear", "YAF_germ_angry")} == {"AIFF"}
