"""Scores, intervals and calibration, against numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score, f1_score

from sercore.errors import ConfigError
from sercore.evaluate import (
    bootstrap_interval,
    chance,
    confusion,
    expected_calibration_error,
    fit_temperature,
    on_shared_labels,
    paired_difference,
    per_emotion,
    reliability,
    score_table,
    scores,
    selective_accuracy,
    targets_of,
)
from sercore.labels import EMOTIONS


def one_hot(y_pred):
    return np.eye(8)[np.asarray(y_pred)]


def table_of(y_true, speakers):
    return pd.DataFrame({"emotion": [EMOTIONS[k] for k in y_true], "speaker": speakers})


def test_scores_by_hand():
    # Recalls: emotion 0 3/4, emotion 1 0/1; precision of 0 is 3/4, of 1 is 0/1.
    values = scores([0, 0, 0, 0, 1], [0, 0, 0, 1, 0])
    assert values == pytest.approx({"accuracy": 3 / 5, "uar": 3 / 8, "macro_f1": 3 / 8})
    assert scores([2, 2], [2, 5])["uar"] == 0.5  # an emotion that does not occur costs no recall


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(8, size=(2, 500))
    values = scores(y_true, y_pred)
    assert values["uar"] == pytest.approx(balanced_accuracy_score(y_true, y_pred))
    assert values["macro_f1"] == pytest.approx(f1_score(y_true, y_pred, average="macro"))


@pytest.mark.parametrize(("y_true", "y_pred"), [([], []), ([1], [1, 2])])
def test_scores_of_nothing_or_of_unequal_lengths_are_an_error(y_true, y_pred):
    with pytest.raises(ConfigError, match="expected as many of both"):
        scores(y_true, y_pred)


def test_confusion_has_the_truth_in_its_rows():
    counts = confusion([4, 4, 4, 3], [4, 2, 2, 3])
    assert counts.shape == (8, 8)
    assert (counts[4, 2], counts[4, 4], counts[3, 3], counts.sum()) == (2, 1, 1, 4)


def test_per_emotion_by_hand():
    table = per_emotion([4, 4, 4, 3], [4, 2, 2, 4]).set_index("emotion")
    assert tuple(table.loc["angry", ["recall", "precision", "n"]]) == pytest.approx((1 / 3, 1 / 2, 3))
    assert table.loc["sad", "f1"] == 0


def test_score_table_scores_each_speaker_alone():
    clips = table_of([0, 1, 0, 1], ["b", "b", "a", "a"])
    table = score_table(clips, one_hot([0, 1, 0, 0]), by="speaker")
    assert table["speaker"].tolist() == ["a", "b"]
    assert table["uar"].tolist() == [0.5, 1.0]
    assert table["n"].tolist() == [2, 2]


def test_score_table_names_what_does_not_fit():
    clips = table_of([0, 1], ["a", "b"])
    with pytest.raises(ConfigError, match="'age'"):
        score_table(clips, one_hot([0, 1]), by="age")
    with pytest.raises(ConfigError, match="expected \\(2, 8\\)"):
        score_table(clips, one_hot([0, 1, 1]), by="speaker")


def test_clips_without_a_value_are_a_group_of_their_own():
    clips = table_of([0, 1, 0, 1], list("abcd")).assign(intensity=["strong", pd.NA, None, "normal"])
    table = score_table(clips, one_hot([0, 1, 1, 1]), by="intensity").set_index("intensity")
    assert table["n"].to_dict() == {"normal": 1, "not stated": 2, "strong": 1}
    assert table.loc["not stated", "uar"] == 0.5


def test_guessing_reaches_one_of_the_emotions_that_occur():
    assert (chance([0, 1, 2, 2]), chance(range(8))) == (1 / 3, 1 / 8)


def test_targets_follow_the_labels_and_an_unknown_emotion_is_named():
    assert targets_of(pd.DataFrame({"emotion": ["surprised", "neutral"]})).tolist() == [7, 0]
    with pytest.raises(ConfigError, match="boredom"):
        targets_of(pd.DataFrame({"emotion": ["boredom"]}))


def test_interval_is_over_speakers_not_over_clips():
    # Ten speakers, each either wholly right or wholly wrong: as ten coins, however many clips each has.
    y_true = np.tile(np.arange(8), 100)
    speakers = np.repeat(np.arange(10), 80)
    y_pred = np.where(speakers < 5, y_true, (y_true + 1) % 8)
    low, high = bootstrap_interval(table_of(y_true, speakers), one_hot(y_pred))
    assert 0.15 <= low <= 0.25
    assert 0.75 <= high <= 0.85
    assert (low, high) == bootstrap_interval(table_of(y_true, speakers), one_hot(y_pred))


def test_interval_of_speakers_all_alike_is_a_point():
    y_true = np.tile(np.arange(8), 6)
    y_pred = np.where(y_true == 3, 4, y_true)
    clips = table_of(y_true, np.repeat(np.arange(6), 8))
    assert bootstrap_interval(clips, one_hot(y_pred)) == pytest.approx((7 / 8, 7 / 8))
    assert bootstrap_interval(clips, one_hot(y_pred), metric="accuracy") == pytest.approx((7 / 8, 7 / 8))
    expected = f1_score(y_true, y_pred, average="macro", zero_division=0)
    assert bootstrap_interval(clips, one_hot(y_pred), metric="macro_f1") == pytest.approx((expected, expected))


@pytest.mark.parametrize("metric", ["accuracy", "uar", "macro_f1"])
def test_a_score_of_redrawn_speakers_is_the_score_of_their_clips(metric):
    rng = np.random.default_rng(3)
    y_true, y_pred, speakers = rng.integers(4, size=60), rng.integers(5, size=60), rng.integers(6, size=60)
    clips = table_of(y_true, speakers)
    low, high = bootstrap_interval(clips, one_hot(y_pred), metric=metric, level=1e-9, n_draws=1, seed=5)
    names = np.unique(speakers)
    drawn = names[np.random.default_rng(5).integers(len(names), size=len(names))]
    rows = np.concatenate([np.flatnonzero(speakers == name) for name in drawn])
    assert low == high == pytest.approx(scores(y_true[rows], y_pred[rows])[metric])
    with pytest.raises(ConfigError, match="Bad metric 'f2'"):
        bootstrap_interval(clips, one_hot(y_pred), metric="f2")


def test_a_difference_is_not_blurred_by_speakers_that_are_hard_for_both():
    y_true, speakers = np.tile(np.arange(8), 10), np.repeat(np.arange(10), 8)
    # Emotions 0 to 3 of half the speakers are lost on both models; the other one loses emotion 7 besides.
    y_pred = np.where((speakers < 5) & (y_true < 4), 5, y_true)
    clips, better, worse = table_of(y_true, speakers), one_hot(y_pred), one_hot(np.where(y_true == 7, 5, y_pred))
    low, high = bootstrap_interval(clips, better)
    assert high - low > 0.2
    assert paired_difference(clips, better, worse) == pytest.approx((1 / 8, 1 / 8, 1 / 8))
    assert paired_difference(clips, worse, better, metric="accuracy") == pytest.approx((-1 / 8, -1 / 8, -1 / 8))


def test_the_interval_of_a_difference_is_over_speakers():
    # Five speakers that the one model gets right and five that the other does: a draw decides.
    y_true, speakers = np.tile(np.arange(8), 10), np.repeat(np.arange(10), 8)
    wrong, clips = (y_true + 1) % 8, table_of(y_true, speakers)
    proba, other = one_hot(np.where(speakers < 5, y_true, wrong)), one_hot(np.where(speakers < 5, wrong, y_true))
    difference, low, high = paired_difference(clips, proba, other)
    assert difference == 0
    assert -0.7 <= low <= -0.5 and 0.5 <= high <= 0.7  # ten coins: 2 and 8 of them, twice the way from 5
    narrower = paired_difference(clips, proba, other, level=0.5)
    assert low < narrower[1] < 0 < narrower[2] < high


def test_the_surest_answers_are_scored_alone():
    # Sure and right, sure and wrong, less sure and right, unsure and wrong.
    proba = np.full((4, 8), 0.0)
    proba[[0, 1, 2, 3], [2, 3, 4, 5]] = [0.9, 0.8, 0.6, 0.3]
    y_true = [2, 0, 4, 0]
    shares = (0.1, 0.25, 0.5, 0.75, 1)
    found = [selective_accuracy(proba, y_true, share=share) for share in shares]
    assert found == pytest.approx([1, 1, 1 / 2, 2 / 3, 1 / 2])
    assert selective_accuracy(proba, y_true) == 1 / 2
    for share in (0, 1.1):
        with pytest.raises(ConfigError, match=f"Bad share {share}"):
            selective_accuracy(proba, y_true, share=share)


def test_reliability_and_its_error_by_hand():
    def row(confidence, k=0):
        return np.where(np.arange(8) == k, confidence, (1 - confidence) / 7)

    proba = np.stack([row(0.9), row(0.9), row(0.55), row(0.55)])
    table = reliability(proba, np.array([0, 1, 0, 0]))
    assert table["confidence"].tolist() == pytest.approx([0.55, 0.9])
    assert table["accuracy"].tolist() == [1.0, 0.5]
    assert expected_calibration_error(proba, np.array([0, 1, 0, 0])) == pytest.approx((0.45 * 2 + 0.4 * 2) / 4)


def test_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 8)) * 2
    y_true = np.array([rng.choice(8, p=p) for p in softmax(logits, axis=1)])
    assert fit_temperature(logits * 3, y_true) == pytest.approx(3.0, rel=0.1)
    assert expected_calibration_error(softmax(logits, axis=1), y_true) < 0.03
    assert expected_calibration_error(softmax(logits * 3, axis=1), y_true) > 0.15


def row(**shares):
    return [shares.get(emotion, 0.0) for emotion in EMOTIONS]


def test_emotions_that_a_corpus_lacks_are_no_answers_and_calm_counts_as_neutral():
    sad, neutral = EMOTIONS.index("sad"), EMOTIONS.index("neutral")
    proba = np.array([row(surprised=0.6, sad=0.3, neutral=0.1), row(calm=0.5, sad=0.3, neutral=0.2)])
    shared, y_true = on_shared_labels(proba, np.array([sad, neutral]))
    np.testing.assert_allclose(shared, [row(sad=0.75, neutral=0.25), row(sad=0.3, neutral=0.7)], atol=1e-6)
    assert y_true.tolist() == [sad, neutral]
    assert proba[1, EMOTIONS.index("calm")] == 0.5  # what was given stays as it was


def test_calm_stays_calm_where_both_sides_know_it_and_is_neutral_to_a_model_that_was_not_trained_on_it():
    calm, neutral = EMOTIONS.index("calm"), EMOTIONS.index("neutral")
    proba, truth = np.array([row(calm=0.6, neutral=0.4), row(neutral=1.0)]), np.array([calm, neutral])
    shared, y_true = on_shared_labels(proba, truth)
    np.testing.assert_allclose(shared, proba, atol=1e-6)
    assert y_true.tolist() == [calm, neutral]
    shared, y_true = on_shared_labels(proba, truth, trained_on=("neutral", "sad"))
    np.testing.assert_allclose(shared[0], row(neutral=1.0), atol=1e-6)
    assert y_true.tolist() == [neutral, neutral]


def test_an_answer_that_lies_with_other_emotions_altogether_is_no_preference():
    happy, sad = EMOTIONS.index("happy"), EMOTIONS.index("sad")
    shared, _ = on_shared_labels(np.array([row(surprised=1.0), row(sad=1.0)]), np.array([happy, sad]))
    np.testing.assert_allclose(shared, [row(happy=0.5, sad=0.5), row(sad=1.0)], atol=1e-6)
