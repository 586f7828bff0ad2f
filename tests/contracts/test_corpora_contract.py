"""What holds for every corpus: a name says its fields or is refused, and each clip has one id wherever it lies."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sercore.corpora import CORPORA, corpus_of, load_corpus, skipped_files
from sercore.errors import CorpusError
from sercore.labels import EMOTIONS


def same(codes):
    """Codes that stand for themselves."""
    return {code: code for code in codes.split()}


#: The form of a name, and what each code in it means, written down independently of the code under test.
RAVDESS = {
    "emotion": {f"{code:02d}": emotion for code, emotion in enumerate(EMOTIONS, start=1)},
    "intensity": {"01": "normal", "02": "strong"},
    "statement": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    "repetition": {"01": 1, "02": 2},
    "speaker": {f"{actor:02d}": f"{actor:02d}" for actor in range(1, 25)},
}
NO_SONG = {("emotion", "07"), ("emotion", "08"), ("speaker", "18")}
SCHEMES = {
    "ravdess": ("Actor_{speaker}/03-01-{emotion}-{intensity}-{statement}-{repetition}-{speaker}", RAVDESS),
    "synthetic": ("Actor_{speaker}/03-01-{emotion}-{intensity}-{statement}-{repetition}-{speaker}", RAVDESS),
    "ravdess_song": ("Actor_{speaker}/03-02-{emotion}-{intensity}-{statement}-{repetition}-{speaker}", RAVDESS),
    "emodb": ("{speaker}{text}{emotion}{repetition}", {
        "speaker": same("03 08 09 10 11 12 13 14 15 16"), "text": same("a01 a02 a04 a05 a07 b01 b02 b03 b09 b10"),
        "emotion": dict(W="angry", L=None, E="disgust", A="fearful", F="happy", T="sad", N="neutral"),
        "repetition": {"a": 1, "b": 2, "f": 6},
    }),
    "tess": ("{speaker}_{text}_{emotion}", {
        "speaker": same("OAF YAF"), "text": same("back youth chain"),
        "emotion": same("angry disgust happy neutral sad") | {"fear": "fearful", "ps": "surprised"},
    }),
    "crema_d": ("{speaker}_{text}_{emotion}_{intensity}", {
        "speaker": {str(actor): str(actor) for actor in range(1001, 1092)},
        "text": same("IEO TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI"),
        "emotion": dict(NEU="neutral", HAP="happy", SAD="sad", ANG="angry", FEA="fearful", DIS="disgust"),
        "intensity": dict(LO="low", MD="medium", HI="high", XX=None),
    }),
    "nemo": ("{speaker}_{emotion}_{text}", {
        "speaker": same("EB0 IC0 KD0 KS0 MK0 MP0 SM0 TP0 WR0"), "text": same("1 20 90"),
        "emotion": same("neutral surprised") | dict(anger="angry", fear="fearful", happiness="happy", sadness="sad"),
    }),
    "savee": ("{speaker}/{emotion}{text}", {
        "speaker": same("DC JE JK KL"), "text": same("01 02 03 04 05 06 07 08 09 10 11 12 13 14 15"),
        "emotion": dict(a="angry", d="disgust", f="fearful", h="happy", n="neutral", sa="sad", su="surprised"),
    }),
}  # fmt: skip
BAD_NAMES = [
    ("ravdess", "03-01-03-01-01-01-00", "Bad actor '00' in .*: expected a code from 01 to 24"),
    ("ravdess", "03-01-03-01-01-01-25", "Bad actor '25' in .*: expected a code from 01 to 24"),
    ("ravdess", "03-01-99-01-01-01-12", "Bad emotion '99' in 03-01-99-01-01-01-12.wav: expected a code from 01 to 08"),
    ("ravdess", "04-01-03-01-01-01-12", "Bad modality '04'"),
    ("ravdess", "03-03-03-01-01-01-12", "Bad vocal channel '03'"),
    ("ravdess", "03-01-03-01-03-01-12", "Bad statement '03'"),
    ("ravdess", "03-01-03-01-01-03-12", "Bad repetition '03'"),
    ("ravdess", "03-01-01-02-01-01-12", "Bad intensity '02' in .*: expected 01, because neutral"),
    ("ravdess", "03-01-03-01-01-12", "Bad RAVDESS file name '03-01-03-01-01-12.wav': expected seven two-digit codes"),
    ("ravdess", "03-01-03-01-01-01-12 (1)", "expected seven two-digit codes"),
    ("ravdess", "03-01-03-01-01-01-١٢", "expected seven two-digit codes"),
    ("ravdess", "03-01-03-01-01-01-¹²", "expected seven two-digit codes"),
    ("ravdess_song", "03-02-07-01-01-01-12", "Bad emotion 'disgust' in .*: expected one of .* in song"),
    ("ravdess_song", "03-02-03-01-01-01-18", "Bad actor '18' in .*: this actor recorded no song"),
    (
        "ravdess_song",
        "03-01-03-01-01-01-12",
        r"Bad vocal channel '01' in .*: expected song \(02\); speech is in ravdess",
    ),
    ("emodb", "04a01Fa", "Bad speaker '04' in 04a01Fa.wav: expected one of"),
    ("emodb", "03a03Fa", "Bad statement 'a03'"),
    ("emodb", "03a01Xa", "Bad emotion 'X'"),
    ("nemo", "XX0_anger_1", "Bad speaker 'XX0' in XX0_anger_1.wav: expected one of"),
    ("nemo", "SM0_joy_1", "Bad emotion 'joy' in SM0_joy_1.wav: expected one of"),
    ("nemo", "SM0_anger", "expected speaker, emotion and sentence, as in SM0_happiness_1.wav"),
    ("emodb", "erkennung", "expected speaker, sentence, emotion and version, as in 03a01Fa.wav"),
    ("tess", "OBF_back_angry", "Bad speaker 'OBF'"),
    ("tess", "OAF_back_surprise", "Bad emotion 'surprise'"),
    ("tess", "back", "expected speaker, word and emotion, as in OAF_back_angry.wav"),
    ("crema_d", "1092_DFA_ANG_XX", "Bad speaker '1092' in .*: expected a code from 1001 to 1091"),
    ("crema_d", "1001_DFB_ANG_XX", "Bad statement 'DFB'"),
    ("crema_d", "1001_DFA_SUR_XX", "Bad emotion 'SUR'"),
    ("crema_d", "1001_DFA_ANG_ME", "Bad intensity 'ME'"),
    ("crema_d", "1001_DFA_ANG", "expected actor, sentence, emotion and level, as in 1001_DFA_ANG_XX.wav"),
    ("savee", "DC_s01", "Bad emotion 's'"),
    ("savee", "DC_a16", "Bad sentence '16' in DC_a16.wav: expected a number from 01 to 15"),
    ("savee", "DC_n31", "Bad sentence '31' in DC_n31.wav: expected a number from 01 to 30"),
    ("savee", "a01", "Bad SAVEE file name 'a01.wav'"),
    ("savee", "AA/a01", "Bad speaker 'AA' in a01.wav"),
    ("savee", "DC_a1", "expected speaker, emotion and sentence, as in DC_a01.wav or DC/a01.wav"),
]


def names_of(corpus):
    """All names of a scheme, as the official places, each with what it says."""
    form, codes = SCHEMES[corpus]
    for values in product(*codes.values()):
        said = dict(zip(codes, values, strict=True))
        strong_neutral = codes is RAVDESS and (said["emotion"], said["intensity"]) == ("01", "02")
        if not strong_neutral and not (corpus == "ravdess_song" and NO_SONG & said.items()):
            yield form.format(**said), {what: codes[what][code] for what, code in said.items() if what != "text"}


SPEECH, SONG = ({Path(place).name for place, _ in names_of(name)} for name in ("ravdess", "ravdess_song"))


@pytest.mark.parametrize("name", SCHEMES)
def test_a_name_says_its_fields_and_has_its_official_place(name):
    corpus = corpus_of(name)
    for official, meant in names_of(name):
        fields = corpus.parse(f"{official}.wav")
        assert {what: fields[what] for what in meant} == meant and fields["sex"] in ("female", "male")
        assert corpus.official_path(Path(f"{official}.wav"), fields) == official


@pytest.mark.parametrize(("name", "stem", "message"), BAD_NAMES)
def test_a_bad_name_is_refused_with_what_was_expected(name, stem, message):
    with pytest.raises(CorpusError, match=message):
        corpus_of(name).parse(f"{stem}.wav")


@given(
    st.text("0123456789abAFLWz", min_size=6, max_size=8)
    | st.from_regex(r"[A-Z]{2,3}_[a-z]{1,4}_[a-z]{1,6}", fullmatch=True)
    | st.from_regex(r"1\d{3}_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}", fullmatch=True)
    | st.from_regex(r"(DC|JE|JK|KL|DJ)_[adfhnsu]{1,2}[0-3]\d", fullmatch=True)
)
def test_another_name_is_refused_never_guessed(stem):
    for name in SCHEMES:
        try:
            fields = corpus_of(name).parse(f"{stem}.wav")
        except CorpusError as error:
            assert stem in str(error)
        else:
            assert fields["emotion"] in (*EMOTIONS, None) and fields["sex"] in ("female", "male")


@given(st.tuples(*(st.integers(0, last) for last in (4, 3, 10, 3, 3, 3, 26))))
def test_a_name_of_ravdess_is_official_or_refused(codes):
    stem = "-".join(f"{code:02d}" for code in codes)
    if codes[0] in (1, 2, 3) and f"03{stem[2:]}" in SPEECH | SONG:
        assert corpus_of("ravdess").parse(stem)["actor"] == codes[6]
    else:
        with pytest.raises(CorpusError):
            corpus_of("ravdess").parse(stem)


def test_the_official_lists_of_ravdess_are_whole():
    speech, song = corpus_of("ravdess"), corpus_of("ravdess_song")
    assert speech.expected_files() == sorted(SPEECH) and len(SPEECH) == 1440
    assert speech.expected_files("song") == song.expected_files() == sorted(SONG) and len(SONG) == 1012


@pytest.mark.parametrize("name", SCHEMES)
def test_an_id_is_the_same_in_any_folder_and_format_and_a_second_copy_is_left_out(name, tmp_path):
    official = [place for place, meant in names_of(name) if meant["emotion"] == "angry"][:9]
    for place in official:
        flat = place.rpartition("/")[2] if name != "savee" else place.replace("/", "_")
        for path in (tmp_path / "flat" / f"{flat}.FLAC", tmp_path / "deep" / "ALL" / f"{place}.wav"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    ids = sorted(f"{name}/{place}" for place in official)
    for folder in ("flat", "deep"):
        assert sorted(load_corpus(name, tmp_path / folder)["clip"]) == ids
    both = load_corpus(name, tmp_path)
    assert sorted(both["clip"]) == ids
    reasons = skipped_files(both)["reason"]
    assert len(reasons) == len(ids) and reasons.str.fullmatch("Duplicate of .*: each clip counts once.").all()


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_says_where_it_comes_from(name):
    corpus = CORPORA[name]
    assert corpus.name == name and corpus.title
    if name not in ("own", "synthetic"):
        assert corpus.url and corpus.licence and corpus.citation and corpus.n_files and corpus.by_hand
    assert bool(corpus.home) == bool(corpus.archives or corpus.listing)
    assert bool(corpus.listing) == bool(corpus.read_listing)
