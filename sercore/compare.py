"""compare: tables over the records; designs side by side, and corpora that were left out of the training."""

from pathlib import Path

import numpy as np
import pandas as pd

from sercore import settings
from sercore.errors import ConfigError
from sercore.evaluate import (
    METRICS,
    bootstrap_interval,
    expected_calibration_error,
    on_shared_labels,
    paired_difference,
    scores,
    selective_accuracy,
    targets_of,
)
from sercore.labels import EMOTIONS
from sercore.records import label, read_answers, read_scores

#: What tells one experiment from another, whatever the fold and protocol.
WHAT = ["model", "recipe", "n_members", "transductive", "pretrained"]
_NOT_RUN = dict.fromkeys(
    ("uar_random", "uar_random_std", "accuracy_random", "accuracy_random_std", "uar_speaker"), np.nan
)


def over_folds(table: pd.DataFrame) -> pd.DataFrame:
    """Give mean and deviation over folds of every metric in rows of scores; seeds are averaged within a fold first."""
    return table.groupby("fold")[list(METRICS)].mean().agg(["mean", "std"])


def zoo_table(clips: pd.DataFrame, *, results_dir: str | Path | None = None) -> pd.DataFrame:
    """Lay the recorded designs side by side: on unseen speakers, and on the leaky random division.

    Means are over all seeds, intervals and differences those of the lowest; ConfigError if nothing is recorded.

    Returns
    -------
    table : pd.DataFrame
        One row a design and recipe, the best on unseen speakers first: ``name`` (as `records.label`) and `WHAT`;
        ``parameters, epochs, minutes, device`` of a training; for each division (``speaker``, ``random``) mean and
        deviation over folds, ``uar_speaker, uar_speaker_std, accuracy_speaker, …``, and ``folds, folds_random``;
        ``low, high`` (95 % interval of the UAR over speakers); ``difference, difference_low, difference_high`` (by how
        much the house CNN with the longest recipe and most members is ahead on the same clips). NaN where a division
        was not run.

    Examples
    --------
    >>> zoo_table(clips)[["name", "uar_speaker", "uar_random"]]
    """
    rows = {}
    for division, folds in (("speaker", "folds"), ("random", "folds_random")):
        try:
            scored = read_scores(clips, protocol=f"{division}_5fold", results_dir=results_dir)
        except ConfigError:
            if division == "random":  # one can do without
                continue
            raise
        for what, part in scored.groupby(WHAT):
            costs = part[["parameters", "epochs", "device"]].iloc[0].to_dict() | {"minutes": part["minutes"].mean()}
            row = rows.setdefault(what, dict(zip(WHAT, what, strict=True)) | costs | {"folds": 0, "folds_random": 0})
            row |= {folds: part["fold"].nunique(), "seed": part["seed"].min()}
            for metric, values in over_folds(part)[["uar", "accuracy"]].items():
                row[f"{metric}_{division}"], row[f"{metric}_{division}_std"] = values
    table = pd.DataFrame([{"name": label(row), **_NOT_RUN, **row} for row in rows.values()])
    table = table.sort_values("uar_speaker", ascending=False, kind="stable", ignore_index=True)
    answers = {}
    for row in table[table["folds"] > 0].itertuples():
        where = {name: getattr(row, name) for name in WHAT}
        answers[row.name] = read_answers(clips, seed=row.seed, results_dir=results_dir, **where)
        table.loc[row.Index, ["low", "high"]] = bootstrap_interval(*answers[row.name])
    house = table[(table["model"] == "cnn") & ~table["transductive"].astype(bool) & (table["folds"] > 0)]
    best = house.sort_values(["epochs", "n_members"], ascending=False, kind="stable")["name"].head(1).tolist()
    columns = ["difference", "difference_low", "difference_high"]
    table[columns] = [_difference(answers, *best, name) if best else (np.nan,) * 3 for name in table["name"]]
    return table


def _difference(answers, reference, name):
    """By how much the reference is ahead, with its interval, on the clips that both have answered."""
    if name == reference or name not in answers or reference not in answers:
        return (np.nan,) * 3
    (heard, proba), (others, other) = answers[reference], answers[name]
    here, there = (one["clip"].isin(two["clip"]).to_numpy() for one, two in ((heard, others), (others, heard)))
    return paired_difference(heard[here], proba[here], other[there])


def corpora_table(
    clips: pd.DataFrame, *, seed: int = settings.SEED, results_dir: str | Path | None = None, **where
) -> pd.DataFrame:
    """Lay side by side how networks do on corpora that were left out of their training.

    Options as in `sercore.records.read_scores`; one row a network and corpus: ``name``, `WHAT`, ``tested_on``, what
    `score_shared` gives, and ``val_uar`` (on the corpus that the first training was validated on).
    """
    protocol, rows = "leave_one_corpus_out", []
    scored = read_scores(clips, protocol=protocol, seed=seed, results_dir=results_dir, **where)
    for what, part in scored.groupby(WHAT, sort=False):
        facts = dict(zip(WHAT, what, strict=True))
        tested, proba = read_answers(clips, protocol=protocol, seed=seed, results_dir=results_dir, **facts)
        for fold in part.itertuples():
            here = (tested["corpus"] == fold.fold).to_numpy()
            trained_on = tuple(clips.loc[clips["corpus"] != fold.fold, "emotion"].unique())
            row = {"name": label(facts), **facts, "tested_on": fold.fold}
            row |= score_shared(tested[here], proba[here], trained_on=trained_on)
            rows.append(row | {"val_uar": fold.val_uar})
    return pd.DataFrame(rows)


def score_shared(clips: pd.DataFrame, proba: np.ndarray, *, trained_on: tuple[str, ...] = EMOTIONS) -> dict:
    """Score answers on a corpus that was not trained on, over the emotions it shares with the training.

    Clips of an emotion that was not trained on do not count; calm does, as neutral. Gives ``n_test, n_emotions, uar,
    low, high`` (95 % interval over speakers; NaN for fewer than four), ``ece``, ``surest_third`` (accuracy of the most
    confident third) and what `answers_of` gives.
    """
    calm = {} if "calm" in trained_on else {"calm": "neutral"}
    known = clips["emotion"].replace(calm).isin(trained_on).to_numpy()
    clips, proba = clips[known], proba[known]
    proba, truth = on_shared_labels(proba, targets_of(clips), trained_on=trained_on)
    clips = clips.assign(emotion=[EMOTIONS[k] for k in truth])
    few = clips["speaker"].nunique() < 4
    low, high = (np.nan, np.nan) if few else bootstrap_interval(clips, proba)
    y_pred = proba.argmax(axis=1)
    return {
        "n_test": len(clips),
        "n_emotions": len(np.unique(truth)),
        "uar": scores(truth, y_pred)["uar"],
        "low": low,
        "high": high,
        "ece": expected_calibration_error(proba, truth),
        "surest_third": selective_accuracy(proba, truth, share=1 / 3),
        **answers_of(proba),
    }


def answers_of(proba: np.ndarray) -> dict:
    """Sum up answers without their truth: mean ``confidence``, ``top_label`` and ``top_share`` of the most frequent."""
    counts = np.bincount(proba.argmax(axis=1), minlength=len(EMOTIONS))
    top = {"top_label": EMOTIONS[counts.argmax()], "top_share": counts.max() / len(proba)}
    return {"confidence": proba.max(axis=1).mean()} | top
