"""experiments: train and evaluate over the folds of a protocol, and record every score."""

import hashlib
import json
import logging
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from sercore import settings
from sercore.augment import WaveformAugment
from sercore.dataset import TrainingSet
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS, fit_temperature, scores, targets_of
from sercore.features import FeatureConfig, extract
from sercore.models import count_parameters, predict_logits, save_checkpoint, softmax
from sercore.splits import hold_out_validation, make_folds
from sercore.train import TrainConfig, fit, processes

logger = logging.getLogger(__name__)

#: Columns of data/results/*.csv, one row a fold.
RESULT_COLUMNS = (
    "model", "protocol", "fold", "seed", "n_test", "accuracy", "uar", "macro_f1", "parameters", "minutes", "device", "commit",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """All that makes an experiment, but the data, the protocol and the seed.

    Attributes
    ----------
    model : str
    features : FeatureConfig
    augment : WaveformAugment
    copies : int
        Augmented copies of each training clip; 0 for none.
    augmented_share : float in [0, 1]
    max_bands, max_frames : int
        Of the masks.
    n_val_speakers : int
    train : TrainConfig
    """

    model: str = "cnn"
    features: FeatureConfig = FeatureConfig()
    augment: WaveformAugment = WaveformAugment()
    copies: int = 6
    augmented_share: float = 0.5
    max_bands: int = 8
    max_frames: int = 20
    n_val_speakers: int = 2
    train: TrainConfig = TrainConfig()

    @property
    def key(self):
        """Short fingerprint, for names of folders."""
        return hashlib.blake2b(json.dumps(asdict(self), sort_keys=True).encode(), digest_size=4).hexdigest()


def recipe_for(profile=None, **changes):
    """Give the documented recipe of a profile.

    Parameters
    ----------
    profile : {"full", "smoke"}, optional
        Default: `settings.profile()`. "smoke" trains a few epochs on the synthetic corpus.
    **changes
        Other fields of `Recipe`.

    Returns
    -------
    recipe : Recipe
    """
    recipe = Recipe(**changes)
    if (profile or settings.profile()) == "smoke":
        # Few clips make few steps: smaller batches, and a mean of the weights with a shorter memory.
        recipe = replace(recipe, copies=1, train=replace(recipe.train, epochs=8, batch_size=16, ema_decay=0.9))
    return recipe


@dataclass(frozen=True)
class Prepared:
    """Clips with their features: what `prepare` computes once for all folds.

    Attributes
    ----------
    clips : pd.DataFrame [shape=(n, ...)]
        The clips that can be used.
    features : list of np.ndarray [shape=(n_mels, n_frames)]
    copies : list of list of np.ndarray
    """

    clips: pd.DataFrame
    features: list
    copies: list


def prepare(clips, *, recipe=Recipe(), progress=True):
    """Compute the features of all clips, and of their augmented copies, leaving out clips that cannot be used.

    Copies are computed for every clip and used only where it is a training clip.

    Parameters
    ----------
    clips : pd.DataFrame
    recipe : Recipe
    progress : bool

    Returns
    -------
    prepared : Prepared
    """
    copies = None
    with processes().main_process_first():  # the others then find everything in the cache
        features = extract(clips, config=recipe.features, on_error="warn", progress=progress)
        usable = [feature is not None for feature in features]
        clips = clips[usable].reset_index(drop=True)
        features = [feature for feature in features if feature is not None]
        if recipe.copies:
            options = {"augment": recipe.augment, "copies": recipe.copies}
            copies = extract(clips, config=recipe.features, **options, progress=progress)
    return Prepared(clips, features, copies)


def train_fold(prepared, fold, *, recipe=Recipe(), run_dir=None, on_epoch=None, progress=True):
    """Train on one fold's training clips, choosing the epoch by its validation clips.

    Parameters
    ----------
    prepared : Prepared
    fold : sercore.splits.Fold
    recipe : Recipe
    run_dir : str or Path, optional
        To resume from.
    on_epoch : callable, optional
        As in `sercore.train.fit`.
    progress : bool

    Returns
    -------
    result : sercore.train.FitResult
    """
    val_features = [prepared.features[i] for i in fold.val]
    return fit(recipe.model, training_set(prepared, fold.train, recipe=recipe), val_features,
               targets_of(prepared.clips)[fold.val], config=recipe.train, feature_config=recipe.features,
               run_dir=run_dir, on_epoch=on_epoch, progress=progress)  # fmt: skip


def training_set(prepared, rows, *, recipe=Recipe()):
    """Make some of the prepared clips into a training set, varied as the recipe says.

    Parameters
    ----------
    prepared : Prepared
    rows : np.ndarray of int
        Positions of the training clips.
    recipe : Recipe

    Returns
    -------
    train_set : sercore.dataset.TrainingSet
    """
    return TrainingSet(
        [prepared.features[i] for i in rows],
        targets_of(prepared.clips)[rows],
        copies=[prepared.copies[i] for i in rows] if prepared.copies else None,
        config=recipe.features,
        augmented_share=recipe.augmented_share,
        max_bands=recipe.max_bands,
        max_frames=recipe.max_frames,
        seed=recipe.train.seed,
    )


def train_and_refit(prepared, fold, *, recipe=Recipe(), run_dir=None, progress=True):
    """Train with validation speakers held out, then anew with them: every speaker that may be heard is heard.

    The first training says how long to train, the whole schedule or, where early stopping struck, up to the best
    epoch; it also gives the temperature, for which clips are needed that the network was not trained on.

    Parameters
    ----------
    prepared : Prepared
    fold : sercore.splits.Fold
    recipe : Recipe
    run_dir : str or Path, optional
        To resume from.
    progress : bool

    Returns
    -------
    model : torch.nn.Module
    facts : dict
        ``temperature``, ``best_epoch`` and ``val_uar`` of the first training, ``minutes`` of both, ``device``.
    """
    first = train_fold(prepared, fold, recipe=recipe, run_dir=run_dir, progress=progress)
    val_logits = predict_logits(first.model, [prepared.features[i] for i in fold.val], config=recipe.features)
    schedule = replace(recipe.train, epochs=first.best_epoch) if first.stopped_early else recipe.train
    rows = np.sort(np.concatenate([fold.train, fold.val]))
    second = fit(recipe.model, training_set(prepared, rows, recipe=recipe), config=schedule, feature_config=recipe.features,
                 run_dir=Path(run_dir) / "refit" if run_dir else None, progress=progress)  # fmt: skip
    return second.model, {
        "temperature": fit_temperature(val_logits, targets_of(prepared.clips)[fold.val]),
        "best_epoch": first.best_epoch,
        "val_uar": first.history["val_uar"].max(),
        "minutes": first.minutes + second.minutes,
        "device": second.device,
    }


def cross_validate(clips, *, protocol="speaker_5fold", recipe=Recipe(), folds=None, results_dir=None, progress=True):
    """Train and evaluate over the folds of a protocol, recording scores and out-of-fold probabilities.

    A killed run resumes: finished folds are read from the runs folder, and the fold it was in goes on at its epoch.

    Parameters
    ----------
    clips : pd.DataFrame
        A clip table.
    protocol : str
        One of `sercore.splits.PROTOCOLS`.
    recipe : Recipe
        Its ``train.seed`` is the seed of all: folds' validation speakers, augmentation and training.
    folds : list of str, optional
        Names of the folds to run; default all.
    results_dir : str or Path, optional
        Default: as `results_dir_of`. Scores go to ``{model}_{protocol}.csv``, probabilities to
        ``out_of_fold/{model}_{protocol}_seed{seed}.csv``.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        `RESULT_COLUMNS`, one row a fold.
    """
    seed = recipe.train.seed
    results_dir = results_dir_of(clips, results_dir)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    targets = targets_of(prepared.clips)
    corpus = "+".join(sorted(prepared.clips["corpus"].unique()))
    all_folds = make_folds(prepared.clips, protocol, seed=seed, n_val_speakers=recipe.n_val_speakers)
    if unknown := set(folds or ()) - {fold.name for fold in all_folds}:
        raise ConfigError(f"Bad folds {sorted(unknown)} of {protocol}: expected some of {[f.name for f in all_folds]}.")
    run = f"{recipe.model}_{corpus}_{protocol}_seed{seed}_{recipe.key}"
    rows = []
    for fold in all_folds if folds is None else [fold for fold in all_folds if fold.name in folds]:
        run_dir = settings.runs_dir() / run / f"fold{fold.name}"
        model, facts = train_and_refit(prepared, fold, recipe=recipe, run_dir=run_dir, progress=progress)
        logits = predict_logits(model, [prepared.features[i] for i in fold.test], config=recipe.features)
        rows.append({
            "model": recipe.model, "protocol": protocol, "fold": fold.name, "seed": seed, "n_test": len(fold.test),
            **scores(targets[fold.test], logits.argmax(axis=1)), "parameters": count_parameters(model),
            "minutes": facts["minutes"], "device": facts["device"], "commit": _commit(),
        })  # fmt: skip
        _record(
            results_dir / f"{recipe.model}_{protocol}.csv",
            pd.DataFrame(rows[-1:]),
            ["model", "protocol", "fold", "seed"],
        )
        part = _out_of_fold(prepared.clips.iloc[fold.test], logits, fold.name, facts["temperature"])
        _record(results_dir / "out_of_fold" / f"{recipe.model}_{protocol}_seed{seed}.csv", part, ["clip"])
        logger.info("fold %s: UAR %.3f, accuracy %.3f", fold.name, rows[-1]["uar"], rows[-1]["accuracy"])
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def results_dir_of(clips, results_dir=None):
    """Tell where the scores of a corpus are kept: those on synthetic speech never among the results.

    Parameters
    ----------
    clips : pd.DataFrame
    results_dir : str or Path, optional
        Overrules.

    Returns
    -------
    folder : Path
        `settings.results_dir()`, or ``synthetic_results`` in `settings.runs_dir()`.
    """
    if results_dir:
        return Path(results_dir)
    synthetic = "synthetic" in set(clips["corpus"])
    return settings.runs_dir() / "synthetic_results" if synthetic else settings.results_dir()


def _out_of_fold(clips, logits, fold, temperature):
    table = pd.DataFrame(softmax(logits, temperature=temperature), columns=PROBA_COLUMNS).round(6)
    table.insert(0, "clip", [Path(path).stem for path in clips["path"]])
    table.insert(1, "fold", fold)
    table.insert(2, "temperature", round(temperature, 4))
    return table


def read_scores(clips, *, model="cnn", protocol="speaker_5fold", seed=settings.SEED, results_dir=None):
    """Read the recorded scores of a model under a protocol.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpus.
    model, protocol : str
    seed : int
    results_dir : str or Path, optional
        As in `cross_validate`.

    Returns
    -------
    table : pd.DataFrame
        `RESULT_COLUMNS`, one row a fold.

    Raises
    ------
    ConfigError
        If there are none.
    """
    path = results_dir_of(clips, results_dir) / f"{model}_{protocol}.csv"
    if not path.is_file():
        raise ConfigError(f"No scores at {path.name}: run `sercore crossval --model {model} --protocol {protocol}`.")
    table = pd.read_csv(path, dtype={"fold": str, "commit": str})
    return table[table["seed"] == seed].reset_index(drop=True)


def read_out_of_fold(
    clips, *, model="cnn", protocol="speaker_5fold", seed=settings.SEED, results_dir=None, columns=PROBA_COLUMNS
):
    """Read recorded out-of-fold probabilities, in the order of a clip table.

    Parameters
    ----------
    clips : pd.DataFrame
        Its clips without a recorded probability are left out.
    model, protocol : str
    seed : int
    results_dir : str or Path, optional
        As in `cross_validate`.
    columns : list of str
        What to read; "temperature" is there too.

    Returns
    -------
    clips : pd.DataFrame [shape=(n, ...)]
    proba : np.ndarray [shape=(n, len(columns))]
        Each from the one model that had not met the clip (nor, by speaker, its speaker).
    """
    path = results_dir_of(clips, results_dir) / "out_of_fold" / f"{model}_{protocol}_seed{seed}.csv"
    recorded = pd.read_csv(path, index_col="clip")
    names = clips["path"].map(lambda p: Path(p).stem)
    known = names.isin(recorded.index).to_numpy()
    return clips[known].reset_index(drop=True), recorded.loc[names[known], columns].to_numpy()


def _record(path, rows, keys):
    """Put rows into a CSV in place of those with the same keys, written whole or not at all."""
    if not processes().is_main_process:
        return
    if path.exists():
        old = pd.read_csv(path, dtype={"fold": str, "commit": str})
        merged = old.merge(rows[keys].astype(old[keys].dtypes), on=keys, how="left", indicator=True)
        rows = pd.concat([old[(merged["_merge"] == "left_only").to_numpy()], rows], ignore_index=True)
    rows = rows.sort_values(keys, kind="stable")
    settings.write_atomic(path, rows.to_csv(index=False, float_format="%.6g").encode())


def _commit():
    """Short hash of the checkout, with "+" after it if files differ from it; "unknown" outside of one."""

    def git(*words):
        done = subprocess.run(["git", *words], cwd=Path(__file__).parent, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    try:
        head = git("rev-parse", "--short=10", "HEAD")
        return f"{head}{'+' if git('status', '--porcelain', '--', '*.py') else ''}" if head else "unknown"
    except OSError:
        return "unknown"


def train_final(clips, path, *, recipe=Recipe(), info=None, progress=True):
    """Train on every speaker, and write a checkpoint ready for prediction.

    Parameters
    ----------
    clips : pd.DataFrame
    path : str or Path
        Where the ``.safetensors`` file goes; the state of the run is kept beside it, in a folder ending in ``.run``.
    recipe : Recipe
    info : dict, optional
        What the checkpoint should say of itself besides how it was trained.
    progress : bool

    Returns
    -------
    facts : dict
        What the checkpoint says of itself.
    """
    path = Path(path)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    fold = hold_out_validation(prepared.clips, n_val_speakers=recipe.n_val_speakers, seed=recipe.train.seed)
    model, facts = train_and_refit(prepared, fold, recipe=recipe, run_dir=path.with_suffix(".run"), progress=progress)
    temperature = facts.pop("temperature")
    facts |= {
        "corpus": "+".join(sorted(prepared.clips["corpus"].unique())),
        "train_speakers": sorted(prepared.clips["speaker"].unique()),
        "n_train_clips": len(prepared.clips),
        "temperature_from": sorted(prepared.clips["speaker"].iloc[fold.val].unique()),
        "seed": recipe.train.seed,
        "parameters": count_parameters(model),
        "commit": _commit(),
    } | (info or {})
    if processes().is_main_process:
        save_checkpoint(
            path, model, name=recipe.model, feature_config=recipe.features, temperature=temperature, info=facts
        )
    return facts
