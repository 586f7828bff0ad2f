"""evaluate: what a model is worth on unseen speakers, with how sure we can be of that."""

import numpy as np
import pandas as pd
import scipy.optimize
from scipy.special import log_softmax
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support, recall_score

from sercore import settings
from sercore.errors import ConfigError
from sercore.labels import EMOTIONS

PROBA_COLUMNS = [f"p_{emotion}" for emotion in EMOTIONS]
METRICS = ("accuracy", "uar", "macro_f1")


def scores(y_true: np.ndarray, y_pred: np.ndarray) -> dict:
    """Compute accuracy, unweighted average recall (UAR) and macro-F1, each in [0, 1].

    Parameters
    ----------
    y_true, y_pred : np.ndarray of int [shape=(n,)]
        Positions in `sercore.labels.EMOTIONS`.

    Returns
    -------
    scores : dict
        ``accuracy``, ``uar`` (the mean recall of the emotions that occur) and ``macro_f1``.

    Raises
    ------
    ConfigError
        If there is no clip, or the two differ in length.

    Examples
    --------
    >>> scores([0, 0, 0, 1], [0, 0, 0, 0])["uar"]
    0.5
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if not len(y_true) or len(y_true) != len(y_pred):
        raise ConfigError(
            f"Bad lengths: {len(y_true)} labels and {len(y_pred)} predictions; expected as many of both, at least one."
        )
    options = {"labels": np.unique(y_true), "average": "macro", "zero_division": 0}
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "uar": float(recall_score(y_true, y_pred, **options)),
        "macro_f1": float(f1_score(y_true, y_pred, **options)),
    }


def chance(y_true: np.ndarray) -> float:
    """Give the UAR that guessing reaches: one divided by the number of emotions that occur."""
    return 1 / len(np.unique(y_true))


def confusion(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """Count what was taken for what, [shape=(8, 8)]: rows are the true emotions, columns the predicted ones."""
    return confusion_matrix(y_true, y_pred, labels=range(len(EMOTIONS)))


def per_emotion(y_true: np.ndarray, y_pred: np.ndarray) -> pd.DataFrame:
    """Tabulate ``emotion, precision, recall, f1, n`` (clips) of every emotion."""
    values = precision_recall_fscore_support(y_true, y_pred, labels=range(len(EMOTIONS)), zero_division=0)
    return pd.DataFrame(dict(zip(("emotion", "precision", "recall", "f1", "n"), (EMOTIONS, *values), strict=True)))


def score_table(clips: pd.DataFrame, proba: np.ndarray, *, by: str = "speaker") -> pd.DataFrame:
    """Score each group of clips on its own: `by`, ``n, accuracy, uar, macro_f1``, one row a group.

    `by` is a column of `clips`, such as "speaker", "sex" or "intensity"; clips without a value are "not stated".
    ConfigError if there is no such column, or `clips` does not match `proba` [shape=(n, 8)].
    """
    if by not in clips:
        raise ConfigError(f"Bad column {by!r}: expected one of {list(clips.columns)}.")
    y_true, y_pred = targets_of(clips), _argmax(clips, proba)
    groups = clips[by].astype(object).where(clips[by].notna(), "not stated").to_numpy()
    rows = []
    for group in sorted(set(groups), key=str):
        here = groups == group
        rows.append({by: group, "n": int(here.sum())} | scores(y_true[here], y_pred[here]))
    return pd.DataFrame(rows)


def targets_of(clips: pd.DataFrame) -> np.ndarray:
    """Give the emotions of a clip table as positions; ConfigError if one is none of the eight."""
    if unknown := set(clips["emotion"]) - set(EMOTIONS):
        raise ConfigError(f"Bad emotions {sorted(map(str, unknown))}: expected {list(EMOTIONS)}.")
    return clips["emotion"].map(EMOTIONS.index).to_numpy(dtype=np.int64)


def _argmax(clips, proba):
    proba = np.asarray(proba)
    if proba.shape != (len(clips), len(EMOTIONS)):
        raise ConfigError(f"Bad shape {proba.shape} of the probabilities: expected {(len(clips), len(EMOTIONS))}.")
    return proba.argmax(axis=1)


def bootstrap_interval(
    clips: pd.DataFrame,
    proba: np.ndarray,
    *,
    metric: str = "uar",
    level: float = 0.95,
    n_draws: int = 2000,
    seed: int = settings.SEED,
) -> tuple[float, float]:
    """Estimate how far a score would move with other speakers, by drawing speakers with replacement.

    Clips of one speaker depend on each other, so whole speakers are drawn: an interval over clips would be too narrow.

    Parameters
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, 8)]
    metric : {"accuracy", "uar", "macro_f1"}
    level : float in (0, 1)
    n_draws, seed : int

    Returns
    -------
    low, high : float
        Percentiles (Efron & Tibshirani 1993, "An Introduction to the Bootstrap"); resampled by cluster as in Field &
        Welsh (2007), doi:10.1111/j.1467-9868.2007.00593.x.

    Examples
    --------
    >>> tested, proba = read_answers(clips, model="cnn")
    >>> low, high = bootstrap_interval(tested, proba)
    """
    values = _redrawn(clips, proba, metric, n_draws, seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(
    clips: pd.DataFrame,
    proba: np.ndarray,
    other: np.ndarray,
    *,
    metric: str = "uar",
    level: float = 0.95,
    n_draws: int = 2000,
    seed: int = settings.SEED,
) -> tuple[float, float, float]:
    """Estimate by how much one model is better than another on the same clips: difference, and its interval.

    Both are scored on the same drawn speakers: what makes a speaker hard for both does not blur the difference. Options
    are those of `bootstrap_interval`.
    """
    whole = [_metric_of_counts(confusion(targets_of(clips), _argmax(clips, p)), metric) for p in (proba, other)]
    one, two = (_redrawn(clips, p, metric, n_draws, seed) for p in (proba, other))
    low, high = np.quantile(one - two, [(1 - level) / 2, (1 + level) / 2])
    return float(whole[0] - whole[1]), float(low), float(high)


def _redrawn(clips, proba, metric, n_draws, seed):
    """Score redrawn speakers: an array [shape=(n_draws,)], the same draws for every model."""
    # Scores depend on the counts alone: one confusion matrix a speaker makes thousands of draws a single product,
    # where scikit-learn would take seconds.
    y_true, y_pred, speakers = targets_of(clips), _argmax(clips, proba), clips["speaker"].to_numpy()
    names = np.unique(speakers)
    counts = np.stack([confusion(y_true[speakers == name], y_pred[speakers == name]) for name in names])
    draws = np.random.default_rng(seed).integers(len(names), size=(n_draws, len(names)))
    times = np.stack([(draws == k).sum(axis=1) for k in range(len(names))], axis=1)
    return _metric_of_counts(np.tensordot(times, counts, axes=1), metric)


def _metric_of_counts(counts, metric):
    """Score confusion counts [shape=(..., 8, 8)]; emotions that do not occur are left out."""
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    n_true, n_pred = counts.sum(axis=-1), counts.sum(axis=-2)
    if metric not in METRICS:
        raise ConfigError(f"Bad metric {metric!r}: expected one of {list(METRICS)}.")
    if metric == "accuracy":
        return hits.sum(axis=-1) / n_true.sum(axis=-1)
    parts = hits / np.maximum(n_true, 1) if metric == "uar" else 2 * hits / np.maximum(n_true + n_pred, 1)
    return (parts * (n_true > 0)).sum(axis=-1) / (n_true > 0).sum(axis=-1)


def reliability(proba: np.ndarray, y_true: np.ndarray) -> pd.DataFrame:
    """Compare confidence with accuracy in ten equal bins of confidence: ``low, high, confidence, accuracy, n``."""
    proba, y_true = np.asarray(proba), np.asarray(y_true)
    edges = np.linspace(0, 1, 11)
    table = pd.DataFrame({"confidence": proba.max(axis=1), "accuracy": proba.argmax(axis=1) == y_true})
    table["bin"] = np.clip(np.digitize(table["confidence"], edges[1:-1], right=True), 0, 9)
    means = table.groupby("bin").mean().assign(n=table["bin"].value_counts())
    means.insert(0, "low", edges[means.index])
    means.insert(1, "high", edges[means.index + 1])
    return means.reset_index(drop=True)


def expected_calibration_error(proba: np.ndarray, y_true: np.ndarray) -> float:
    """Average the gap between confidence and accuracy over clips (Naeini et al. 2015, AAAI)."""
    table = reliability(proba, y_true)
    return float(np.average((table["confidence"] - table["accuracy"]).abs(), weights=table["n"]))


def selective_accuracy(proba: np.ndarray, y_true: np.ndarray, *, share: float = 0.5) -> float:
    """Score the `share` of clips that a model is most confident of (Geifman & El-Yaniv 2017, arXiv:1705.08500)."""
    if not 0 < share <= 1:
        raise ConfigError(f"Bad share {share!r}: expected more than 0, at most 1.")
    proba, y_true = np.asarray(proba), np.asarray(y_true)
    surest = np.argsort(-proba.max(axis=1), kind="stable")[: max(1, round(share * len(proba)))]
    return float((proba.argmax(axis=1) == y_true)[surest].mean())


def on_shared_labels(
    proba: np.ndarray, y_true: np.ndarray, *, trained_on: tuple[str, ...] = EMOTIONS
) -> tuple[np.ndarray, np.ndarray]:
    """Score answers on a corpus by the emotions that it shares with the training data (`trained_on`).

    Calm counts as neutral wherever one side does not tell them apart. Emotions that the corpus does not have are no
    answers: their probability is shared out among the others, and each row still adds up to 1.
    """
    proba, y_true = np.array(proba, dtype=float), np.array(y_true)
    calm, neutral = (EMOTIONS.index(name) if name in EMOTIONS else None for name in ("calm", "neutral"))
    if None not in (calm, neutral) and ("calm" not in trained_on or calm not in y_true):
        proba[:, neutral] += proba[:, calm]
        proba[:, calm] = 0.0
        y_true[y_true == calm] = neutral
    shared = np.isin(np.arange(len(EMOTIONS)), y_true)
    proba[:, ~shared] = 0.0
    # An answer that lies with other emotions altogether says nothing about these.
    proba += 1e-9 * shared
    return proba / proba.sum(axis=1, keepdims=True), y_true


def fit_temperature(logits: np.ndarray, y_true: np.ndarray) -> float:
    """Find the temperature in [0.05, 20] that explains the labels best; for validation speakers only.

    Guo et al. (2017), "On Calibration of Modern Neural Networks", ICML, arXiv:1706.04599.
    """
    logits, rows = np.asarray(logits, dtype=float), np.arange(len(y_true))

    def loss(log_temperature):
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, y_true].clip(min=np.log(1e-12)).mean()

    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=np.log([0.05, 20.0]), method="bounded").x))
