"""experiments: train and evaluate over the folds of a protocol, and record every score."""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import nn

from sercore import settings
from sercore.augment import SpectrogramWarp, WaveformAugment
from sercore.corpora import load_corpora
from sercore.dataset import TrainingSet
from sercore.errors import ConfigError
from sercore.evaluate import fit_temperature, on_shared_labels, scores, targets_of
from sercore.features import FeatureConfig, extract
from sercore.models import MODELS, Ensemble, all_options, count_parameters, predict_logits, save_checkpoint, softmax
from sercore.models.transcript_rnn import word_numbers
from sercore.novelty import fit_novelty
from sercore.results import RESULT_COLUMNS, commit, out_of_fold_table, record, record_name, results_dir_of
from sercore.splits import hold_out_validation, make_folds
from sercore.train import TrainConfig, fit, processes, settings_of

logger = logging.getLogger(__name__)

#: Epochs of the designs for whom one takes four to seven times as long as for the house CNN (bf16, one thread).
EPOCHS = {"cnn_transformer": 30, "resnet18": 20}

#: Test-time augmentation: a clip is heard as it is, a tenth slower and a tenth faster, as far as a warp goes in training.
TEMPOS = (0.9, 1.0, 1.1)

#: What the recipes of these names change in the documented one. Those after "warped" are for voices, rooms and
#: microphones that no corpus at hand has: no copies, whose kinds of change the warp has too, and a third of the epochs,
#: after which a network begins to know its own speakers too well.
_VOICES = {"copies": 0, "train": TrainConfig(epochs=20)}
_CLIP = {"features": FeatureConfig(level="clip")}
RECIPES = {
    "house": {},
    "warped": {"warp": SpectrogramWarp(), "tempos": TEMPOS},
    "fixed_level": _VOICES | {"warp": SpectrogramWarp()},
    "any_gain": _VOICES | {"warp": SpectrogramWarp(max_gain_db=20.0)},
    "clip_level": _VOICES | _CLIP | {"warp": SpectrogramWarp()},
    "any_microphone": _VOICES | _CLIP | {"warp": SpectrogramWarp(max_gain_db=3.0, equalizer_db=6.0, channel_share=0.4)},
    "any_voice": _VOICES | _CLIP | {
        "warp": SpectrogramWarp(
            max_gain_db=3.0, equalizer_db=6.0, channel_share=0.4, max_shift_bands=3.0, max_stretch=0.15
        )
    },
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """All that makes an experiment, but the data, the protocol and the seed.

    Attributes
    ----------
    title : str
        Key of `RECIPES`; changes nothing but the name of the scores.
    model : str
    model_config : dict
        Options of the architecture.
    features : FeatureConfig
    augment : WaveformAugment
    copies : int
        Augmented copies of each training clip; 0 for none.
    augmented_share : float in [0, 1]
    warp : SpectrogramWarp, optional
        Varies every training window anew each epoch, copies too.
    max_bands, max_frames : int
        Of the masks.
    extra : tuple of str
        Other corpora, all of whose clips are trained on besides those of a fold.
    asides : tuple of str
        Columns of the clip table, such as "sex", that the network is to tell besides the emotion.
    n_val_speakers : int
    transductive : bool
        Normalise each band by its mean and deviation over all of a speaker's clips. A test speaker's unlabelled
        clips are looked at, which a stranger's single recording does not allow: recorded apart.
    tempos : tuple of float
        At which a clip is heard when the network is tested or used, as `sercore.models.Ensemble` says.
    calibrate : bool
        Let `cross_validate` train twice a fold, the first time for the temperature; see `train_and_refit`.
    train : TrainConfig
    """

    title: str = "house"
    model: str = "cnn"
    model_config: dict = field(default_factory=dict)
    features: FeatureConfig = FeatureConfig()
    augment: WaveformAugment = WaveformAugment()
    copies: int = 6
    augmented_share: float = 0.5
    warp: SpectrogramWarp | None = None
    max_bands: int = 8
    max_frames: int = 20
    extra: tuple = ()
    asides: tuple = ()
    n_val_speakers: int = 4
    transductive: bool = False
    tempos: tuple = (1.0,)
    calibrate: bool = True
    train: TrainConfig = TrainConfig()

    @property
    def name(self):
        """What its scores are recorded under."""
        return self.model + f"_{self.title}" * (self.title != "house") + "_transductive" * self.transductive

    @property
    def key(self):
        """Short fingerprint of all but the seed, for names of folders."""
        settled = asdict(self)
        settled["model_config"] = all_options(self.model, self.model_config)
        settled["train"] = settings_of(replace(self.train, seed=settings.SEED))
        del settled["calibrate"], settled["title"], settled["tempos"]  # the trainings are the same
        for option in ("warp", "extra", "asides"):
            if not settled[option]:
                del settled[option]  # so that runs older than this option are found
        return hashlib.blake2b(json.dumps(settled, sort_keys=True).encode(), digest_size=4).hexdigest()


def recipe_for(profile=None, *, title="house", **changes):
    """Give a documented recipe in a profile.

    Parameters
    ----------
    profile : {"full", "smoke"}, optional
        Default: `settings.profile()`. "smoke" trains a few epochs on the synthetic corpus.
    title : str
        A key of `RECIPES`.
    **changes
        Other fields of `Recipe`. By default the designs of others are trained as the house CNN is, but for `EPOCHS`,
        and without a temperature, which changes no answer. With a `warp`, training lasts twice as long: what is
        never seen twice takes longer to learn.

    Returns
    -------
    recipe : Recipe

    Raises
    ------
    ConfigError
        If there is no recipe of that title.
    """
    if title not in RECIPES:
        raise ConfigError(f"Bad recipe {title!r}: expected one of {list(RECIPES)}.")
    changes = RECIPES[title] | changes
    recipe = Recipe(title=title, **changes)
    if recipe.model == "resnet18" and "model_config" not in changes:
        recipe = replace(recipe, model_config={"pretrained": True})
    if recipe.model != "cnn" and "calibrate" not in changes:
        recipe = replace(recipe, calibrate=False)
    if recipe.model in EPOCHS and "train" not in changes:
        recipe = replace(recipe, train=replace(recipe.train, epochs=EPOCHS[recipe.model]))
    if recipe.warp and "train" not in changes:
        longer = {"epochs": 2 * recipe.train.epochs, "patience": 2 * recipe.train.patience}
        recipe = replace(recipe, train=replace(recipe.train, **longer))
    if MODELS[recipe.model].kind != "log_mel":
        recipe = replace(recipe, tempos=(1.0,))
    if (profile or settings.profile()) == "smoke":
        # Few clips make few steps: smaller batches, and a mean of the weights with a shorter memory.
        recipe = replace(
            recipe,
            copies=min(recipe.copies, 1),
            n_val_speakers=2,
            train=replace(recipe.train, epochs=8, batch_size=16, ema_decay=0.9),
        )
    if MODELS[recipe.model].kind in ("egemaps", "compare"):
        recipe = replace(recipe, copies=0)  # as the field does it; and openSMILE takes its time
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
    extra : Prepared, optional
        The clips of `Recipe.extra`.
    """

    clips: pd.DataFrame
    features: list
    copies: list
    extra: "Prepared | None" = None


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
    kind = MODELS[recipe.model].kind
    if kind == "words":
        if clips["statement"].isna().any():
            raise ConfigError(
                f"No `statement` of {clips['statement'].isna().sum()} clips, which {recipe.model} reads: see sercore.transcripts."
            )
        return Prepared(clips, [word_numbers(text) for text in clips["statement"]], None)
    copies = None
    with processes().main_process_first():  # the others then find everything in the cache
        features = extract(clips, config=recipe.features, kind=kind, on_error="warn", progress=progress)
        usable = [feature is not None for feature in features]
        clips = clips[usable].reset_index(drop=True)
        features = [feature for feature in features if feature is not None]
        if recipe.copies:
            options = {"augment": recipe.augment, "copies": recipe.copies}
            copies = extract(clips, config=recipe.features, kind=kind, **options, progress=progress)
    if recipe.transductive:
        if kind != "log_mel":
            raise ConfigError(
                f"Bad option transductive for {recipe.model}: expected a model of log-mel, not of {kind}."
            )
        features, copies = _normalised_by_speaker(clips, features, copies, recipe.features)
    extra = None
    if recipe.extra:
        others = load_corpora(recipe.extra)
        if heard := sorted(set(clips["speaker"]) & set(others["speaker"])):
            raise ConfigError(
                f"Bad extra {list(recipe.extra)}: expected other speakers than {heard[:3]}, to be tested."
            )
        extra = prepare(others, recipe=replace(recipe, extra=()), progress=progress)
    return Prepared(clips, features, copies, extra)


def _normalised_by_speaker(clips, features, copies, config):
    speakers = clips["speaker"].to_numpy()
    statistics = {}
    for speaker in np.unique(speakers):
        frames = np.concatenate([features[i] for i in np.flatnonzero(speakers == speaker)], axis=1)
        statistics[speaker] = frames.mean(axis=1, keepdims=True), frames.std(axis=1, keepdims=True) + 1e-3

    def normalised(S_db, speaker):
        mean, deviation = statistics[speaker]
        return ((S_db - mean) / deviation * config.db_scale + config.db_center).astype(np.float32)

    features = [normalised(S_db, speaker) for S_db, speaker in zip(features, speakers, strict=True)]
    if copies:
        copies = [[normalised(S_db, speaker) for S_db in row] for row, speaker in zip(copies, speakers, strict=True)]
    return features, copies


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
               model_config=recipe.model_config, run_dir=run_dir, on_epoch=on_epoch, progress=progress)  # fmt: skip


def training_set(prepared, rows, *, recipe=Recipe()):
    """Make some of the prepared clips into a training set, varied as the recipe says.

    Parameters
    ----------
    prepared : Prepared
    rows : np.ndarray of int
        Positions of the training clips; all of `prepared.extra` are added to them.
    recipe : Recipe

    Returns
    -------
    train_set : sercore.dataset.TrainingSet
    """
    parts = [(prepared, rows)]
    if prepared.extra:
        parts.append((prepared.extra, range(len(prepared.extra.clips))))
    clips = pd.concat([part.clips.iloc[rows] for part, rows in parts])
    if unknown := [column for column in recipe.asides if clips[column].isna().any()]:
        raise ConfigError(f"Bad asides {unknown}: expected columns of the clip table that are known of every clip.")
    asides = [pd.factorize(clips[column], sort=True)[0] for column in recipe.asides]
    return TrainingSet(
        [part.features[i] for part, rows in parts for i in rows],
        targets_of(clips),
        copies=[part.copies[i] for part, rows in parts for i in rows] if prepared.copies else None,
        config=recipe.features,
        augmented_share=recipe.augmented_share,
        warp=recipe.warp,
        max_bands=recipe.max_bands,
        max_frames=recipe.max_frames,
        groups=pd.factorize(clips["corpus"])[0] if clips["corpus"][: len(rows)].nunique() > 1 else None,
        asides=np.stack(asides, axis=1) if asides else None,
        seed=recipe.train.seed,
    )


def train_and_refit(prepared, fold, *, recipe=Recipe(), calibrate=True, run_dir=None, progress=True):
    """Train with validation speakers held out, then anew with them: every speaker that may be heard is heard.

    The first training says how long to train, the whole schedule or, where early stopping struck, up to the best
    epoch; it also gives the temperature, for which clips are needed that the network was not trained on. It is
    the same for every seed, so that more seeds cost one training each.

    Parameters
    ----------
    prepared : Prepared
    fold : sercore.splits.Fold
    recipe : Recipe
        Its ``train.seed`` is the second training's.
    calibrate : bool
        False leaves the first training out: the second runs the whole schedule, and the temperature is 1.
    run_dir : str or Path, optional
        To resume from, and where the first training is found again by another seed.
    progress : bool

    Returns
    -------
    model : torch.nn.Module
    facts : dict
        ``temperature``, ``best_epoch`` and ``val_uar`` of the first training, its ``shared_minutes``, the second's
        ``epochs`` and ``minutes``, ``device``.
    """
    first_dir, second_dir = (
        Path(run_dir) / part if run_dir else None for part in ("validation", f"seed{recipe.train.seed}")
    )
    schedule, facts = recipe.train, {"temperature": 1.0, "shared_minutes": 0.0}
    if calibrate:
        shared = replace(recipe, train=replace(recipe.train, seed=settings.SEED))
        first = train_fold(prepared, fold, recipe=shared, run_dir=first_dir, progress=progress)
        _, _, listener = assemble([first.model], recipe)
        val_logits = predict_logits(listener, [prepared.features[i] for i in fold.val], config=recipe.features)
        schedule = replace(schedule, epochs=first.best_epoch) if first.stopped_early else schedule
        facts = {
            "temperature": fit_temperature(val_logits, targets_of(prepared.clips)[fold.val]),
            "best_epoch": first.best_epoch,
            "val_uar": first.history["val_uar"].max(),
            "shared_minutes": first.minutes,
        }
    rows = np.sort(np.concatenate([fold.train, fold.val]))
    second = fit(recipe.model, training_set(prepared, rows, recipe=recipe), config=schedule, feature_config=recipe.features,
                 model_config=recipe.model_config, run_dir=second_dir, progress=progress)  # fmt: skip
    epochs = len(second.history)
    return second.model, facts | {"epochs": epochs, "minutes": second.minutes, "device": second.device}


def assemble(networks, recipe):
    """Let trained networks answer together, at the tempos of their recipe.

    Parameters
    ----------
    networks : list of torch.nn.Module
    recipe : Recipe

    Returns
    -------
    name : str
    model_config : dict
        What `sercore.models.build_model` makes the like of it from.
    model : torch.nn.Module
        A single network that is to hear the clip at its own tempo is given back as it is.
    """
    if len(networks) == 1 and recipe.tempos == (1.0,):
        return recipe.model, recipe.model_config, networks[0]
    config = {"member": recipe.model, "n_members": len(networks), "tempos": recipe.tempos, **recipe.model_config}
    model = Ensemble(**config)
    model.members = nn.ModuleList(networks)
    return "ensemble", config, model.eval()


def cross_validate(clips, *, protocol="speaker_5fold", recipe=Recipe(), seeds=(settings.SEED,), folds=None,
                   results_dir=None, progress=True):  # fmt: skip
    """Train and evaluate over the folds of a protocol, recording scores and out-of-fold probabilities.

    A killed run resumes: finished folds are read from the runs folder, and the fold it was in goes on at its epoch.
    With several seeds, their networks are also scored together, by the mean of their logits, as another model
    whose name ends in ``_ensemble``.

    Parameters
    ----------
    clips : pd.DataFrame
        A clip table.
    protocol : str
        One of `sercore.splits.PROTOCOLS` or `ACROSS_CORPORA`.
    recipe : Recipe
    seeds : sequence of int
        Each trains a network a fold. The folds and their validation speakers are the same for all.
    folds : list of str, optional
        Names of the folds to run; default all.
    results_dir : str or Path, optional
        Default: as `sercore.results.results_dir_of`. Scores go to ``{model}_{protocol}.csv``, probabilities to
        ``out_of_fold/{model}_{protocol}_seed{seed}.csv``. On a corpus that was left out, scores are those
        `on_shared_labels`.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        `sercore.results.RESULT_COLUMNS`, one row a fold and seed, the ensemble's after its seeds'.
    """
    results_dir = results_dir_of(clips, results_dir)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    targets = targets_of(prepared.clips)
    all_folds = make_folds(prepared.clips, protocol, n_val_speakers=recipe.n_val_speakers)
    if unknown := set(folds or ()) - {fold.name for fold in all_folds}:
        raise ConfigError(f"Bad folds {sorted(unknown)} of {protocol}: expected some of {[f.name for f in all_folds]}.")
    runs = runs_dir_of(prepared.clips, recipe) / protocol
    rows = []

    def score(name, seed, fold, logits, facts):
        temperature, truth = facts["temperature"], targets[fold.test]
        proba = softmax(logits, temperature=temperature)
        if protocol == "leave_one_corpus_out":
            heard = prepared.clips["emotion"].drop(fold.test).unique()
            proba, truth = on_shared_labels(proba, truth, heard=heard)
        rows.append({
            "model": name, "protocol": protocol, "fold": fold.name, "seed": seed, "n_test": len(fold.test),
            **scores(truth, proba.argmax(axis=1)), **facts, "commit": commit(),
        })  # fmt: skip
        file = record_name(prepared.clips, name, protocol)
        record(results_dir / f"{file}.csv", pd.DataFrame(rows[-1:])[list(RESULT_COLUMNS)],
               keys=["model", "protocol", "fold", "seed"])  # fmt: skip
        part = out_of_fold_table(prepared.clips.iloc[fold.test], logits, fold=fold.name, temperature=temperature)
        record(results_dir / "out_of_fold" / f"{file}_seed{seed}.csv", part, keys=["clip"])
        logger.info("%s, fold %s, seed %s: UAR %.3f", name, fold.name, seed, rows[-1]["uar"])

    for fold in all_folds if folds is None else [fold for fold in all_folds if fold.name in folds]:
        members = []
        for seed in seeds:
            seeded = replace(recipe, train=replace(recipe.train, seed=seed))
            model, facts = train_and_refit(
                prepared, fold, recipe=seeded, calibrate=recipe.calibrate, run_dir=runs / f"fold{fold.name}",
                progress=progress,
            )  # fmt: skip
            _, _, listener = assemble([model], recipe)
            logits = predict_logits(listener, [prepared.features[i] for i in fold.test], config=recipe.features)
            # The same design, but another experiment: weights that could be fetched when it was run.
            name = recipe.name + "_imagenet" * getattr(model, "pretrained", False)
            facts = {key: facts.get(key) for key in ("temperature", "val_uar", "epochs", "minutes", "device")}
            members.append((logits, facts | {"parameters": count_parameters(model)}))
            score(name, seed, fold, *members[-1])
        if len(seeds) > 1:
            together = members[0][1] | {
                "parameters": sum(facts["parameters"] for _, facts in members),
                "minutes": sum(facts["minutes"] for _, facts in members),
            }
            logits = np.mean([logits for logits, _ in members], axis=0)
            score(f"{name}_ensemble", min(seeds), fold, logits, together)
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def runs_dir_of(clips, recipe):
    """Name the folder of an experiment's runs: the same data and recipe find them again, whatever the seed.

    Parameters
    ----------
    clips : pd.DataFrame
    recipe : Recipe

    Returns
    -------
    folder : Path
    """
    corpus = "+".join(sorted(clips["corpus"].unique()))
    return settings.runs_dir() / f"{recipe.model}_{corpus}_{recipe.key}"


def train_final(clips, path, *, recipe=Recipe(), seeds=(settings.SEED,), info=None, progress=True):
    """Train on every speaker, and write a checkpoint ready for prediction.

    Parameters
    ----------
    clips : pd.DataFrame
    path : str or Path
        Where the ``.safetensors`` file goes; the state of the run is kept beside it, in a folder ending in ``.run``.
    recipe : Recipe
    seeds : sequence of int
        More than one make an ensemble of as many members.
    info : dict, optional
        What the checkpoint should say of itself besides how it was trained.
    progress : bool

    Returns
    -------
    facts : dict
        What the checkpoint says of itself.
    """
    if recipe.transductive:
        raise ConfigError("No checkpoint of a transductive recipe: it needs many clips of each speaker to predict.")
    path = Path(path)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    fold = hold_out_validation(prepared.clips, n_val_speakers=recipe.n_val_speakers, seed=settings.SEED)
    members, minutes = [], 0.0
    for seed in seeds:
        seeded = replace(recipe, train=replace(recipe.train, seed=seed))
        model, facts = train_and_refit(
            prepared, fold, recipe=seeded, run_dir=path.with_suffix(".run"), progress=progress
        )
        members.append(model)
        minutes += facts["minutes"]
    minutes += facts.pop("shared_minutes")
    name, model_config, model = assemble(members, recipe)
    temperature = facts.pop("temperature")
    facts |= {
        "corpus": "+".join(sorted(prepared.clips["corpus"].unique())),
        "train_speakers": sorted(prepared.clips["speaker"].unique()),
        "n_train_clips": len(prepared.clips),
        "temperature_from": sorted(prepared.clips["speaker"].iloc[fold.val].unique()),
        "seeds": list(seeds),
        "minutes": minutes,
        "parameters": count_parameters(model),
        "commit": commit(),
    } | (info or {})
    pictures = MODELS[recipe.model].kind == "log_mel"
    novelty = fit_novelty(prepared.features, prepared.clips["speaker"]) if pictures else None
    if processes().is_main_process:
        save_checkpoint(path, model, name=name, model_config=model_config, feature_config=recipe.features,
                        temperature=temperature, info=facts, novelty=novelty)  # fmt: skip
    return facts
