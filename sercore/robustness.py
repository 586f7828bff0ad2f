"""robustness: what noise costs, and what a corpus costs that a network was not trained on."""

import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.special import softmax
from sklearn.model_selection import GroupKFold

from sercore import settings
from sercore.audio import load_audio
from sercore.augment import add_babble, add_noise
from sercore.cache import extract
from sercore.compare import answers_of, score_shared
from sercore.crossval import assemble, folds_of, logits_of, prepare, runs_dir_of, temperature_of, train_members
from sercore.errors import ConfigError
from sercore.evaluate import bootstrap_interval, expected_calibration_error, scores, targets_of
from sercore.features import compute
from sercore.labels import EMOTIONS
from sercore.models import load_checkpoint, predict_logits
from sercore.recipes import Recipe
from sercore.records import KEYS, corpora_of, record, results_dir_of
from sercore.splits import Fold

#: What is added to test clips.
NOISES = {
    "white": lambda y, sr, snr_db, rng: add_noise(y, snr_db=snr_db, rng=rng),
    "babble": lambda y, sr, snr_db, rng: add_babble(y, sr=sr, snr_db=snr_db, rng=rng),
}


def noise_robustness(
    clips: pd.DataFrame, *, recipe: Recipe = Recipe(), seeds: tuple[int, ...] = (settings.SEED,),
    protocol: str = "speaker_5fold", kinds: tuple[str, ...] = tuple(NOISES),
    snrs_db: tuple[float, ...] = (20, 10, 5, 0), results_dir: str | Path | None = None, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Score the networks of a cross-validation on their test clips in noise, recording it in noise.csv.

    The noise is added to the recording as it is, before trimming, as a microphone would hear it. The networks are read
    from the runs folder, or trained if they are not there. One row a ``noise`` and ``snr_db`` (quiet: "none", infinity)
    has ``accuracy, uar, macro_f1, low, high`` (95 % interval of the UAR over speakers) and ``ece``.
    """
    if unknown := set(kinds) - set(NOISES):
        raise ConfigError(f"Bad noises {sorted(unknown)}: expected some of {list(NOISES)}.")
    results_dir = results_dir_of(clips, results_dir)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    clips, targets = prepared.clips, targets_of(prepared.clips)
    conditions = [("none", np.inf), *product(kinds, map(float, snrs_db))]
    proba = np.zeros((len(conditions), len(clips), len(EMOTIONS)))
    commit = ""
    for fold in folds_of(clips, protocol, recipe=recipe):
        run_dir = runs_dir_of(clips, recipe) / protocol / f"fold{fold.name}"
        members = train_members(prepared, fold, recipe=recipe, seeds=seeds, run_dir=run_dir, progress=progress)
        _, _, model = assemble([network for network, _ in members], recipe)
        temperature, commit = temperature_of(members, prepared, fold, recipe=recipe), members[0][1]["commit"]
        tested = clips.iloc[fold.test]
        for i, (noise, snr_db) in enumerate(conditions):
            how = (noise, snr_db, recipe.features, recipe.kind, recipe.embed)
            tasks = (delayed(_in_noise)(*clip, *how) for clip in zip(tested["path"], tested["clip"], strict=True))
            features = Parallel(n_jobs=-1)(tasks)
            proba[i, fold.test] = softmax(predict_logits(model, features, config=recipe.features) / temperature, axis=1)
    rows = []
    for (noise, snr_db), p in zip(conditions, proba, strict=True):
        row = {"corpora": corpora_of(clips), "protocol": protocol, "model": recipe.model, "recipe": recipe.name}
        row |= {"n_members": len(seeds), "noise": noise, "snr_db": snr_db} | scores(targets, p.argmax(axis=1))
        row["low"], row["high"] = bootstrap_interval(clips, p)
        rows.append(row | {"ece": expected_calibration_error(p, targets), "commit": commit})
    record(results_dir / "noise.csv", table := pd.DataFrame(rows), keys=KEYS["noise"])
    return table


def _in_noise(path, clip, noise, snr_db, config, kind, embed):
    y = load_audio(path, sr=config.sr)
    if noise != "none":
        rng = np.random.default_rng(zlib.crc32(clip.encode()))
        y = NOISES[noise](y, sr=config.sr, snr_db=snr_db, rng=rng)
    feature = compute(y, config=config, kind=kind)
    return embed(feature) if embed else feature


def transfer(
    clips: pd.DataFrame, checkpoint: str | Path, *, results_dir: str | Path | None = None, progress: bool = True
) -> pd.DataFrame:
    """Score a checkpoint on a corpus it was not trained on, in one row that is recorded in transfer.csv.

    Scores are over the emotions that the corpus has; ``uar_shared`` sets aside answers that it does not have.
    ConfigError if the checkpoint was trained on one of the speakers.
    """
    model, metadata = load_checkpoint(checkpoint)
    config, info = metadata["feature_config"], metadata["info"]
    if known := set(info.get("train_speakers", ())) & set(clips["speaker"]):
        name = Path(checkpoint).name
        raise ConfigError(f"{name} was trained on {sorted(known)[:3]}: `sercore evaluate` leaves them out.")
    features = extract(clips, config=config, kind=model.kind, on_error="warn", progress=progress)
    usable = [feature is not None for feature in features]
    clips = clips[usable].reset_index(drop=True)
    logits = predict_logits(model, [feature for feature in features if feature is not None], config=config)
    proba, targets = softmax(logits / metadata["temperature"], axis=1), targets_of(clips)
    low, high = bootstrap_interval(clips, proba)
    shared = np.isin(np.arange(len(EMOTIONS)), targets)
    y_pred = proba.argmax(axis=1)
    row = {
        "model": Path(checkpoint).stem,
        "trained_on": info.get("corpus", "unknown"),
        "tested_on": corpora_of(clips),
        "n_test": len(clips),
        "n_emotions": int(shared.sum()),
        **scores(targets, y_pred),
        "low": low,
        "high": high,
        "uar_shared": scores(targets, np.where(shared, proba, -1).argmax(axis=1))["uar"],
        "ece": expected_calibration_error(proba, targets),
        **answers_of(proba),
        "commit": settings.commit(),
    }
    record(results_dir_of(clips, results_dir) / "transfer.csv", table := pd.DataFrame([row]), keys=KEYS["transfer"])
    return table


def corpus_matrix(
    clips: pd.DataFrame, *, recipe: Recipe = Recipe(), results_dir: str | Path | None = None, progress: bool = True
) -> pd.DataFrame:
    """Train on each corpus alone and test on every one, recording it in matrix.csv.

    Within a corpus it is three networks (or as many as there are speakers), each tested on speakers that it was not
    trained on; on the others, one network tested on them whole. Rows are those of `score_shared`.
    """
    recipe, rows = replace(recipe, calibrate=False), []
    results_dir = results_dir_of(clips, results_dir)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    clips = prepared.clips
    corpora, nobody = clips["corpus"].to_numpy(), np.array([], dtype=int)
    for trained in np.unique(corpora):
        own, proba = np.flatnonzero(corpora == trained), np.zeros((len(clips), len(EMOTIONS)))
        speakers = clips["speaker"].iloc[own]
        parts = GroupKFold(min(3, speakers.nunique())).split(own, groups=speakers)
        folds = [Fold(str(k), own[train], nobody, own[test]) for k, (train, test) in enumerate(parts)]
        folds.append(Fold("all", own, nobody, np.flatnonzero(corpora != trained)))
        for fold in folds:
            run_dir = runs_dir_of(clips, recipe) / "matrix" / trained / fold.name
            seeds = (recipe.train.seed,)
            members = train_members(prepared, fold, recipe=recipe, seeds=seeds, run_dir=run_dir, progress=progress)
            proba[fold.test] = softmax(logits_of([members[0][0]], prepared, fold.test, recipe=recipe), axis=1)
        for tested in np.unique(corpora):
            here = corpora == tested
            row = {"model": recipe.model, "recipe": recipe.name, "trained_on": trained, "tested_on": tested}
            row |= score_shared(clips[here], proba[here], trained_on=tuple(clips["emotion"].iloc[own].unique()))
            rows.append(row | {"commit": members[0][1]["commit"]})
    record(results_dir / "matrix.csv", table := pd.DataFrame(rows), keys=KEYS["matrix"])
    return table
