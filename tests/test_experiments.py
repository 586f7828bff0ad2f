"""Experiments: no test clip is ever trained on, scores are recorded, a finished fold is not trained again."""

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from sercore import experiments, train
from sercore.augment import WaveformAugment
from sercore.corpora import load_corpus
from sercore.errors import ConfigError
from sercore.evaluate import scores, targets_of
from sercore.models import count_parameters, load_checkpoint
from sercore.results import RESULT_COLUMNS, read_out_of_fold, read_scores
from sercore.splits import make_folds


@pytest.fixture(scope="module")
def recipe():
    full = experiments.recipe_for("smoke")
    return replace(full, copies=0, train=replace(full.train, epochs=2))


@pytest.fixture(scope="module")
def clips():
    return load_corpus("synthetic")


@pytest.fixture(scope="module")
def prepared(clips, recipe):
    return experiments.prepare(clips, recipe=recipe, progress=False)


def test_the_network_is_shown_training_clips_alone(prepared, recipe, monkeypatch):
    shown = []
    original = experiments.TrainingSet

    def spy(features, targets, **options):
        shown.append({id(feature) for feature in features})
        return original(features, targets, **options)

    monkeypatch.setattr(experiments, "TrainingSet", spy)
    fold = make_folds(prepared.clips, "speaker_5fold")[0]
    experiments.train_and_refit(prepared, fold, recipe=recipe, progress=False)
    ids = np.array([id(feature) for feature in prepared.features])
    assert shown[0] == set(ids[fold.train])
    assert shown[1] == set(ids[fold.train]) | set(ids[fold.val])
    assert not shown[1] & set(ids[fold.test])


def test_clips_of_other_corpora_are_trained_on_besides_but_nobody_who_is_tested(clips, recipe, monkeypatch):
    others = clips.assign(corpus="other", speaker="other-" + clips["speaker"]).iloc[:30]
    monkeypatch.setattr(experiments, "load_corpora", lambda names: {("other",): others, ("same",): clips}[names])
    prepared = experiments.prepare(clips, recipe=replace(recipe, extra=("other",)), progress=False)
    rows = make_folds(clips, "speaker_5fold")[0].train
    train_set = experiments.training_set(prepared, rows, recipe=recipe)
    assert train_set.targets.tolist() == [*targets_of(clips)[rows], *targets_of(others)]
    assert len(train_set.windows) == len(rows) + 30
    assert train_set.groups is None  # they are extra: not half of what is heard
    with pytest.raises(ConfigError, match="expected other speakers than"):
        experiments.prepare(clips, recipe=replace(recipe, extra=("same",)), progress=False)


def test_asides_are_numbered_and_must_be_known(prepared, recipe):
    train_set = experiments.training_set(prepared, np.arange(40), recipe=replace(recipe, asides=("sex", "intensity")))
    assert train_set.asides.shape == (40, 2)
    assert set(train_set.asides[:, 0][prepared.clips["sex"][:40] == "male"]) == {1}
    unknown = replace(prepared, clips=prepared.clips.assign(sex=None))
    with pytest.raises(ConfigError, match=r"Bad asides \['sex'\]"):
        experiments.training_set(unknown, np.arange(40), recipe=replace(recipe, asides=("sex",)))


def test_scores_and_probabilities_are_recorded_and_read_back(clips, recipe, tmp_path):
    table = experiments.cross_validate(clips, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    assert list(pd.read_csv(tmp_path / "cnn_speaker_5fold.csv")) == list(RESULT_COLUMNS)
    recorded = read_scores(clips, results_dir=tmp_path)
    assert recorded["fold"].tolist() == ["1"]
    assert recorded["uar"].iloc[0] == pytest.approx(table["uar"].iloc[0], abs=1e-5)
    heard, proba = read_out_of_fold(clips, results_dir=tmp_path)
    assert set(heard["speaker"]) == {"synthetic-06", "synthetic-13", "synthetic-18"}
    assert proba.shape == (90, 8)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-4)
    assert scores(targets_of(heard), proba.argmax(axis=1))["uar"] == pytest.approx(table["uar"].iloc[0], abs=1e-5)


def test_a_second_run_reads_what_the_first_one_trained_and_repeats_no_row(clips, recipe, tmp_path, monkeypatch):
    first = experiments.cross_validate(clips, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    monkeypatch.setattr("sercore.train._train_epoch", lambda *_: pytest.fail("trained again"))
    again = experiments.cross_validate(clips, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    pd.testing.assert_frame_equal(first, again)
    assert len(pd.read_csv(tmp_path / "cnn_speaker_5fold.csv")) == 1
    assert len(pd.read_csv(tmp_path / "out_of_fold" / "cnn_speaker_5fold_seed0.csv")) == 90


@pytest.fixture
def few(five_speakers):
    with joblib.parallel_config(backend="sequential"):  # forty clips are not worth the start of processes
        yield load_corpus("synthetic", root=five_speakers)


@pytest.fixture(scope="module")
def small(recipe):
    """A recipe for five speakers: a narrow network, a short training."""
    training = replace(recipe.train, epochs=2, batch_size=8)
    return replace(recipe, model_config={"widths": (4, 8, 8)}, n_val_speakers=1, train=training)


def test_several_seeds_are_scored_each_and_together(few, small, tmp_path, monkeypatch):
    trained, original = [], train._train_epoch
    monkeypatch.setattr(train, "_train_epoch", lambda *args: trained.append(args) or original(*args))
    options = {"recipe": small, "folds": ["1"], "results_dir": tmp_path, "progress": False}
    table = experiments.cross_validate(few, seeds=(4, 2), **options)
    assert len(trained) == 2 + 2 * 2  # epochs: one training with validation, and one for each seed
    assert table[["model", "seed"]].values.tolist() == [["cnn", 4], ["cnn", 2], ["cnn_ensemble", 2]]
    assert table["parameters"].tolist() == [(n := table["parameters"].iloc[0]), n, 2 * n]
    one, other, both = table["minutes"]
    assert both == pytest.approx(one + other)  # not the training that gives the temperature
    assert table["epochs"].tolist() == [2, 2, 2]
    one, other, both = (
        read_out_of_fold(few, model=model, seed=seed, results_dir=tmp_path)[1]
        for model, seed in (("cnn", 4), ("cnn", 2), ("cnn_ensemble", 2))
    )
    assert np.abs(one - other).max() > 1e-3
    # At one temperature, the mean of the logits is the geometric mean of the probabilities.
    mean = np.sqrt(one * other)
    np.testing.assert_allclose(both, mean / mean.sum(axis=1, keepdims=True), atol=1e-5)
    heard, _ = read_out_of_fold(few, model="cnn_ensemble", seed=2, results_dir=tmp_path)
    assert scores(targets_of(heard), both.argmax(axis=1))["uar"] == pytest.approx(table["uar"].iloc[2])
    # A seed that comes later finds the training with validation, and all others, where they were left.
    experiments.cross_validate(few, seeds=(2, 4, 7), **options)
    assert len(trained) == 6 + 2


def test_without_a_temperature_a_fold_is_one_training_and_answers_the_same(few, small, tmp_path, monkeypatch):
    trained, original = [], train._train_epoch
    monkeypatch.setattr(train, "_train_epoch", lambda *args: trained.append(args) or original(*args))
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))
    options = {"folds": ["1"], "results_dir": tmp_path, "progress": False}
    plain, calibrated = replace(small, calibrate=False), replace(small, calibrate=True)
    once = experiments.cross_validate(few, recipe=plain, **options)
    assert len(trained) == 2
    _, raw = read_out_of_fold(few, results_dir=tmp_path)
    twice = experiments.cross_validate(few, recipe=calibrated, **options)
    assert len(trained) == 2 + 2  # the network that is scored was found again
    assert once["val_uar"].isna().all() and twice["val_uar"].between(0, 1).all()
    same = once.columns.difference(["commit", "val_uar"])
    assert once[same].equals(twice[same])
    _, proba = read_out_of_fold(few, results_dir=tmp_path)
    assert np.array_equal(raw.argmax(axis=1), proba.argmax(axis=1))
    assert np.abs(raw - proba).max() > 1e-3


def test_designs_of_others_are_trained_once_a_fold_and_the_slow_ones_for_fewer_epochs():
    house, slow = experiments.recipe_for("full"), experiments.recipe_for("full", model="resnet18")
    assert (house.calibrate, slow.calibrate) == (True, False)
    assert slow.train.epochs == experiments.EPOCHS["resnet18"] < house.train.epochs
    assert experiments.recipe_for("full", model="conv1d").train == house.train
    warped = experiments.recipe_for("full", title="warped")
    assert (warped.train.epochs, warped.name) == (2 * house.train.epochs, "cnn_warped")
    assert warped.key != house.key
    asked = experiments.recipe_for("full", model="resnet18", train=house.train, calibrate=True)
    assert (asked.train.epochs, asked.calibrate) == (house.train.epochs, True)


def test_tempos_change_the_answers_and_train_nothing_anew(few, small, tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))
    options = {"folds": ["1"], "seeds": (0, 1), "results_dir": tmp_path, "progress": False}
    experiments.cross_validate(few, recipe=small, **options)
    fold, before = read_out_of_fold(few, model="cnn_ensemble", results_dir=tmp_path)
    monkeypatch.setattr(train, "_train_epoch", lambda *_: pytest.fail("trained again"))
    several = replace(small, tempos=(0.7, 1.0))
    table = experiments.cross_validate(few, recipe=several, **options)
    _, together = read_out_of_fold(few, model="cnn_ensemble", results_dir=tmp_path)
    one, other = (read_out_of_fold(few, seed=seed, results_dir=tmp_path)[1] for seed in (0, 1))
    assert np.abs(together - before).max() > 1e-4
    mean = np.sqrt(one * other)
    np.testing.assert_allclose(together, mean / mean.sum(axis=1, keepdims=True), atol=1e-5)
    assert scores(targets_of(fold), together.argmax(axis=1))["uar"] == pytest.approx(table["uar"].iloc[2])


def test_a_checkpoint_keeps_the_tempos_it_was_calibrated_at(few, small, tmp_path):
    several = replace(small, tempos=(0.7, 1.0))
    experiments.train_final(few, tmp_path / "one.safetensors", recipe=several, progress=False)
    model, metadata = load_checkpoint(tmp_path / "one.safetensors")
    assert (metadata["model"], model.tempos, len(model.members)) == ("ensemble", (0.7, 1.0), 1)
    experiments.train_final(few, tmp_path / "two.safetensors", recipe=small, progress=False)
    assert load_checkpoint(tmp_path / "two.safetensors")[1]["temperature"] != metadata["temperature"]


def test_what_reads_no_spectrogram_has_one_tempo():
    assert experiments.recipe_for("full", title="warped").tempos == experiments.TEMPOS
    assert experiments.recipe_for("full", title="warped", model="conv1d").tempos == (1.0,)


def test_several_seeds_make_one_checkpoint_of_as_many_members(few, small, tmp_path, monkeypatch):
    fits, fit = [], experiments.fit
    monkeypatch.setattr(experiments, "fit", lambda *args, **options: fits.append(fit(*args, **options)) or fits[-1])
    facts = experiments.train_final(few, tmp_path / "e.safetensors", recipe=small, seeds=(0, 1), progress=False)
    model, metadata = load_checkpoint(tmp_path / "e.safetensors")
    assert metadata["model"] == "ensemble"
    assert {"member": "cnn", "n_members": 2, "widths": [4, 8, 8]}.items() <= metadata["model_config"].items()
    assert (facts["seeds"], facts["parameters"]) == ([0, 1], count_parameters(model))
    validation, first, again, second = fits
    assert again.minutes == validation.minutes  # read, not trained again
    assert facts["minutes"] == pytest.approx(validation.minutes + first.minutes + second.minutes)
    for member, trained in zip(model.members, (first, second), strict=True):
        expected = trained.model.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in member.state_dict().items())
    one, other = (member.head.weight for member in model.members)
    assert not torch.equal(one, other)


def test_a_model_is_given_what_its_kind_reads(few, small, tmp_path):
    vectors = experiments.prepare(few.iloc[:2], recipe=replace(small, model="conv1d", copies=1), progress=False)
    assert [feature.shape for feature in vectors.features] == [(196,), (196,)]
    assert [[copy.shape for copy in row] for row in vectors.copies] == [[(196,)], [(196,)]]
    words = experiments.prepare(few.iloc[:2], recipe=replace(small, model="transcript_rnn", copies=1), progress=False)
    assert [(feature > 0).sum() for feature in words.features] == [6, 6]  # Kids are talking by the door
    assert words.copies is None
    with pytest.raises(ConfigError, match="No `statement` of 1 clips, which transcript_rnn reads"):
        few_of_them = few.iloc[:2].assign(statement=["Kids", None])
        experiments.prepare(few_of_them, recipe=replace(small, model="transcript_rnn"), progress=False)


@pytest.mark.parametrize("model", ["functionals_svm", "transcript_rnn"])
def test_models_of_vectors_are_cross_validated_too(model, few, small, tmp_path):
    recipe = replace(small, model=model, model_config={}, copies=0)
    table = experiments.cross_validate(few, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    assert table[["model", "n_test"]].values.tolist() == [[model, 8]]
    heard, proba = read_out_of_fold(few, model=model, results_dir=tmp_path)
    assert set(heard["speaker"]) == {"synthetic-06"}
    if model == "transcript_rnn":  # one sentence, one answer: words tell nothing
        np.testing.assert_allclose(proba, np.tile(proba[0], (8, 1)), atol=1e-6)
        assert table["uar"].item() == 1 / 8
    else:
        assert table["uar"].item() > 1 / 8


def test_a_clip_that_cannot_be_used_is_left_out(clips, recipe, tmp_path, caplog):
    bad = tmp_path / "03-01-05-01-01-01-01.wav"
    bad.write_bytes(b"RIFF not really")
    few = clips.iloc[:6].copy()
    few.loc[3, "path"] = str(bad)
    prepared = experiments.prepare(few, recipe=recipe, progress=False)
    assert len(prepared.clips) == len(prepared.features) == 5
    assert str(bad) not in set(prepared.clips["path"])
    assert bad.name in caplog.text


def test_copies_are_made_of_every_clip_and_differ_from_it(clips):
    recipe = experiments.Recipe(copies=2, augment=WaveformAugment(max_semitones=1.0))
    prepared = experiments.prepare(clips.iloc[:2], recipe=recipe, progress=False)
    assert [len(row) for row in prepared.copies] == [2, 2]
    one, other = prepared.copies[0]
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_the_final_network_has_heard_everyone_and_says_so(clips, recipe, tmp_path):
    facts = experiments.train_final(
        clips, tmp_path / "m.safetensors", recipe=recipe, info={"licence": "none"}, progress=False
    )
    _, metadata = load_checkpoint(tmp_path / "m.safetensors")
    assert metadata["info"] == facts
    assert facts["train_speakers"] == sorted(clips["speaker"].unique())
    assert len(facts["temperature_from"]) == 2
    assert (facts["licence"], facts["corpus"], facts["n_train_clips"]) == ("none", "synthetic", 360)


@pytest.mark.slow
def test_the_smoke_recipe_learns_synthetic_speech_of_unseen_speakers(clips, tmp_path):
    table = experiments.cross_validate(
        clips, recipe=experiments.recipe_for("smoke"), folds=["1"], results_dir=tmp_path, progress=False
    )
    assert table["uar"].iloc[0] > 0.4  # chance is 0.125


@pytest.mark.real
def test_recorded_scores_are_those_of_the_recorded_probabilities():
    clips = load_corpus("ravdess")
    folder = Path(experiments.__file__).parents[1] / "data" / "results"
    for protocol in ("speaker_5fold", "random_5fold"):
        table = read_scores(clips, protocol=protocol, results_dir=folder)
        heard, proba = read_out_of_fold(clips, protocol=protocol, results_dir=folder)
        assert len(heard) == table["n_test"].sum() == 1440
        accuracy = scores(targets_of(heard), proba.argmax(axis=1))["accuracy"]
        assert accuracy == pytest.approx((table["accuracy"] * table["n_test"]).sum() / 1440, abs=1e-4)


def test_a_transductive_recipe_normalises_each_speaker_and_is_recorded_apart(few, small, tmp_path):
    recipe = replace(small, transductive=True, copies=1)
    prepared = experiments.prepare(few, recipe=recipe, progress=False)
    speakers, config = prepared.clips["speaker"].to_numpy(), recipe.features
    for speaker in np.unique(speakers):
        frames = np.concatenate([prepared.features[i] for i in np.flatnonzero(speakers == speaker)], axis=1)
        np.testing.assert_allclose(frames.mean(axis=1), config.db_center, atol=0.01)
        np.testing.assert_allclose(frames.std(axis=1), config.db_scale, atol=0.1)
    assert [len(row) for row in prepared.copies] == [1] * len(few)
    table = experiments.cross_validate(few, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    assert table["model"].tolist() == ["cnn_transductive"]
    assert (tmp_path / "cnn_transductive_speaker_5fold.csv").exists()


def test_what_needs_many_clips_of_a_speaker_makes_no_checkpoint_and_no_vector(few, small, tmp_path):
    recipe = replace(small, transductive=True)
    with pytest.raises(ConfigError, match="No checkpoint of a transductive recipe"):
        experiments.train_final(few, tmp_path / "m.safetensors", recipe=recipe, progress=False)
    with pytest.raises(ConfigError, match="Bad option transductive for conv1d"):
        experiments.prepare(few.iloc[:2], recipe=replace(recipe, model="conv1d", copies=0), progress=False)
