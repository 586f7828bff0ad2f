"""Experiments: no test clip is ever trained on, scores are recorded, a finished fold is not trained again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sercore import experiments
from sercore.augment import WaveformAugment
from sercore.corpora import load_corpus
from sercore.errors import ConfigError
from sercore.evaluate import scores, targets_of
from sercore.models import load_checkpoint
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


def test_scores_and_probabilities_are_recorded_and_read_back(clips, recipe, tmp_path):
    table = experiments.cross_validate(clips, recipe=recipe, folds=["1"], results_dir=tmp_path, progress=False)
    assert list(pd.read_csv(tmp_path / "cnn_speaker_5fold.csv")) == list(experiments.RESULT_COLUMNS)
    recorded = experiments.read_scores(clips, results_dir=tmp_path)
    assert recorded["fold"].tolist() == ["1"]
    assert recorded["uar"].iloc[0] == pytest.approx(table["uar"].iloc[0], abs=1e-5)
    heard, proba = experiments.read_out_of_fold(clips, results_dir=tmp_path)
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


def test_scores_that_were_never_recorded_are_asked_for_by_their_command(clips, tmp_path):
    with pytest.raises(ConfigError, match="sercore crossval --model cnn --protocol speaker_6fold"):
        experiments.read_scores(clips, protocol="speaker_6fold", results_dir=tmp_path)


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
    results = Path(experiments.__file__).parents[1] / "data" / "results"
    for protocol in ("speaker_5fold", "random_5fold"):
        table = experiments.read_scores(clips, protocol=protocol, results_dir=results)
        heard, proba = experiments.read_out_of_fold(clips, protocol=protocol, results_dir=results)
        assert len(heard) == table["n_test"].sum() == 1440
        accuracy = scores(targets_of(heard), proba.argmax(axis=1))["accuracy"]
        assert accuracy == pytest.approx((table["accuracy"] * table["n_test"]).sum() / 1440, abs=1e-4)
