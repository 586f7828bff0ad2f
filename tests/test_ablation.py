"""ablation: a variant is one change, scored on validation speakers alone, and compared fold by fold."""

import numpy as np
import pandas as pd
import pytest
import torch

from sercore import ablation, crossval, train
from sercore.ablation import ablate, ablation_differences, ablation_variants
from sercore.crossval import Prepared, folds_of
from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models import build_model
from sercore.recipes import Recipe
from sercore.splits import FIVE_FOLDS
from sercore.train import FitResult, TrainConfig

SMALL = Recipe(
    model_config={"widths": (4, 8, 8)}, copies=0, n_val_speakers=1, train=TrainConfig(epochs=1, batch_size=8, lr=0.02)
)
#: Two speakers of each fold, each emotion once, without a recording: `made_up` stands in.
CLIPS = pd.DataFrame(
    [(actor, emotion) for actor in sorted(a for group in FIVE_FOLDS for a in group[:2]) for emotion in EMOTIONS],
    columns=["actor", "emotion"],
)
CLIPS["corpus"], CLIPS["speaker"] = "synthetic", CLIPS["actor"].map("synthetic-{:02d}".format)
CLIPS["clip"] = [f"synthetic/{k}" for k in range(len(CLIPS))]
CLIPS["sex"] = np.where(CLIPS["actor"] % 2, "male", "female")


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """Features that are noise; the fixture's value is what was prepared."""
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))
    made, rng = [], np.random.default_rng(0)
    features = [rng.uniform(-80, 0, (64, 40)).astype(np.float32) for _ in range(len(CLIPS))]
    monkeypatch.setattr(ablation, "prepare", lambda *_, **__: made.append(Prepared(CLIPS, features)) or made[-1])
    return made


def run(folder, variants, **options):
    return ablate(CLIPS, recipe=SMALL, variants=variants, results_dir=folder, progress=False, **options)


def test_every_variant_is_another_training_or_another_way_to_ask():
    variants = ablation_variants(Recipe())
    assert variants["recipe"] == Recipe()
    assert len({(variant.key, variant.tempos) for variant in variants.values()}) == len(variants) >= 20
    assert not any("," in name for name in variants)  # the command line puts commas between them
    for variant in variants.values():
        X = torch.zeros(1, 1, variant.features.n_mels, variant.features.n_frames)
        assert build_model(variant.model, **variant.model_config).eval()(X).shape == (1, 8)


@pytest.mark.parametrize(
    ("name", "read", "expected"),
    [
        ("40 mel bands", lambda r: (r.features.n_mels, r.model_config["dropout"]), (40, 0.1)),
        ("no masks", lambda r: (r.max_bands, r.max_frames, r.copies), (0, 0, 3)),
        ("half the epochs", lambda r: (r.train.epochs, r.train.seed, r.copies), (4, 2, 3)),
        ("twice the width", lambda r: (*r.model_config["widths"], r.model_config["dropout"]), (16, 32, 0.1)),
    ],
)
def test_a_variant_changes_what_it_says_and_keeps_the_rest(name, read, expected):
    recipe = Recipe(copies=3, model_config={"dropout": 0.1, "widths": (8, 16)}, train=TrainConfig(epochs=9, seed=2))
    assert read(ablation_variants(recipe)[name]) == expected


def test_no_clip_of_a_test_speaker_is_trained_on_or_scored(made_up, monkeypatch, tmp_path):
    shown, scored, original, predict_logits = [], [], crossval.TrainingSet, crossval.predict_logits

    def spy(features, *args, **options):
        shown.append({id(feature) for feature in features})
        return original(features, *args, **options)

    def scoring(model, features, **options):
        scored.append({id(feature) for feature in features})
        return predict_logits(model, features, **options)

    monkeypatch.setattr(crossval, "TrainingSet", spy)
    monkeypatch.setattr(crossval, "predict_logits", scoring)
    table = run(tmp_path, ["recipe"], seeds=(0, 1), folds=["0", "3"])
    assert table[["fold", "seed"]].values.tolist() == [["0", 0], ["3", 0], ["0", 1], ["3", 1]]
    ids = np.array([id(feature) for feature in made_up[0].features])
    for k, fold in enumerate(2 * folds_of(CLIPS, "speaker_5fold", recipe=SMALL, names=["0", "3"])):
        assert scored[k] == set(ids[fold.val]) and len(scored[k]) == 8
        assert shown[k] == set(ids[fold.train]) and not (shown[k] | scored[k]) & set(ids[fold.test])


def test_a_variant_is_scored_by_its_last_epoch_where_cross_validation_finds_it(made_up, monkeypatch, tmp_path):
    folders, networks = [], [build_model("cnn", **SMALL.model_config).eval() for _ in range(2)]
    asked = []

    def train_fold(prepared, fold, *, recipe, run_dir, progress):
        folders.append(run_dir.parts[-3:])
        history = pd.DataFrame({"val_uar": [0.9, 0.5], "seconds": [30.0, 60.0]})
        facts = dict.fromkeys(("device", "precision", "threads", "processor", "commit"), "x")
        return FitResult(networks[0], history, 1, False, networks[1], facts)

    monkeypatch.setattr(ablation, "train_fold", train_fold)
    monkeypatch.setattr(ablation, "logits_of", lambda models, *_, **__: asked.extend(models) or np.zeros((8, 8)))
    table = run(tmp_path, ["no masks"], seeds=(0, 7), folds=["2"])
    assert asked == [networks[1]] * 2
    assert folders == [("speaker_5fold", "fold2", f"validation_seed{seed}") for seed in (0, 7)]
    assert table["minutes"].tolist() == [1.5, 1.5] and table["precision"].tolist() == ["x", "x"]
    assert table["loss"].tolist() == pytest.approx([np.log(8)] * 2)
    assert pd.read_csv(tmp_path / "ablation.csv")["seed"].tolist() == [0, 7]


def test_an_ablation_goes_on_where_it_was_left_and_tempos_train_nothing(made_up, monkeypatch, tmp_path):
    first = run(tmp_path, ["recipe"], folds=["1"])
    trained, original = [], train._train_epoch
    monkeypatch.setattr(train, "_train_epoch", lambda *args: trained.append(args) or original(*args))
    table = run(tmp_path, ["recipe", "heard at three tempos", "no label smoothing"], folds=["1"])
    assert len(trained) == 1 and table["loss"].nunique() == 3
    pd.testing.assert_frame_equal(table[:1], first)
    assert len(pd.read_csv(tmp_path / "ablation.csv")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [({"variants": ["recipe", "no ears"]}, r"Bad variants \['no ears'\]"), ({"folds": ["5"]}, r"Bad folds \['5'\]")],
)
def test_what_cannot_be_ablated_is_named(options, words, made_up, tmp_path):
    with pytest.raises(ConfigError, match=words):
        run(tmp_path, **{"variants": ["recipe"]} | options)


def scored(**uar):
    """UAR by variant on folds "0", "1", …; None is a fold that was not run."""
    rows = [
        (name.replace("_", " "), str(fold), 0, value) for name, row in uar.items() for fold, value in enumerate(row)
    ]
    return pd.DataFrame(rows, columns=["variant", "fold", "seed", "uar"]).dropna()


def test_variants_are_compared_on_the_folds_they_share_with_the_recipe():
    table = scored(recipe=[0.5, 0.6, 0.9], no_masks=[0.4, 0.4, None], mixup=[0.7, None, None])
    differences = ablation_differences(table)
    assert differences[["variant", "n"]].values.tolist() == [["mixup", 1], ["no masks", 2]]
    assert differences["difference"].tolist() == pytest.approx([0.2, -0.15])
    assert np.isnan(differences["error"][0]) and differences["error"][1] == pytest.approx(0.05)


def test_variants_are_compared_with_the_mean_over_the_recipe_s_seeds():
    more = scored(recipe=[0.7, None]).assign(seed=1)
    table = pd.concat([scored(recipe=[0.5, 0.6], mixup=[0.5, 0.5]), more])
    [row] = ablation_differences(table).to_dict("records")
    assert (row["variant"], row["n"], row["difference"]) == ("mixup", 2, pytest.approx(-0.1))  # 0.5 - 0.6, twice


def test_a_comparison_without_the_recipe_is_refused():
    with pytest.raises(ConfigError, match=r"'recipe'.*\['mixup'\]"):
        ablation_differences(scored(mixup=[0.5]))
    with pytest.raises(ConfigError, match="sercore ablate"):
        ablation_differences(scored(recipe=[None, 0.5], mixup=[0.5, None]))
