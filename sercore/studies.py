"""studies: what each part of the recipe buys, and what noise costs, measured over the same folds."""

import logging
import time
import zlib
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from sklearn.metrics import cohen_kappa_score

from sercore import settings
from sercore.audio import load_audio
from sercore.augment import SpectrogramWarp, add_babble, add_noise
from sercore.corpora.synthetic import synthesize
from sercore.errors import ConfigError
from sercore.evaluate import (
    bootstrap_interval,
    expected_calibration_error,
    paired_difference,
    scores,
    targets_of,
)
from sercore.experiments import RECIPES, TEMPOS, Recipe, assemble, prepare, runs_dir_of, train_and_refit, train_fold
from sercore.features import FeatureConfig, compute, extract
from sercore.labels import EMOTIONS
from sercore.models import HOUSE, MODELS, build_model, count_parameters, load_checkpoint, predict_logits, softmax
from sercore.models.cnn import WIDTHS
from sercore.models.transcript_rnn import word_numbers
from sercore.results import (
    commit,
    design_of,
    read_out_of_fold,
    record,
    record_name,
    results_dir_of,
    scores_or_none,
)
from sercore.splits import make_folds

logger = logging.getLogger(__name__)

#: What `noise_robustness` adds to test clips.
NOISES = {
    "white": lambda y, sr, snr_db, rng: add_noise(y, snr_db=snr_db, rng=rng),
    "babble": lambda y, sr, snr_db, rng: add_babble(y, sr=sr, snr_db=snr_db, rng=rng),
}


def ablation_variants(recipe):
    """List the recipe's variants: one change each, and those together that were promising alone.

    Parameters
    ----------
    recipe : Recipe

    Returns
    -------
    variants : dict of str to Recipe
        The recipe itself is "recipe".
    """
    features, widths = recipe.features, recipe.model_config.get("widths", WIDTHS)

    def spectrum(**changes):
        options = recipe.model_config | {key: value for key, value in changes.items() if key == "n_mels"}
        return replace(recipe, features=replace(features, **changes), model_config=options)

    def model(**changes):
        return replace(recipe, model_config=recipe.model_config | changes)

    def training(**changes):
        return replace(recipe, train=replace(recipe.train, **changes))

    twice = training(epochs=2 * recipe.train.epochs, patience=2 * recipe.train.patience)
    longer = replace(twice, warp=SpectrogramWarp())
    return {
        "recipe": recipe,
        "40 mel bands": spectrum(n_mels=40),
        "128 mel bands": spectrum(n_mels=128),
        "level per clip": spectrum(level="clip"),
        "crops of 144 frames": spectrum(n_frames=144),
        "crops of 96 frames": spectrum(n_frames=96),
        "no augmented copies": replace(recipe, copies=0),
        "6 of 7 clips augmented": replace(recipe, augmented_share=6 / 7),
        "no masks": replace(recipe, max_bands=0, max_frames=0),
        "wide masks": replace(recipe, max_bands=16, max_frames=48),
        "mixup": training(mixup_alpha=0.3),
        "no label smoothing": training(label_smoothing=0.0),
        "no running mean": training(ema_decay=0.0),
        "half the epochs": training(epochs=max(1, recipe.train.epochs // 2)),
        "twice the epochs": twice,
        "plain residual blocks": replace(recipe, model="resnet_blocks", model_config={}),
        "warped": replace(recipe, warp=SpectrogramWarp()),
        "warped and twice the epochs": longer,
        "warped and twice the epochs with plain residual blocks": replace(
            longer, model="resnet_blocks", model_config={}
        ),
        "heard at three tempos": replace(recipe, tempos=TEMPOS),
        "warped and twice the epochs at three tempos": replace(longer, tempos=TEMPOS),
        "pool by mean": model(pool="mean"),
        "pool by statistics": model(pool="statistics"),
        "no squeeze-excitation": model(excite=False),
        "with a GRU": model(context="gru"),
        "with self-attention": model(context="attention"),
        "half the width": model(widths=tuple(width // 2 for width in widths)),
        "twice the width": model(widths=tuple(width * 2 for width in widths)),
        "TESS and EMO-DB as extra data": replace(recipe, extra=("tess", "emodb")),
        "20 epochs of filling gaps before": training(gap_epochs=20),
        "filling gaps before and extra data": replace(training(gap_epochs=20), extra=("tess", "emodb")),
        "sex and intensity told too": replace(model(n_classes=len(EMOTIONS) + 4), asides=("sex", "intensity")),
    }


def ablate(
    clips, *, recipe=Recipe(), variants=None, seeds=(settings.SEED,), folds=None, results_dir=None, progress=True
):
    """Train variants of a recipe, and score each on validation speakers: no test speaker has a say in a choice.

    Every fold of `speaker_5fold` gives up its test speakers altogether; of its others, `recipe.n_val_speakers`
    are scored, with the weights of the last epoch.

    Parameters
    ----------
    clips : pd.DataFrame
    recipe : Recipe
    variants : sequence of str, optional
        Names from `ablation_variants`; default all.
    seeds : sequence of int
    folds : list of str, optional
    results_dir : str or Path, optional
        Default: as `sercore.results.results_dir_of`; scores go to ``ablation.csv``.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        Columns ``variant, fold, seed, uar, loss, parameters, minutes, device, commit``.
    """
    results_dir, known = results_dir_of(clips, results_dir), ablation_variants(recipe)
    if unknown := set(variants or ()) - set(known):
        raise ConfigError(f"Bad variants {sorted(unknown)}: expected some of {list(known)}.")
    rows = []
    for name in variants or known:
        prepared = prepare(clips, recipe=known[name], progress=progress)
        all_folds = make_folds(prepared.clips, "speaker_5fold", n_val_speakers=recipe.n_val_speakers)
        if unknown := set(folds or ()) - {fold.name for fold in all_folds}:
            raise ConfigError(f"Bad folds {sorted(unknown)}: expected some of {[fold.name for fold in all_folds]}.")
        for seed, fold in product(seeds, all_folds):
            if folds is not None and fold.name not in folds:
                continue
            seeded = replace(known[name], train=replace(known[name].train, seed=seed))
            part = "validation" if seed == settings.SEED else f"validation_seed{seed}"
            run_dir = runs_dir_of(prepared.clips, seeded) / "speaker_5fold" / f"fold{fold.name}" / part
            result = train_fold(prepared, fold, recipe=seeded, run_dir=run_dir, progress=progress)
            uar, loss = result.history[["val_uar", "val_loss"]].iloc[-1]
            if seeded.tempos != (1.0,):
                uar, loss = _scores_at_tempos(result.last, prepared, fold.val, seeded)
            rows.append({
                "variant": name, "fold": fold.name, "seed": seed, "uar": uar, "loss": loss,
                "parameters": count_parameters(result.model), "minutes": result.minutes, "device": result.device,
                "commit": commit(),
            })  # fmt: skip
            record(results_dir / "ablation.csv", pd.DataFrame(rows[-1:]), keys=["variant", "fold", "seed"])
            logger.info("%s, fold %s, seed %s: UAR %.3f", name, fold.name, seed, uar)
    return pd.DataFrame(rows)


def _scores_at_tempos(network, prepared, rows, recipe):
    """What training writes into its history of one tempo: UAR and cross-entropy."""
    _, _, listener = assemble([network], recipe)
    logits = predict_logits(listener, [prepared.features[i] for i in rows], config=recipe.features)
    targets = targets_of(prepared.clips)[rows]
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.as_tensor(targets))
    return scores(targets, logits.argmax(axis=1))["uar"], float(loss)


def noise_robustness(clips, *, recipe=Recipe(), seeds=(settings.SEED,), protocol="speaker_5fold", kinds=tuple(NOISES),
                     snrs_db=(20, 10, 5, 0), results_dir=None, progress=True):  # fmt: skip
    """Score the networks of a cross-validation on their test clips in noise.

    The noise is added to the recording as it is, before trimming, as a microphone would hear it.

    Parameters
    ----------
    clips : pd.DataFrame
    recipe, seeds, protocol
        Of the `cross_validate` whose networks are read from the runs folder, or trained if they are not there.
    kinds : sequence of str
        Keys of `NOISES`.
    snrs_db : sequence of float [dB]
    results_dir : str or Path, optional
        Default: as `sercore.results.results_dir_of`; scores go to ``noise_{model}_{protocol}.csv``.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        Columns ``model, noise, snr_db, accuracy, uar, macro_f1, low, high`` (95 % interval of the UAR over
        speakers) ``, ece, commit``; the first row is the quiet recordings'.
    """
    if recipe.transductive or set(kinds) - set(NOISES):
        raise ConfigError(f"Bad noises {sorted(kinds)}: expected some of {list(NOISES)}, and no transductive recipe.")
    results_dir = results_dir_of(clips, results_dir)
    prepared = prepare(clips, recipe=recipe, progress=progress)
    conditions = [("none", np.inf), *product(kinds, snrs_db)]
    proba = np.zeros((len(conditions), len(prepared.clips), len(EMOTIONS)))
    for fold in make_folds(prepared.clips, protocol, n_val_speakers=recipe.n_val_speakers):
        run_dir = runs_dir_of(prepared.clips, recipe) / protocol / f"fold{fold.name}"
        members = []
        for seed in seeds:
            seeded = replace(recipe, train=replace(recipe.train, seed=seed))
            members.append(train_and_refit(prepared, fold, recipe=seeded, run_dir=run_dir, progress=progress))
        for i, (kind, snr_db) in enumerate(conditions):
            tasks = (
                delayed(_in_noise)(path, kind, snr_db, recipe.features, MODELS[recipe.model].kind)
                for path in prepared.clips["path"].iloc[fold.test]
            )
            features = Parallel(n_jobs=-1)(tasks)
            _, _, listener = assemble([model for model, _ in members], recipe)
            logits = predict_logits(listener, features, config=recipe.features)
            proba[i, fold.test] = softmax(logits, temperature=members[0][1]["temperature"])
    targets = targets_of(prepared.clips)
    rows = []
    for (kind, snr_db), p in zip(conditions, proba, strict=True):
        low, high = bootstrap_interval(prepared.clips, p)
        rows.append({
            "model": recipe.name + "_ensemble" * (len(seeds) > 1), "noise": kind, "snr_db": snr_db,
            **scores(targets, p.argmax(axis=1)), "low": low, "high": high,
            "ece": expected_calibration_error(p, targets), "commit": commit(),
        })  # fmt: skip
    table = pd.DataFrame(rows)
    file = record_name(prepared.clips, table["model"][0], protocol)
    record(results_dir / f"noise_{file}.csv", table, keys=["model", "noise", "snr_db"])
    return table


def transfer(clips, checkpoint, *, results_dir=None, progress=True):
    """Score a checkpoint on a corpus it was not trained on, over the emotions that the corpus has.

    Parameters
    ----------
    clips : pd.DataFrame
    checkpoint : str or Path
    results_dir : str or Path, optional
        Default: as `sercore.results.results_dir_of`; scores go to ``transfer.csv``.
    progress : bool

    Returns
    -------
    table : pd.DataFrame
        One row: ``model, trained_on, tested_on, n_test, n_emotions, accuracy, uar, macro_f1, low, high`` (95 %
        interval of the UAR over speakers) ``, uar_shared`` (answers the corpus does not have set aside)
        ``, ece, confidence`` (mean) ``, top_label, top_share`` (of the most frequent answer) ``, commit``.

    Raises
    ------
    ConfigError
        If the checkpoint has heard one of the speakers.
    """
    results_dir = results_dir_of(clips, results_dir)
    model, metadata = load_checkpoint(checkpoint)
    config, info = metadata["feature_config"], metadata["info"]
    if heard := set(info.get("train_speakers", ())) & set(clips["speaker"]):
        raise ConfigError(
            f"{Path(checkpoint).name} was trained on {sorted(heard)[:3]}: `sercore evaluate` leaves them out."
        )
    features = extract(clips, config=config, kind=model.kind, on_error="warn", progress=progress)
    usable = [feature is not None for feature in features]
    clips = clips[usable].reset_index(drop=True)
    logits = predict_logits(model, [feature for feature in features if feature is not None], config=config)
    proba, targets = softmax(logits, temperature=metadata["temperature"]), targets_of(clips)
    low, high = bootstrap_interval(clips, proba)
    shared = np.isin(np.arange(len(EMOTIONS)), targets)
    answers = np.bincount(proba.argmax(axis=1), minlength=len(EMOTIONS))
    table = pd.DataFrame([{
        "model": Path(checkpoint).stem, "trained_on": info.get("corpus", "unknown"),
        "tested_on": "+".join(sorted(clips["corpus"].unique())), "n_test": len(clips), "n_emotions": int(shared.sum()),
        **scores(targets, proba.argmax(axis=1)), "low": low, "high": high,
        "uar_shared": scores(targets, np.where(shared, proba, -1).argmax(axis=1))["uar"],
        "ece": expected_calibration_error(proba, targets), "confidence": proba.max(axis=1).mean(),
        "top_label": EMOTIONS[answers.argmax()], "top_share": answers.max() / len(clips), "commit": commit(),
    }])  # fmt: skip
    record(results_dir / "transfer.csv", table, keys=["model", "tested_on"])
    return table


def _in_noise(path, noise, snr_db, config, kind):
    y = load_audio(path, sr=config.sr)
    if noise != "none":
        rng = np.random.default_rng(zlib.crc32(Path(path).stem.encode()))
        y = NOISES[noise](y, sr=config.sr, snr_db=snr_db, rng=rng)
    return compute(y, config=config, kind=kind)


#: The rows of `zoo_table`: the classical baseline, the designs of others, the words alone, and the house CNN.
ZOO = (
    "functionals_svm", "conv1d", "cnn_basic", "two_channel", "resnet_blocks", "resnet18", "resnet18_imagenet",
    "cnn_transformer", "transcript_rnn", "cnn", "cnn_ensemble", "cnn_warped",
    "cnn_warped_ensemble",
)  # fmt: skip


def zoo_model(name):
    """Build the untrained network of a row of `zoo_table`.

    Parameters
    ----------
    name : str
        A key of `sercore.models.MODELS`, perhaps with a recipe's title and ``_ensemble`` after it.

    Returns
    -------
    model : torch.nn.Module
    """
    member, rest = design_of(name)
    tempos = RECIPES.get(rest.removesuffix("_ensemble").strip("_"), {}).get("tempos", (1.0,))
    n_members = 3 if rest.endswith("_ensemble") else 1
    if n_members == 1 and tempos == (1.0,):
        return build_model(member)
    return build_model("ensemble", member=member, n_members=n_members, tempos=tempos)


def zoo_table(clips, *, models=ZOO, seed=settings.SEED, results_dir=None):
    """Lay the recorded scores of several designs side by side: by speaker, and on the leaky random split.

    Parameters
    ----------
    clips : pd.DataFrame
        Tells the corpus, and the speakers that the intervals draw from.
    models : sequence of str
        In the order of the table. Those without a record are left out.
    seed : int
        Of the networks; an ensemble's is its lowest.
    results_dir : str or Path, optional
        As in `cross_validate`.

    Returns
    -------
    table : pd.DataFrame
        One row a model: ``model, parameters, epochs, minutes`` (of the training, mean over folds; of the folds by
        speaker if there are any), ``device``; then for each division mean and deviation over folds and how many folds
        are recorded: ``accuracy_random, accuracy_random_std, uar_random, uar_random_std, folds_random``, and
        ``accuracy_speaker, accuracy_speaker_std, uar_speaker, uar_speaker_std, folds``; then ``low, high`` (95 %
        interval of the UAR by speaker, over speakers), and ``difference, difference_low, difference_high`` (UAR of the first of
        `sercore.models.HOUSE` that is recorded, minus this one's on the same clips). NaN where a protocol was not run.

    Raises
    ------
    ConfigError
        If nothing is recorded.
    """
    results_dir, rows, probas = results_dir_of(clips, results_dir), [], {}
    for name in models:
        row = {"model": name, "parameters": np.nan, "epochs": np.nan, "minutes": np.nan, "device": ""}
        found = False
        for protocol in ("random_5fold", "speaker_5fold"):
            scored = scores_or_none(clips, name, protocol, seed, results_dir)
            found |= len(scored) > 0
            for metric in ("accuracy", "uar"):
                column = f"{metric}_{protocol.removesuffix('_5fold')}"
                row |= {column: scored[metric].mean(), f"{column}_std": scored[metric].std()}
            row["folds" if protocol == "speaker_5fold" else "folds_random"] = len(scored)
            if len(scored):
                row |= {"parameters": scored["parameters"].max(), "epochs": scored["epochs"].max()}
                row["minutes"] = scored["minutes"].mean()
                row["device"] = "+".join(sorted(scored["device"].unique()))
        row |= {"low": np.nan, "high": np.nan}
        if row["folds"]:
            heard, proba = read_out_of_fold(clips, model=name, seed=seed, results_dir=results_dir)
            row["low"], row["high"] = bootstrap_interval(heard, proba)
            probas[name] = pd.DataFrame(proba, index=heard["path"])
        rows += [row] if found else []
    if not rows:
        raise ConfigError(f"No scores of {list(models)} in {results_dir.name}: run `sercore crossval --model NAME`.")
    table = pd.DataFrame(rows)
    house = next((name for name in HOUSE if name in probas), "cnn")
    columns = ["difference", "difference_low", "difference_high"]
    table[columns] = [_behind(clips, probas, house, name) for name in table["model"]]
    return table


def _behind(clips, probas, house, name):
    if name == house or not {name, house} <= set(probas):
        return (np.nan,) * 3
    both = clips[clips["path"].isin(probas[name].index) & clips["path"].isin(probas[house].index)]
    return paired_difference(both, *(probas[key].loc[both["path"]].to_numpy() for key in (house, name)))


def shared_errors(clips, *, models, protocol="speaker_5fold", seed=settings.SEED, results_dir=None):
    """Compare where several designs go wrong, on the clips that all of them have been scored on.

    Parameters
    ----------
    clips : pd.DataFrame
    models : sequence of str
        With recorded out-of-fold probabilities.
    protocol : str
    seed : int
    results_dir : str or Path, optional
        As in `cross_validate`.

    Returns
    -------
    kappa : pd.DataFrame [shape=(n_models, n_models)]
        Cohen's kappa of being right: 1 if two fail on the same clips, 0 if they agree no more than chance has it.
    heard : pd.DataFrame
        The clips, with the columns ``n_right`` (models that are right) and ``taken_for`` (their commonest answer).

    References
    ----------
    Cohen (1960), "A coefficient of agreement for nominal scales", doi:10.1177/001316446002000104.
    """
    answers = {}
    for model in models:
        heard, proba = read_out_of_fold(clips, model=model, protocol=protocol, seed=seed, results_dir=results_dir)
        answers[model] = pd.Series(proba.argmax(axis=1), index=heard["path"])
    answers = pd.DataFrame(answers).dropna().astype(int)
    heard = clips[clips["path"].isin(answers.index)].reset_index(drop=True)
    answers = answers.loc[heard["path"]].to_numpy()
    right = answers == targets_of(heard)[:, None]
    kappa = [[cohen_kappa_score(a, b) for b in right.T] for a in right.T]
    commonest = [EMOTIONS[np.bincount(row).argmax()] for row in answers]
    heard = heard.assign(n_right=right.sum(axis=1), taken_for=commonest)
    return pd.DataFrame(kappa, index=list(models), columns=list(models)), heard


def ablation_differences(table, *, reference="recipe"):
    """Compare variants with the recipe, fold by fold.

    The recipe's UAR on a fold is the mean over its seeds: all variants lean on it, so it should be steadier than they.

    Parameters
    ----------
    table : pd.DataFrame
        From `ablate`.
    reference : str
        The variant that the others are compared with.

    Returns
    -------
    differences : pd.DataFrame
        ``variant, difference`` (mean UAR minus the reference's on the same fold), ``error`` (standard error of that
        mean) and ``n`` (the variant's folds and seeds), the best first. The reference is not among them.

    Raises
    ------
    ConfigError
        If the reference was not run on any fold of another variant.
    """
    uar = table.pivot_table(index=["fold", "seed"], columns="variant", values="uar")
    if reference not in uar:
        raise ConfigError(f"No variant {reference!r} to compare with: expected one of {sorted(uar.columns)}.")
    steady = uar[reference].groupby("fold").transform("mean")
    differences = uar.drop(columns=reference).sub(steady, axis=0).agg(["mean", "sem", "count"]).T
    differences = differences[differences["count"] > 0].sort_values("mean", ascending=False, kind="stable")
    if differences.empty:
        raise ConfigError(f"No variant shares a fold with {reference!r}: run `sercore ablate`.")
    differences.columns = ["difference", "error", "n"]
    return differences.astype({"n": int}).reset_index()


def milliseconds_a_clip(name, *, clips=None, n=20, seconds=3.0, config=FeatureConfig()):
    """Measure how long one answer takes on this machine, one clip at a time, torch on one thread.

    Parameters
    ----------
    name : str
        As in `zoo_model`. Weights are untrained: they do not change the time.
    clips : pd.DataFrame, optional
        Whose first recordings are used; default: synthetic speech.
    n : int
        Answers that are timed, after one that is not.
    seconds : float [s]
        Each recording is cut, or repeated, to this.
    config : FeatureConfig

    Returns
    -------
    milliseconds : float
        Median, from a decoded waveform to the scores; of the network alone if it reads words.
    """
    model, n_samples = zoo_model(name), round(seconds * config.sr)
    if hasattr(model, "fit_closed"):
        model.fit_closed(np.random.default_rng(settings.SEED).normal(size=(80, 196)), np.arange(80) % 8, seed=0)
    if model.kind == "words":
        inputs = [word_numbers("Kids are talking by the door.")] * (n + 1)
    elif clips is None:
        inputs = [synthesize(EMOTIONS[k % 8], sr=config.sr) for k in range(min(n + 1, 8))]
    else:
        inputs = [load_audio(path, sr=config.sr) for path in clips["path"].head(n + 1)]
    n_threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for k in range(n + 1):
            x = inputs[k % len(inputs)]
            y = x if model.kind == "words" else np.resize(x, n_samples)
            started = time.perf_counter()
            feature = y if model.kind == "words" else compute(y, config=config, kind=model.kind)
            predict_logits(model, [feature], config=config)
            times.append(1000 * (time.perf_counter() - started))
    finally:
        torch.set_num_threads(n_threads)
    return float(np.median(times[1:]))
