"""crossval: train by a recipe and score over the folds of a protocol; every score is recorded."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import softmax
from sklearn.model_selection import GroupKFold
from torch import nn

from sercore import settings
from sercore.cache import extract
from sercore.dataset import TrainingSet, Voices
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS, fit_temperature, on_shared_labels, scores, targets_of
from sercore.labels import EMOTIONS
from sercore.models import Ensemble, all_options, count_parameters, predict_logits, save_checkpoint, under_heads
from sercore.models.transcript_rnn import word_numbers
from sercore.outliers import fit_outliers
from sercore.recipes import Recipe, recipe_for
from sercore.records import KEYS, SCORE_COLUMNS, corpora_of, record, results_dir_of
from sercore.splits import Fold, hold_out_validation, make_folds
from sercore.train import FitResult, fit, processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The clips that can be used, with a feature of each, and features of its augmented copies."""

    clips: pd.DataFrame
    features: list
    copies: list | None = None
    #: The same clips as the teacher hears them, if there is one.
    teacher: "Prepared | None" = None

    def at(self, rows: np.ndarray) -> list:
        """Give the features of some rows."""
        return [self.features[i] for i in rows]


def prepare(clips: pd.DataFrame, *, recipe: Recipe = Recipe(), progress: bool = True) -> Prepared:
    """Compute the features of all clips and of their copies, leaving out clips that cannot be used.

    Copies are computed for every clip, and used only where it is a training clip.
    """
    kind, copies = recipe.kind, None
    if kind == "words":
        if missing := clips["statement"].isna().sum():
            raise ConfigError(
                f"No statement of {missing} of {len(clips)} clips, which {recipe.model} reads: expected what is said "
                "in the column `statement`; notebook 07 shows how Whisper writes it."
            )
        return Prepared(clips, [word_numbers(text) for text in clips["statement"]])
    options = {"config": recipe.features, "kind": kind, "progress": progress}
    embed = recipe.embed and replace(recipe.embed, warp=None)  # one entry in the cache, whatever the copies are
    with processes().main_process_first():  # the others then find everything in the cache
        features = extract(clips, embed=embed, on_error="warn", **options)
        usable = [feature is not None for feature in features]
        clips = clips[usable].reset_index(drop=True)
        features = [feature for feature in features if feature is not None]
        if recipe.copies:
            copies = extract(clips, augment=recipe.augment, embed=recipe.embed, copies=recipe.copies, **options)
    teacher = prepare(clips, recipe=teacher_of(recipe, clips), progress=progress) if recipe.teacher else None
    return Prepared(clips, features, copies, teacher)


def teacher_of(recipe: Recipe, clips: pd.DataFrame) -> Recipe:
    """Give the recipe of a teacher: for several corpora, or for one."""
    name = "any_voice" if clips["corpus"].nunique() > 1 else "standard"
    return replace(recipe_for(name, model=recipe.teacher), calibrate=False, across=False).seeded(recipe.train.seed)


def taught(prepared: Prepared, rows: np.ndarray, *, recipe: Recipe) -> np.ndarray | None:
    """Give what a student is to learn of training clips (n, 8): the mean of the label and of its teacher's answer.

    The teacher is trained on these clips alone, and in five parts, so that it answers on speakers that it has not met:
    of those it knows by heart it would only repeat the label. Hinton et al. (2015), arXiv:1503.02531.
    """
    if not recipe.teacher:
        return None
    teacher, clips = teacher_of(recipe, prepared.clips), prepared.clips.iloc[rows]
    goals, speakers = np.eye(len(EMOTIONS))[targets_of(clips)], clips["speaker"]
    for known, met in GroupKFold(min(5, speakers.nunique())).split(rows, groups=speakers):
        network = _fit(prepared.teacher, rows[known], teacher, progress=False).model
        answers = softmax(logits_of([network], prepared.teacher, rows[met], recipe=teacher), axis=1)
        goals[met] = (goals[met] + answers) / 2
    return goals


def training_set(prepared: Prepared, rows: np.ndarray, *, recipe: Recipe = Recipe()) -> TrainingSet:
    """Make some of the prepared clips into a training set, varied as the recipe says."""
    clips, features = prepared.clips.iloc[rows], prepared.at(rows)
    targets, voices = targets_of(clips), None
    if recipe.other_voices and recipe.train.seed % 2:
        voices = Voices(np.stack(features), targets, clips["speaker"].to_numpy(), clips["corpus"].to_numpy())
    return TrainingSet(
        features,
        targets,
        copies=[prepared.copies[i] for i in rows] if prepared.copies else None,
        config=recipe.features,
        augmented_share=recipe.augmented_share,
        warp=recipe.warp,
        max_bands=recipe.max_bands,
        max_frames=recipe.max_frames,
        groups=pd.factorize(clips["corpus"])[0] if clips["corpus"].nunique() > 1 else None,
        goals=taught(prepared, rows, recipe=recipe),
        voices=voices,
        seed=recipe.train.seed,
    )


def _fit(prepared, rows, recipe, *validation, **options) -> FitResult:
    train_set = training_set(prepared, rows, recipe=recipe)
    options |= {"feature_config": recipe.features, "model_config": recipe.model_config}
    return fit(recipe.model, train_set, *validation, config=recipe.train, **options)


def train_fold(prepared: Prepared, fold: Fold, *, recipe: Recipe = Recipe(), **options) -> FitResult:
    """Train on a fold's training clips, choosing the epoch by its validation clips; options as in `train.fit`."""
    validation = prepared.at(fold.val), targets_of(prepared.clips)[fold.val]
    return _fit(prepared, fold.train, recipe, *validation, **options)


def train_and_refit(
    prepared: Prepared, fold: Fold, *, recipe: Recipe = Recipe(), run_dir: Path | None = None, progress: bool = True
) -> tuple[nn.Module, dict]:
    """Train with validation speakers held out, then anew with them: every speaker that may be used is used.

    The first training, which `Recipe.calibrate` can leave out, says how long to train (the whole schedule or, where
    early stopping struck, up to the best epoch), and scores clips that it was not trained on, by the weights of that
    epoch: the temperature is for these scores. With `Recipe.across` there is one for each corpus. With the network come
    ``val_logits`` (None without a first training), ``val_uar``, ``epochs``, ``minutes``, ``first_minutes``, and what
    `FitResult.facts` says.
    """
    seed = recipe.train.seed
    facts = {"val_logits": None, "val_uar": None, "first_minutes": 0.0}
    options = {"progress": progress}
    rows = _heard(fold)
    if _is_across(prepared, rows, recipe):
        facts["val_logits"] = _across(prepared, rows, recipe, run_dir, **options)
    elif recipe.calibrate:
        first_dir = run_dir and run_dir / f"validation_seed{seed}"
        first = train_fold(prepared, fold, recipe=recipe, run_dir=first_dir, **options)
        scored = first.last
        if first.stopped_early:
            scored = first.model
            recipe = replace(recipe, train=replace(recipe.train, epochs=first.best_epoch))
        facts["val_logits"] = logits_of([scored], prepared, fold.val, recipe=recipe)
        facts["val_uar"] = first.history["val_uar"].max()
        facts["first_minutes"] = first.minutes
    second = _fit(prepared, rows, recipe, run_dir=run_dir and run_dir / f"seed{seed}", **options)
    facts |= {"epochs": len(second.history), "minutes": second.minutes}
    return second.model, facts | second.facts


def train_members(
    prepared: Prepared, fold: Fold, *, recipe: Recipe, seeds: tuple[int, ...], **options
) -> list[tuple[nn.Module, dict]]:
    """Train a network for each seed, as `train_and_refit` does."""
    return [train_and_refit(prepared, fold, recipe=recipe.seeded(seed), **options) for seed in seeds]


def assemble(networks: list[nn.Module], recipe: Recipe) -> tuple[str, dict, nn.Module]:
    """Let networks answer together, at the tempos of their recipe: name and options for `build_model`, and the model.

    A single network at the clip's own tempo is given back as it is.
    """
    if len(networks) == 1 and recipe.tempos == (1.0,):
        return recipe.model, recipe.model_config, networks[0]
    config = {"member": recipe.model, "n_members": len(networks), "tempos": recipe.tempos, **recipe.model_config}
    model = Ensemble(**config)
    model.members = nn.ModuleList(networks)
    return "ensemble", config, model.eval()


def logits_of(networks: list[nn.Module], prepared: Prepared, rows: np.ndarray, *, recipe: Recipe) -> np.ndarray:
    """Score some of the prepared clips by networks that answer together, [shape=(n, 8)]."""
    _, _, model = assemble(networks, recipe)
    return predict_logits(model, prepared.at(rows), config=recipe.features)


def temperature_of(members: list[tuple[nn.Module, dict]], prepared: Prepared, fold: Fold, *, recipe: Recipe) -> float:
    """Fit the temperature of networks that answer together, on clips that none was trained on.

    These are of validation speakers or, if the recipe says so, of each corpus in turn, by networks of the others: how
    sure one may be of rooms and microphones that were never met is not learned from those that were. The temperature
    is then the geometric mean over corpora.
    """
    logits = [facts["val_logits"] for _, facts in members]
    if logits[0] is None:
        return 1.0
    logits, clips = np.mean(logits, axis=0), prepared.clips
    if not _is_across(prepared, _heard(fold), recipe):
        return fit_temperature(logits, targets_of(clips)[fold.val])
    heard = clips.iloc[_heard(fold)]
    proba, truth, found = softmax(logits, axis=1), targets_of(heard), []
    for corpus in heard["corpus"].unique():
        out = (heard["corpus"] == corpus).to_numpy()
        trained_on = heard["emotion"][~out].unique()
        known = out & heard["emotion"].replace({} if "calm" in trained_on else {"calm": "neutral"}).isin(trained_on)
        scored, target = on_shared_labels(proba[known], truth[known], trained_on=trained_on)
        found.append(fit_temperature(np.log(scored.clip(min=1e-30)), target))
    return float(np.exp(np.mean(np.log(found))))


def _is_across(prepared, rows, recipe):
    return recipe.across and prepared.clips["corpus"].iloc[rows].nunique() > 1


def _heard(fold):
    return np.sort(np.concatenate([fold.train, fold.val]))


def _across(prepared, rows, recipe, run_dir, **options):
    """Score the clips of each corpus among some rows by a network that is trained on the others."""
    corpora, seed = prepared.clips["corpus"].iloc[rows].to_numpy(), recipe.train.seed
    logits = np.zeros((len(rows), len(EMOTIONS)))
    for corpus in np.unique(corpora):
        out = corpora == corpus
        folder = run_dir and run_dir / f"without_{corpus}_seed{seed}"
        network = _fit(prepared, rows[~out], recipe, run_dir=folder, **options).model
        logits[out] = logits_of([network], prepared, rows[out], recipe=recipe)
    return logits


def cross_validate(
    clips: pd.DataFrame,
    *,
    protocol: str = "speaker_5fold",
    recipe: Recipe = Recipe(),
    seeds: tuple[int, ...] = (settings.SEED,),
    folds: list[str] | None = None,
    results_dir: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train and evaluate over the folds of a protocol, recording scores and out-of-fold probabilities.

    A killed run resumes: finished folds are read from the runs folder, and the fold it was in goes on at its epoch.
    On a corpus that was left out, scores are those `sercore.evaluate.on_shared_labels`.

    Parameters
    ----------
    clips : pd.DataFrame
    protocol : str
        One of `sercore.splits.PROTOCOLS` or `ACROSS_CORPORA`.
    recipe : Recipe
    seeds : tuple of int
        Each trains a network a fold, on the same division; several are also scored together, by their mean logits.
    folds : list of str, optional
        Names of the folds to run; default all.
    results_dir : str or Path, optional
        Default: as `sercore.records.results_dir_of`.

    Returns
    -------
    table : pd.DataFrame
        `sercore.records.SCORE_COLUMNS`, one row a fold and seed, then one of the seeds together.

    Raises
    ------
    ConfigError
        If a fold or the protocol is not known.

    Examples
    --------
    >>> table = cross_validate(load_corpus("ravdess"), recipe=recipe_for("warped"), seeds=(0, 1, 2))
    >>> table.groupby("n_members")["uar"].mean()
    """
    results_dir = results_dir_of(clips, results_dir)
    folds_of(clips, protocol, recipe=recipe, names=folds)  # a wrong name is told before hours of features
    prepared = prepare(clips, recipe=recipe, progress=progress)
    clips = prepared.clips
    runs, rows = runs_dir_of(clips, recipe) / protocol, []
    for fold in folds_of(clips, protocol, recipe=recipe, names=folds):
        run_dir = runs / f"fold{fold.name}"
        members = train_members(prepared, fold, recipe=recipe, seeds=seeds, run_dir=run_dir, progress=progress)
        groups = [(seed, [member]) for seed, member in zip(seeds, members, strict=True)]
        if len(members) > 1:
            groups.append((min(seeds), members))
        for seed, group in groups:
            logits = logits_of([network for network, _ in group], prepared, fold.test, recipe=recipe)
            temperature = temperature_of(group, prepared, fold, recipe=recipe)
            proba = softmax(logits / temperature, axis=1)
            row = {"corpora": corpora_of(clips), "protocol": protocol, "fold": fold.name, "seed": seed}
            row |= {"model": recipe.model, "recipe": recipe.name, "n_members": len(group), "transductive": False}
            row |= _facts_of(group) | _scores_of(clips, proba, fold, protocol)
            rows.append(_recorded(row, clips.iloc[fold.test], proba, temperature, results_dir))
            logger.info("fold %s, seed %s, %d networks: UAR %.3f", fold.name, seed, len(group), row["uar"])
    return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))


def folds_of(
    clips: pd.DataFrame, protocol: str, *, recipe: Recipe = Recipe(), names: list[str] | None = None
) -> list[Fold]:
    """Divide a clip table, and give the folds of some names; ConfigError if one is not there."""
    folds = make_folds(clips, protocol, n_val_speakers=recipe.n_val_speakers)
    if unknown := set(names or ()) - {fold.name for fold in folds}:
        raise ConfigError(f"Bad folds {sorted(unknown)} of {protocol}: expected some of {[f.name for f in folds]}.")
    return [fold for fold in folds if names is None or fold.name in names]


def _facts_of(group):
    """What the trainings of networks that answer together say of themselves."""
    networks, facts = zip(*group, strict=True)
    told = {key: facts[0][key] for key in ("pretrained", "val_uar", "epochs", "device", "precision", "threads")}
    sums = {"parameters": sum(map(count_parameters, networks)), "minutes": sum(fact["minutes"] for fact in facts)}
    return told | sums | {key: facts[0][key] for key in ("processor", "commit")}


def _scores_of(clips, proba, fold, protocol):
    truth = targets_of(clips)[fold.test]
    if protocol == "leave_one_corpus_out":
        trained_on = clips["emotion"].drop(fold.test).unique()
        proba, truth = on_shared_labels(proba, truth, trained_on=trained_on)
    return {"n_test": len(fold.test)} | scores(truth, proba.argmax(axis=1))


def _recorded(row, clips, proba, temperature, results_dir):
    """Record a fold's probabilities, then its scores, which say where these are."""
    parts = [row[key] for key in ("corpora", "protocol", "model", "recipe", "n_members")]
    parts += [f"seed{row['seed']}", *(["pretrained"] if row["pretrained"] else [])]
    row["answers"] = "-".join(map(str, parts)) + ".csv"
    answers = pd.DataFrame(proba, columns=PROBA_COLUMNS).round(6)
    answers.insert(0, "clip", clips["clip"].to_numpy())
    answers.insert(1, "fold", row["fold"])
    answers.insert(2, "temperature", round(temperature, 4))
    record(results_dir / "out_of_fold" / row["answers"], answers, keys=("clip",))
    record(results_dir / "scores.csv", pd.DataFrame([row])[list(SCORE_COLUMNS)], keys=KEYS["scores"])
    return row


def runs_dir_of(clips: pd.DataFrame, recipe: Recipe) -> Path:
    """Name the folder of a recipe's runs: the same clips and recipe find them again, whatever the seed."""
    data = hashlib.blake2b("\n".join(sorted(clips["clip"])).encode(), digest_size=4).hexdigest()
    return settings.runs_dir() / f"{recipe.model}_{corpora_of(clips)}_{recipe.key}_{data}"


def train_final(
    clips: pd.DataFrame,
    path: str | Path,
    *,
    recipe: Recipe = Recipe(),
    seeds: tuple[int, ...] = (settings.SEED,),
    progress: bool = True,
) -> dict:
    """Train on every speaker, and write a checkpoint ready for prediction; several seeds make an ensemble.

    The state of the run is kept beside the ``.safetensors`` file, in a folder ending in ``.run``. What comes back is
    what the checkpoint says of itself.
    """
    path = Path(path)
    recipe = replace(recipe, calibrate=True)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    clips = prepared.clips
    fold = hold_out_validation(clips, n_val_speakers=recipe.n_val_speakers, seed=settings.SEED)
    run_dir = path.with_suffix(".run")
    members = train_members(prepared, fold, recipe=recipe, seeds=seeds, run_dir=run_dir, progress=progress)
    networks = [network for network, _ in members]
    if recipe.embed:
        options = all_options(recipe.model, recipe.model_config)
        name, (model_config, model) = "whisper_encoder", under_heads(networks, **options)
    else:
        name, model_config, model = assemble(networks, recipe)
    across = _is_across(prepared, _heard(fold), recipe)
    first_scored = clips["corpus"] if across else clips["speaker"].iloc[fold.val]
    facts = {
        "corpus": corpora_of(clips),
        "train_speakers": sorted(clips["speaker"].unique()),
        "n_train_clips": len(clips),
        "temperature_from": sorted(first_scored.unique()),
        "recipe": recipe.name,
        "seeds": list(seeds),
        **_facts_of(members),
    }
    facts["minutes"] += sum(fact["first_minutes"] for _, fact in members)
    outliers = None
    if recipe.kind == "log_mel":
        heard = extract(clips, config=recipe.features, progress=progress) if recipe.embed else prepared.features
        outliers = fit_outliers(heard, clips["corpus" if clips["corpus"].nunique() > 1 else "speaker"])
    if processes().is_main_process:
        save_checkpoint(
            path,
            model,
            name=name,
            model_config=model_config,
            feature_config=recipe.features,
            temperature=temperature_of(members, prepared, fold, recipe=recipe),
            info=facts,
            outliers=outliers,
        )
    return facts
