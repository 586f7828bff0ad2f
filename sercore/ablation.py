"""ablation: what each part of a recipe buys, on validation speakers; no test speaker has a say in a choice."""

import logging
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd
from torch import as_tensor
from torch.nn.functional import cross_entropy

from sercore import settings
from sercore.augment import SpectrogramWarp
from sercore.crossval import folds_of, logits_of, prepare, runs_dir_of, train_fold
from sercore.errors import ConfigError
from sercore.evaluate import scores, targets_of
from sercore.models import all_options, count_parameters
from sercore.recipes import TEMPOS, Recipe
from sercore.records import KEYS, corpora_of, record, results_dir_of

logger = logging.getLogger(__name__)


def ablation_variants(recipe: Recipe) -> dict[str, Recipe]:
    """List the recipe's variants: one change each, and those together that were promising alone; "recipe" is itself."""

    def spectrum(**changes):
        return replace(recipe, features=replace(recipe.features, **changes))

    def training(**changes):
        return replace(recipe, train=replace(recipe.train, **changes))

    def model(**changes):
        return replace(recipe, model_config=recipe.model_config | changes)

    blocks = {"model": "resnet_blocks", "model_config": {}}
    widths = all_options("cnn", recipe.model_config)["widths"]
    warp = SpectrogramWarp()
    twice = training(epochs=2 * recipe.train.epochs, patience=2 * recipe.train.patience)
    longer = replace(twice, warp=warp)
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
        "plain residual blocks": replace(recipe, **blocks),
        "warped": replace(recipe, warp=warp),
        "warped and twice the epochs": longer,
        "warped and twice the epochs with plain residual blocks": replace(longer, **blocks),
        "heard at three tempos": replace(recipe, tempos=TEMPOS),
        "warped and twice the epochs at three tempos": replace(longer, tempos=TEMPOS),
        "no squeeze-excitation": model(excite=False),
        "half the width": model(widths=tuple(width // 2 for width in widths)),
        "twice the width": model(widths=tuple(width * 2 for width in widths)),
    }


def ablate(
    clips: pd.DataFrame, *, recipe: Recipe = Recipe(), variants: list[str] | None = None,
    seeds: tuple[int, ...] = (settings.SEED,), folds: list[str] | None = None, results_dir: str | Path | None = None,
    progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train variants of a recipe and score each on validation speakers, recording them in ablation.csv.

    Every fold of `speaker_5fold` gives up its test speakers altogether; of its others, `recipe.n_val_speakers` are
    scored, with the weights of the last epoch. One row a variant, fold and seed has ``uar, loss, parameters, minutes``
    and what a training says of itself.
    """
    known, rows = ablation_variants(recipe), []
    results_dir = results_dir_of(clips, results_dir)
    if unknown := set(variants or ()) - set(known):
        raise ConfigError(f"Bad variants {sorted(unknown)}: expected some of {list(known)}.")
    for name in variants or known:
        prepared = prepare(clips, recipe=known[name], progress=progress)
        all_folds = folds_of(prepared.clips, "speaker_5fold", recipe=recipe, names=folds)
        for seed, fold in product(seeds, all_folds):
            seeded = known[name].seeded(seed)
            run_dir = runs_dir_of(prepared.clips, seeded) / "speaker_5fold" / f"fold{fold.name}"
            run_dir = run_dir / f"validation_seed{seed}"
            result = train_fold(prepared, fold, recipe=seeded, run_dir=run_dir, progress=progress)
            logits = logits_of([result.last], prepared, fold.val, recipe=seeded)
            targets = targets_of(prepared.clips)[fold.val]
            uar = scores(targets, logits.argmax(axis=1))["uar"]
            loss = float(cross_entropy(as_tensor(logits), as_tensor(targets)))
            row = {"corpora": corpora_of(clips), "variant": name, "fold": fold.name, "seed": seed, "uar": uar}
            row |= {"loss": loss, "parameters": count_parameters(result.model), "minutes": result.minutes}
            told = ("device", "precision", "threads", "processor", "commit")
            rows.append(row | {key: result.facts[key] for key in told})
            record(results_dir / "ablation.csv", pd.DataFrame(rows[-1:]), keys=KEYS["ablation"])
            logger.info("%s, fold %s, seed %s: UAR %.3f", name, fold.name, seed, uar)
    return pd.DataFrame(rows)


def ablation_differences(table: pd.DataFrame, *, reference: str = "recipe") -> pd.DataFrame:
    """Compare variants with the recipe, fold by fold, the best first.

    The recipe's UAR on a fold is the mean over its seeds: all variants lean on it, so it should be steadier than they.
    ``difference`` is the mean UAR minus the recipe's on the same folds, ``error`` the standard error of that mean,
    and ``n`` counts the variant's folds and seeds.
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
