"""compare: tables over the records; designs side by side, and corpora that were left out of the training."""

from pathlib import Path

import numpy as np
import pandas as pd

from sercore import settings
from sercore.errors import ConfigError
from sercore.evaluate import (
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


def zoo_table(
    clips: pd.DataFrame, *, reference: dict | None = None, seed: int = settings.SEED,
    results_dir: str | Path | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Lay the recorded designs side by side: on unseen speakers, and on the leaky random division.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpora, and the speakers that the intervals draw from.
    reference : dict, optional
        Columns of `WHAT`: the row that the others are compared with. Default: the house CNN with the longest recipe
        and most members that is recorded.
    seed : int
        Of the networks; an ensemble's is its lowest.
    results_dir : str or Path, optional

    Returns
    -------
    table : pd.DataFrame
        One row a design and recipe, the best on unseen speakers first: ``name`` (as `records.label`) and `WHAT`;
        ``parameters, epochs, minutes, device`` of a training; for each division (``speaker``, ``random``) mean and
        deviation over folds, ``uar_speaker, uar_speaker_std, accuracy_speaker, …``, and ``folds, folds_random``;
        ``low, high`` (95 % interval of the UAR over speakers); ``difference, difference_low, difference_high`` (the
        reference's UAR minus this one's on the same clips). NaN where a division was not run.
    """
    parts = {}
    for division in ("speaker", "random"):
        try:
            scored = read_scores(clips, protocol=f"{division}_5fold", seed=seed, results_dir=results_dir)
        except ConfigError:
            if division == "random":  # one can do without
                continue
            raise
        groups = scored.groupby(WHAT)
        table = groups[["uar", "accuracy"]].agg(["mean", "std"])
        table.columns = [f"{metric}_{division}" + ("_std" if kind == "std" else "") for metric, kind in table.columns]
        table["folds" if division == "speaker" else "folds_random"] = groups.size()
        costs = groups.agg({"parameters": "max", "epochs": "max", "minutes": "mean", "device": "first"})
        parts[division] = table, costs
    table = pd.concat([scored for scored, _ in parts.values()], axis=1)
    costs = parts["speaker"][1]
    if "random" in parts:
        costs = costs.combine_first(parts["random"][1])
    table = table.join(costs).reset_index()
    table["n_members"] = table["n_members"].astype(int)
    table.insert(0, "name", [label(row) for _, row in table.iterrows()])
    table[["folds", "folds_random"]] = table.reindex(columns=["folds", "folds_random"]).fillna(0).astype(int)
    table = table.sort_values("uar_speaker", ascending=False, kind="stable", ignore_index=True)
    return _with_intervals(table, clips, reference, seed, results_dir)


def _with_intervals(table, clips, reference, seed, results_dir):
    answers = {}
    for row in table[table["folds"] > 0].itertuples():
        where = {name: getattr(row, name) for name in WHAT}
        heard, proba = read_answers(clips, seed=seed, results_dir=results_dir, **where)
        answers[row.name] = heard, proba
        table.loc[row.Index, ["low", "high"]] = bootstrap_interval(heard, proba)
    if reference:
        chosen = table[(table[list(reference)] == pd.Series(reference)).all(axis=1)]
    else:
        house = table[(table["model"] == "cnn") & ~table["transductive"].astype(bool) & (table["folds"] > 0)]
        chosen = house.sort_values(["epochs", "n_members"], ascending=False, kind="stable")
    if chosen.empty:
        return table.assign(difference=np.nan, difference_low=np.nan, difference_high=np.nan)
    best = chosen["name"].iloc[0]
    columns = ["difference", "difference_low", "difference_high"]
    table[columns] = [_difference(answers, best, name) for name in table["name"]]
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

    Parameters
    ----------
    clips : pd.DataFrame
        Of all the corpora.
    seed, results_dir, **where
        As in `sercore.records.read_scores`.

    Returns
    -------
    table : pd.DataFrame
        One row a network and left-out corpus: ``name``, `WHAT`, ``tested_on``, what `score_shared` gives, and
        ``val_uar`` (on the corpus that the first training was validated on).
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

    Clips of an emotion that was not trained on do not count; calm does, as neutral.

    Returns
    -------
    row : dict
        ``n_test, n_emotions, uar, low, high`` (95 % interval over speakers; NaN for fewer than four), ``ece,
        confidence`` (mean), ``surest_third`` (accuracy of the most confident third), ``top_label, top_share`` (of
        the most frequent answer).
    """
    calm = {} if "calm" in trained_on else {"calm": "neutral"}
    known = clips["emotion"].replace(calm).isin(trained_on).to_numpy()
    clips, proba = clips[known], proba[known]
    proba, truth = on_shared_labels(proba, targets_of(clips), trained_on=trained_on)
    clips = clips.assign(emotion=[EMOTIONS[k] for k in truth])
    few = clips["speaker"].nunique() < 4
    low, high = (np.nan, np.nan) if few else bootstrap_interval(clips, proba)
    y_pred = proba.argmax(axis=1)
    answers = np.bincount(y_pred, minlength=len(EMOTIONS))
    return {
        "n_test": len(clips),
        "n_emotions": len(np.unique(truth)),
        "uar": scores(truth, y_pred)["uar"],
        "low": low,
        "high": high,
        "ece": expected_calibration_error(proba, truth),
        "confidence": proba.max(axis=1).mean(),
        "surest_third": selective_accuracy(proba, truth, share=1 / 3),
        "top_label": EMOTIONS[answers.argmax()],
        "top_share": answers.max() / len(clips),
    }
