"""splits: the published folds, and the promise that no speaker is on both sides."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.splits import LEAKY, PROTOCOLS, Fold, check_disjoint, hold_out_validation, make_folds

FIVE_FOLDS = [{2, 5, 14, 15, 16}, {3, 6, 7, 13, 18}, {10, 11, 12, 19, 20}, {8, 17, 21, 23, 24}, {1, 4, 9, 22}]
SIX_FOLDS = [{1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}, {13, 14, 15, 16}, {17, 18, 19, 20}, {21, 22, 23, 24}]
ALONE = [{actor} for actor in range(1, 25)]
DISJOINT = [protocol for protocol in (*PROTOCOLS, "corpora_5fold") if protocol != LEAKY]


def clip_table(actors=range(1, 25), corpus="ravdess"):
    """Fifteen clips an actor, one neutral and two of each other emotion, in no tidy order."""
    emotions = (*EMOTIONS, *EMOTIONS[1:])
    rows = [(f"{corpus}-{actor:02d}", "male" if actor % 2 else "female", e) for actor in actors for e in emotions]
    clips = pd.DataFrame(rows, columns=["speaker", "sex", "emotion"]).assign(corpus=corpus)
    return clips.sample(frac=1, random_state=3, ignore_index=True)


CLIPS = clip_table()
OTHERS = clip_table(range(3, 13), corpus="emodb"), clip_table((1, 2), corpus="tess")
THREE = pd.concat([CLIPS, *OTHERS], ignore_index=True)


def speakers(part, clips=CLIPS):
    return set(clips["speaker"].iloc[part])


@pytest.mark.parametrize(
    ("protocol", "groups"),
    [("speaker_5fold", FIVE_FOLDS), ("speaker_6fold", SIX_FOLDS), ("leave_one_speaker_out", ALONE)],
)
def test_the_test_speakers_are_the_published_ones(protocol, groups):
    folds = make_folds(CLIPS, protocol)
    assert [fold.name for fold in folds] == [str(number) for number in range(len(groups))]
    for fold, actors in zip(folds, groups, strict=True):
        assert speakers(fold.test) == {f"ravdess-{actor:02d}" for actor in actors}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_clip_is_tested_once_and_is_in_one_part_of_each_fold(protocol):
    folds = make_folds(CLIPS, protocol)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(CLIPS)))
    for fold in folds:
        assert sorted(np.concatenate([fold.train, fold.val, fold.test])) == list(range(len(CLIPS)))


@settings(max_examples=15)
@given(protocol=st.sampled_from(DISJOINT), seed=st.integers(0, 2**31), n_val_speakers=st.integers(1, 6))
def test_no_speaker_is_in_two_parts_whatever_the_seed(protocol, seed, n_val_speakers):
    for fold in make_folds(CLIPS, protocol, seed=seed, n_val_speakers=n_val_speakers):
        train, val, test = (speakers(part) for part in (fold.train, fold.val, fold.test))
        assert not (train & val or train & test or val & test)
        assert len(val) == n_val_speakers and len(train | val | test) == 24
        sexes = [speaker[-2:] in {f"{actor:02d}" for actor in range(2, 25, 2)} for speaker in val]
        assert abs(2 * sum(sexes) - n_val_speakers) <= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_seed_alone_draws_the_parts(protocol):
    def parts(seed):
        return [tuple(fold.val) for fold in make_folds(CLIPS, protocol, seed=seed)]

    assert parts(1) == parts(1)
    assert parts(1) != parts(2)


def test_random_folds_are_stratified_and_leaky():
    for fold in make_folds(CLIPS, "random_5fold"):
        shares = CLIPS["emotion"].iloc[fold.test].value_counts() / CLIPS["emotion"].value_counts()
        assert shares.between(0.15, 0.25).all()
        assert len(fold.test) == pytest.approx(72, abs=1)
        assert speakers(fold.test) <= speakers(fold.train)


def test_a_corpus_of_few_speakers_keeps_the_folds_it_can_fill():
    clips = clip_table((1, 2, 3, 4, 5, 6))
    assert [fold.name for fold in make_folds(clips, "speaker_5fold", n_val_speakers=2)] == ["0", "1", "4"]


def test_validation_is_held_out_and_nobody_is_left_to_test_on():
    fold = hold_out_validation(CLIPS, n_val_speakers=4, seed=5)
    assert len(speakers(fold.val)) == 4 and len(speakers(fold.train)) == 20 and len(fold.test) == 0
    assert speakers(fold.val).isdisjoint(speakers(fold.train))
    with pytest.raises(ConfigError, match="expected more than 2, got 2"):
        hold_out_validation(clip_table((1, 2)), n_val_speakers=2)


@pytest.mark.parametrize(
    ("clips", "protocol", "message"),
    [
        (CLIPS, "speaker_7fold", "Bad protocol 'speaker_7fold': expected one of .*'speaker_5fold'"),
        (clip_table((1, 4, 9)), "speaker_5fold", "No speaker left for train and val in fold 4"),
        (clip_table((1, 2)), "leave_one_speaker_out", "No speaker left for train"),
        (clip_table((1, 2, 25)), "speaker_6fold", r"Bad speakers \['ravdess-25'\].*try leave_one_speaker_out"),
        (clip_table((1, 2)).assign(speaker="emodb-ab"), "speaker_5fold", "Bad speakers.*emodb-ab"),
        (
            THREE[THREE["corpus"] != "tess"],
            "leave_one_corpus_out",
            r"Too few corpora .*\['emodb', 'ravdess'\]; expected three or more",
        ),
    ],
)
def test_what_cannot_be_divided_is_an_error(clips, protocol, message):
    with pytest.raises(ConfigError, match=message):
        make_folds(clips, protocol)


def test_a_shared_speaker_is_found():
    train, val = np.flatnonzero(CLIPS["speaker"] == "ravdess-01"), np.flatnonzero(CLIPS["speaker"] == "ravdess-02")
    with pytest.raises(ConfigError, match=r"Speakers \['ravdess-01'\] are in both train and test of fold 7"):
        check_disjoint(CLIPS, Fold("7", train[1:], val, train[:1]))


def test_every_corpus_is_dealt_into_the_five_folds_and_ravdess_as_published():
    folds = make_folds(THREE, "corpora_5fold", n_val_speakers=4)
    for fold, actors in zip(folds, FIVE_FOLDS, strict=True):
        tested = speakers(fold.test, THREE)
        assert {name for name in tested if name.startswith("ravdess")} == {f"ravdess-{actor:02d}" for actor in actors}
        assert sum(name.startswith("emodb") for name in tested) == 2
        assert len(speakers(fold.val, THREE)) == 4
    assert [sum(name.startswith("tess") for name in speakers(fold.test, THREE)) for fold in folds] == [1, 1, 0, 0, 0]
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(len(THREE)))
    emodb = [name for fold in folds for name in sorted(speakers(fold.test, THREE)) if name.startswith("emodb")]
    assert {int(one[-2:]) % 2 + int(other[-2:]) % 2 for one, other in zip(emodb[::2], emodb[1::2], strict=True)} == {1}


def test_a_corpus_left_out_is_tested_whole_and_the_smallest_other_one_validates():
    folds = {fold.name: fold for fold in make_folds(THREE, "leave_one_corpus_out")}
    roles = {
        name: [THREE["corpus"].iloc[part].unique().tolist() for part in (fold.train, fold.val, fold.test)]
        for name, fold in folds.items()
    }
    assert roles == {
        "emodb": [["ravdess"], ["tess"], ["emodb"]],
        "ravdess": [["emodb"], ["tess"], ["ravdess"]],
        "tess": [["ravdess"], ["emodb"], ["tess"]],
    }
    assert all(len(fold.train) + len(fold.val) + len(fold.test) == len(THREE) for fold in folds.values())
