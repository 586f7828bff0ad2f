"""evaluate: what a model is worth on speakers it has not heard, with how sure we can be of that."""

import numpy as np
import pandas as pd
import scipy.optimize
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from sercore import settings
from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models import softmax

PROBA_COLUMNS = [f"p_{emotion}" for emotion in EMOTIONS]


def scores(y_true, y_pred):
    """Compute accuracy, unweighted average recall and macro-F1.

    Parameters
    ----------
    y_true, y_pred : np.ndarray of int [shape=(n,)]
        Positions in `sercore.labels.EMOTIONS`.

    Returns
    -------
    scores : dict
        ``accuracy``, ``uar`` (the mean recall of the emotions that occur) and ``macro_f1``, each in [0, 1].

    Raises
    ------
    ConfigError
        If there is no clip, or the two differ in length.
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if not len(y_true) or len(y_true) != len(y_pred):
        raise ConfigError(
            f"Bad lengths: {len(y_true)} labels and {len(y_pred)} predictions; expected as many of both, at least one."
        )
    present = np.unique(y_true)
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "uar": float(np.mean([np.mean(y_pred[y_true == k] == k) for k in present])),
        "macro_f1": float(f1_score(y_true, y_pred, labels=present, average="macro", zero_division=0)),
    }


def confusion(y_true, y_pred):
    """Count what was taken for what.

    Parameters
    ----------
    y_true, y_pred : np.ndarray of int [shape=(n,)]

    Returns
    -------
    counts : np.ndarray of int [shape=(8, 8)]
        Rows are the true emotions, columns the predicted ones.
    """
    return confusion_matrix(y_true, y_pred, labels=range(len(EMOTIONS)))


def per_emotion(y_true, y_pred):
    """Tabulate precision, recall, F1 and number of clips of every emotion.

    Parameters
    ----------
    y_true, y_pred : np.ndarray of int [shape=(n,)]

    Returns
    -------
    table : pd.DataFrame
        Columns ``emotion, precision, recall, f1, n``.
    """
    values = precision_recall_fscore_support(y_true, y_pred, labels=range(len(EMOTIONS)), zero_division=0)
    return pd.DataFrame(dict(zip(("emotion", "precision", "recall", "f1", "n"), (EMOTIONS, *values), strict=True)))


def score_table(clips, proba, *, by="speaker"):
    """Score each group of clips on its own.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
        Clip table.
    proba : np.ndarray [shape=(n, 8)]
    by : str
        A column of `clips`: "speaker", "sex", "intensity", …

    Returns
    -------
    table : pd.DataFrame
        Columns `by`, ``n, accuracy, uar, macro_f1``, one row a group.

    Raises
    ------
    ConfigError
        If `clips` has no such column, or does not match `proba`.
    """
    if by not in clips:
        raise ConfigError(f"Bad column {by!r}: expected one of {list(clips.columns)}.")
    y_true, y_pred = targets_of(clips), _argmax(clips, proba)
    groups = clips[by].to_numpy()
    rows = [
        {by: g, "n": int((groups == g).sum())} | scores(y_true[groups == g], y_pred[groups == g])
        for g in pd.unique(groups)
    ]
    return pd.DataFrame(rows).sort_values(by, ignore_index=True)


def targets_of(clips):
    """Give the emotions of a clip table as positions.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]

    Returns
    -------
    targets : np.ndarray of int [shape=(n,)]

    Raises
    ------
    ConfigError
        If it holds an emotion that is not one of the eight.
    """
    if unknown := set(clips["emotion"]) - set(EMOTIONS):
        raise ConfigError(f"Bad emotions {sorted(map(str, unknown))}: expected {list(EMOTIONS)}.")
    return clips["emotion"].map(EMOTIONS.index).to_numpy(dtype=np.int64)


def _argmax(clips, proba):
    proba = np.asarray(proba)
    if proba.shape != (len(clips), len(EMOTIONS)):
        raise ConfigError(f"Bad shape {proba.shape} of the probabilities: expected {(len(clips), len(EMOTIONS))}.")
    return proba.argmax(axis=1)


def bootstrap_interval(clips, proba, *, metric="uar", level=0.95, n_draws=2000, seed=settings.SEED):
    """Estimate how far a score would move with other speakers, by drawing speakers with replacement.

    Clips of one speaker are not independent of each other, so whole speakers are drawn: an interval over clips
    would be too narrow.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, 8)]
    metric : {"accuracy", "uar", "macro_f1"}
    level : float in (0, 1)
    n_draws : int
    seed : int

    Returns
    -------
    low, high : float

    References
    ----------
    Efron & Tibshirani (1993), "An Introduction to the Bootstrap", percentile interval; resampling by cluster:
    Field & Welsh (2007), doi:10.1111/j.1467-9868.2007.00593.x.
    """
    values = _redrawn(clips, [proba], metric, n_draws, seed)
    return tuple(float(v) for v in np.quantile(values, [(1 - level) / 2, (1 + level) / 2]))


def paired_difference(clips, proba, other, *, metric="uar", level=0.95, n_draws=2000, seed=settings.SEED):
    """Estimate by how much one model is better than another on the same clips, and how sure that is.

    Both are scored on the same drawn speakers: what makes a speaker hard for both does not blur the difference.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    proba, other : np.ndarray [shape=(n, 8)]
        Of the one model and of the other.
    metric, level, n_draws, seed
        As in `bootstrap_interval`.

    Returns
    -------
    difference, low, high : float
        Above 0 the first model is better.
    """
    whole = [_metric_of_counts(confusion(targets_of(clips), _argmax(clips, p)), metric) for p in (proba, other)]
    values = _redrawn(clips, [proba, other], metric, n_draws, seed)
    low, high = np.quantile(values[:, 0] - values[:, 1], [(1 - level) / 2, (1 + level) / 2])
    return float(whole[0] - whole[1]), float(low), float(high)


def _redrawn(clips, probas, metric, n_draws, seed):
    """Score models on redrawn speakers, the same for each: an array [shape=(n_draws, n_models)]."""
    # A score depends on the counts alone: one confusion matrix a speaker makes thousands of draws cheap.
    y_true, speakers = targets_of(clips), clips["speaker"].to_numpy()
    names = np.unique(speakers)
    draws = np.random.default_rng(seed).integers(len(names), size=(n_draws, len(names)))
    columns = []
    for proba in probas:
        y_pred = _argmax(clips, proba)
        counts = np.stack([confusion(y_true[speakers == s], y_pred[speakers == s]) for s in names])
        columns.append([_metric_of_counts(counts[draw].sum(axis=0), metric) for draw in draws])
    return np.array(columns).T


def _metric_of_counts(counts, metric):
    hits, n_true, n_pred = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    present = n_true > 0
    if metric == "accuracy":
        return hits.sum() / n_true.sum()
    if metric == "uar":
        return (hits[present] / n_true[present]).mean()
    if metric == "macro_f1":
        return (2 * hits[present] / (n_true + n_pred)[present]).mean()
    raise ConfigError(f"Bad metric {metric!r}: expected one of ['accuracy', 'uar', 'macro_f1'].")


def reliability(proba, y_true, *, n_bins=10):
    """Compare confidence with accuracy, in bins of confidence.

    Parameters
    ----------
    proba : np.ndarray [shape=(n, 8)]
    y_true : np.ndarray of int [shape=(n,)]
    n_bins : int
        Of equal width over [0, 1].

    Returns
    -------
    table : pd.DataFrame
        Columns ``low, high, confidence, accuracy, n``; bins without a clip are left out.
    """
    proba, y_true = np.asarray(proba), np.asarray(y_true)
    confidence, hit = proba.max(axis=1), proba.argmax(axis=1) == y_true
    edges = np.linspace(0, 1, n_bins + 1)
    bins = np.clip(np.digitize(confidence, edges[1:-1], right=True), 0, n_bins - 1)
    rows = [
        {
            "low": edges[b],
            "high": edges[b + 1],
            "confidence": confidence[bins == b].mean(),
            "accuracy": hit[bins == b].mean(),
            "n": int((bins == b).sum()),
        }
        for b in np.unique(bins)
    ]
    return pd.DataFrame(rows)


def expected_calibration_error(proba, y_true, *, n_bins=10):
    """Average the gap between confidence and accuracy over clips.

    Parameters
    ----------
    proba, y_true, n_bins
        As in `reliability`.

    Returns
    -------
    error : float in [0, 1]

    References
    ----------
    Naeini et al. (2015), "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI.
    """
    table = reliability(proba, y_true, n_bins=n_bins)
    return float(((table["confidence"] - table["accuracy"]).abs() * table["n"]).sum() / table["n"].sum())


def selective_accuracy(proba, y_true, *, share=0.5):
    """Score the clips a model is most confident of: what is right if it may say "not sure" to the others.

    Parameters
    ----------
    proba : np.ndarray [shape=(n, 8)]
    y_true : np.ndarray of int [shape=(n,)]
    share : float in (0, 1]
        Of the clips that are answered.

    Returns
    -------
    accuracy : float in [0, 1]

    References
    ----------
    Geifman & El-Yaniv (2017), "Selective Classification for Deep Neural Networks", NeurIPS, arXiv:1705.08500.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"Bad share {share!r}: expected more than 0, at most 1.")
    proba, y_true = np.asarray(proba), np.asarray(y_true)
    surest = np.argsort(-proba.max(axis=1), kind="stable")[: max(1, round(share * len(proba)))]
    return float((proba.argmax(axis=1) == y_true)[surest].mean())


def on_shared_labels(proba, y_true, *, heard=EMOTIONS):
    """Judge answers on a corpus by the emotions that it shares with what a model has heard.

    Calm counts as neutral wherever one side does not tell them apart, and emotions that the corpus does not have
    are no answers: their probability is shared out among the others.

    Parameters
    ----------
    proba : np.ndarray [shape=(n, 8)]
    y_true : np.ndarray of int [shape=(n,)]
    heard : sequence of str
        Emotions in the training data.

    Returns
    -------
    proba : np.ndarray [shape=(n, 8)]
        0 for emotions that are not shared; each row adds up to 1.
    y_true : np.ndarray of int [shape=(n,)]
    """
    proba, y_true = np.array(proba, dtype=float), np.array(y_true)
    calm, neutral = EMOTIONS.index("calm"), EMOTIONS.index("neutral")
    if "calm" not in heard or calm not in y_true:
        proba[:, neutral] += proba[:, calm]
        proba[:, calm] = 0.0
        y_true[y_true == calm] = neutral
    proba[:, np.setdiff1d(np.arange(len(EMOTIONS)), y_true)] = 0.0
    # An answer that lies with other emotions altogether says nothing about these.
    proba += 1e-9 * np.isin(np.arange(len(EMOTIONS)), y_true)
    return proba / proba.sum(axis=1, keepdims=True), y_true


def fit_temperature(logits, y_true):
    """Find the temperature under which the logits explain the labels best; for validation speakers only.

    Parameters
    ----------
    logits : np.ndarray [shape=(n, 8)]
    y_true : np.ndarray of int [shape=(n,)]

    Returns
    -------
    temperature : float in [0.05, 20]

    References
    ----------
    Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML, arXiv:1706.04599.
    """

    def loss(log_temperature):
        proba = softmax(logits, temperature=np.exp(log_temperature))
        return -np.log(np.maximum(proba[np.arange(len(y_true)), y_true], 1e-12)).mean()

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))
