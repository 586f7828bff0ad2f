"""Studies: a variant is one change, scored on validation speakers alone; noise is met by networks that never heard it."""

from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from sercore import experiments, studies, train
from sercore.audio import load_audio
from sercore.corpora import load_corpus
from sercore.errors import ConfigError
from sercore.evaluate import expected_calibration_error, scores, targets_of
from sercore.experiments import Prepared, Recipe, cross_validate, runs_dir_of, train_fold
from sercore.labels import EMOTIONS
from sercore.models import build_model
from sercore.results import read_out_of_fold
from sercore.splits import FIVE_FOLDS, make_folds
from sercore.train import FitResult, TrainConfig

SMALL = Recipe(
    model_config={"widths": (4, 8, 8)}, copies=0, n_val_speakers=1, train=TrainConfig(epochs=1, batch_size=8, lr=0.02)
)


@pytest.fixture(autouse=True, scope="module")
def one_process():
    with joblib.parallel_config(backend="sequential"):
        yield


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))


# --- ablation --------------------------------------------------------------------------------------------------------

#: Two speakers of each fold, each emotion once, without a recording: `noisy_features` stands in.
SPEAKERS = sorted(actor for group in FIVE_FOLDS for actor in group[:2])
TABLE = pd.DataFrame(
    [
        {"path": f"{actor}-{emotion}.wav", "corpus": "synthetic", "speaker": f"synthetic-{actor:02d}",
         "sex": "male" if actor % 2 else "female", "emotion": emotion}
        for actor in SPEAKERS
        for emotion in EMOTIONS
    ]
)  # fmt: skip


@pytest.fixture
def noisy_features(monkeypatch):
    """Features and one copy of each clip, made up; the fixture's value is what was prepared last."""
    made = []

    def prepare(clips, *, recipe, progress):
        rng = np.random.default_rng(0)
        features, copies = (
            [rng.uniform(-80, 0, (recipe.features.n_mels, 40)).astype(np.float32) for _ in range(len(clips))]
            for _ in range(2)
        )
        made.append(Prepared(clips, features, [[copy] for copy in copies]))
        return made[-1]

    monkeypatch.setattr(studies, "prepare", prepare)
    return made


def test_a_variant_is_another_experiment_that_can_be_run():
    variants = studies.ablation_variants(Recipe())
    assert variants["recipe"] == Recipe()
    settled = {(variant.key, variant.tempos) for variant in variants.values()}
    assert len(settled) == len(variants) >= 20
    assert not any("," in name for name in variants)  # the command line puts commas between them
    for variant in variants.values():
        config = variant.features
        model = build_model(variant.model, **variant.model_config).eval()
        assert model(torch.zeros(1, 1, config.n_mels, config.n_frames)).shape == (1, 12 if variant.asides else 8)


@pytest.mark.parametrize(
    ("name", "read", "expected"),
    [
        (
            "40 mel bands",
            lambda r: (r.features.n_mels, r.model_config["n_mels"], r.model_config["dropout"]),
            (40, 40, 0.1),
        ),
        ("no masks", lambda r: (r.max_bands, r.max_frames, r.copies), (0, 0, 3)),
        ("half the epochs", lambda r: (r.train.epochs, r.train.seed, r.copies), (4, 2, 3)),
        ("twice the width", lambda r: (*r.model_config["widths"], r.model_config["dropout"]), (16, 32, 0.1)),
    ],
)
def test_a_variant_changes_what_it_says_and_keeps_the_rest(name, read, expected):
    recipe = Recipe(copies=3, model_config={"dropout": 0.1, "widths": (8, 16)}, train=TrainConfig(epochs=9, seed=2))
    assert read(studies.ablation_variants(recipe)[name]) == expected


def test_no_clip_of_a_test_speaker_is_trained_on_or_scored(noisy_features, monkeypatch, tmp_path):
    shown, scored, original, predict_logits = [], [], experiments.TrainingSet, train.predict_logits

    def spy(features, targets, *, copies, **options):
        shown.append({id(feature) for feature in [*features, *(copy for row in copies for copy in row)]})
        return original(features, targets, copies=copies, **options)

    def scoring(model, features, **options):
        scored.append({id(feature) for feature in features})
        return predict_logits(model, features, **options)

    monkeypatch.setattr(experiments, "TrainingSet", spy)
    monkeypatch.setattr(train, "predict_logits", scoring)
    monkeypatch.setattr(studies, "predict_logits", lambda *_, **__: pytest.fail("scored apart from training"))
    table = studies.ablate(
        TABLE, recipe=SMALL, variants=["recipe"], seeds=(0, 1), folds=["0", "3"], results_dir=tmp_path, progress=False
    )
    assert table[["fold", "seed"]].values.tolist() == [["0", 0], ["3", 0], ["0", 1], ["3", 1]]
    [prepared] = noisy_features
    speakers = TABLE["speaker"].to_numpy()
    for k, test_group in enumerate(((2, 5), (8, 17), (2, 5), (8, 17))):
        of_test = np.isin(speakers, [f"synthetic-{actor:02d}" for actor in test_group])
        known = {id(prepared.features[i]): i for i in range(len(TABLE))}
        known |= {id(prepared.copies[i][0]): i for i in range(len(TABLE))}
        trained, judged = ([known[feature] for feature in features] for features in (shown[k], scored[k]))
        assert len(judged) == 8 and len(trained) == 2 * (80 - 16 - 8)
        assert not of_test[trained].any() and not of_test[judged].any()
        assert not set(speakers[trained]) & set(speakers[judged])


def test_a_variant_is_scored_by_its_last_epoch_not_by_its_best(noisy_features, monkeypatch, tmp_path):
    folders = []

    def train_fold(prepared, fold, *, recipe, run_dir, progress):
        folders.append((recipe.train.seed, *run_dir.parts[-3:]))
        history = pd.DataFrame({"val_uar": [0.9, 0.5], "val_loss": [1.0, 2.5], "seconds": [30.0, 60.0]})
        return FitResult(torch.nn.Linear(3, 2), history, 1, False, "cpu")

    monkeypatch.setattr(studies, "train_fold", train_fold)
    table = studies.ablate(
        TABLE, recipe=SMALL, variants=["no masks"], seeds=(0, 7), folds=["2"], results_dir=tmp_path, progress=False
    )
    columns = ["variant", "fold", "seed", "uar", "loss", "parameters", "minutes", "device"]
    expected = [["no masks", "2", 0, 0.5, 2.5, 8, 1.5, "cpu"], ["no masks", "2", 7, 0.5, 2.5, 8, 1.5, "cpu"]]
    assert table[columns].values.tolist() == expected
    # Where a cross-validation of the same recipe keeps, and finds, its training with validation.
    assert folders == [
        (0, "speaker_5fold", "fold2", "validation"), (7, "speaker_5fold", "fold2", "validation_seed7"),
    ]  # fmt: skip
    recorded = pd.read_csv(tmp_path / "ablation.csv", dtype={"fold": str})
    assert recorded[columns].values.tolist() == expected


def test_a_variant_at_three_tempos_is_the_recipe_s_network_heard_again(noisy_features, tmp_path):
    options = {"recipe": SMALL, "folds": ["1"], "results_dir": tmp_path, "progress": False}
    once, thrice = studies.ablate(TABLE, variants=["recipe", "heard at three tempos"], **options).to_dict("records")
    assert (once["minutes"], once["parameters"]) == (thrice["minutes"], thrice["parameters"])
    assert once["loss"] != thrice["loss"]
    # At one tempo it is what training wrote down.
    [_, prepared] = noisy_features
    fold = next(
        fold for fold in make_folds(TABLE, "speaker_5fold", n_val_speakers=SMALL.n_val_speakers) if fold.name == "1"
    )
    run_dir = runs_dir_of(TABLE, SMALL) / "speaker_5fold" / "fold1" / "validation"
    network = train_fold(prepared, fold, recipe=SMALL, run_dir=run_dir, progress=False).last
    assert studies._scores_at_tempos(network, prepared, fold.val, SMALL) == pytest.approx(
        (once["uar"], once["loss"]), abs=1e-5
    )


def test_an_ablation_goes_on_where_it_was_left(noisy_features, monkeypatch, tmp_path):
    options = {"recipe": SMALL, "folds": ["1"], "results_dir": tmp_path, "progress": False}
    first = studies.ablate(TABLE, variants=["recipe"], **options)
    trained, original = [], train._train_epoch
    monkeypatch.setattr(train, "_train_epoch", lambda *args: trained.append(args) or original(*args))
    both = studies.ablate(TABLE, variants=["recipe", "pool by mean"], **options)
    assert len(trained) == 1
    pd.testing.assert_frame_equal(both.iloc[:1], first)
    assert len(pd.read_csv(tmp_path / "ablation.csv")) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [({"variants": ["recipe", "no ears"]}, r"Bad variants \['no ears'\]"), ({"folds": ["5"]}, r"Bad folds \['5'\]")],
)
def test_what_cannot_be_ablated_is_named(options, words, noisy_features, tmp_path):
    with pytest.raises(ConfigError, match=words):
        studies.ablate(TABLE, recipe=SMALL, results_dir=tmp_path, progress=False, **options)


# --- noise -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clips(five_speakers):
    return load_corpus("synthetic", root=five_speakers)


@pytest.fixture
def noises(monkeypatch):
    """Noise that notes what it is added to."""
    met = []

    def noise(y, sr, snr_db, rng):
        met.append((len(y), sr, snr_db, int(rng.integers(2**32))))
        return np.clip(y + 10 ** (-snr_db / 20) * rng.normal(size=len(y)), -1, 1).astype(np.float32)

    monkeypatch.setitem(studies.NOISES, "white", noise)
    return met


def test_quiet_clips_get_the_scores_of_the_cross_validation_whose_networks_are_asked(
    clips, noises, tmp_path, monkeypatch
):
    options = {"recipe": SMALL, "seeds": (0, 1), "results_dir": tmp_path, "progress": False}
    cross_validate(clips, **options)
    monkeypatch.setattr(train, "_train_epoch", lambda *_: pytest.fail("trained again"))
    tables = [
        studies.noise_robustness(clips, **options | {"seeds": seeds}, kinds=["white"], snrs_db=[20, -20])
        for seeds in ((0, 1), (1,))
    ]
    for table, name, seed in zip(tables, ("cnn_ensemble", "cnn"), (0, 1), strict=True):
        heard, proba = read_out_of_fold(clips, model=name, seed=seed, results_dir=tmp_path)
        assert len(heard) == 40
        expected = scores(targets_of(heard), proba.argmax(axis=1))
        assert table[["model", "noise", "snr_db"]].values.tolist() == [
            [name, "none", np.inf], [name, "white", 20], [name, "white", -20],
        ]  # fmt: skip
        assert table.loc[0, list(expected)].to_dict() == pytest.approx(expected)
        ece = expected_calibration_error(proba, targets_of(heard))
        assert table.loc[0, "ece"] == pytest.approx(ece, abs=1e-4)
        assert (table["low"] <= table["uar"]).all() and (table["uar"] <= table["high"]).all()
        assert table["ece"].nunique() == 3  # the noise did reach the networks
        assert len(pd.read_csv(tmp_path / f"noise_{name}_speaker_5fold.csv")) == 3


def test_noise_is_added_to_the_whole_recording_and_is_the_same_each_time(clips, noises, monkeypatch, tmp_path):
    untrained = build_model("cnn", **SMALL.model_config)
    monkeypatch.setattr(studies, "train_and_refit", lambda *_, **__: (untrained, {"temperature": 1.0}))
    options = {"recipe": SMALL, "kinds": ["white"], "snrs_db": [5, 0], "results_dir": tmp_path, "progress": False}
    first = studies.noise_robustness(clips, **options)
    again = studies.noise_robustness(clips, **options)
    pd.testing.assert_frame_equal(first, again)
    assert len(pd.read_csv(tmp_path / "noise_cnn_speaker_5fold.csv")) == 3
    assert noises[:80] == noises[80:]
    # Not yet trimmed, each recording once at each level, each with its own noise.
    lengths = sorted(len(load_audio(path, sr=16_000)) for path in clips["path"])
    for snr_db in (5, 0):
        assert sorted(length for length, sr, level, _ in noises[:80] if (sr, level) == (16_000, snr_db)) == lengths
    assert len({draw for *_, draw in noises}) == 40


def test_noise_is_heard_by_models_of_vectors_too(clips, noises, tmp_path):
    recipe = replace(SMALL, model="functionals_svm", model_config={})
    options = {"recipe": recipe, "results_dir": tmp_path, "progress": False}
    cross_validate(clips, **options)
    table = studies.noise_robustness(clips, **options, kinds=["white"], snrs_db=[0])
    heard, proba = read_out_of_fold(clips, model="functionals_svm", results_dir=tmp_path)
    assert table["accuracy"].iloc[0] == pytest.approx(scores(targets_of(heard), proba.argmax(axis=1))["accuracy"])
    assert table["accuracy"].iloc[0] > table["accuracy"].iloc[1]
