"""robustness: noise is met by networks that were not trained on it, and a corpus by one that does not know it."""

from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from sercore import robustness, train
from sercore.audio import load_audio
from sercore.corpora import load_corpus
from sercore.crossval import cross_validate
from sercore.errors import ConfigError
from sercore.evaluate import expected_calibration_error, scores, targets_of
from sercore.labels import EMOTIONS
from sercore.models import build_model, save_checkpoint
from sercore.recipes import Recipe
from sercore.records import read_answers, read_table
from sercore.robustness import corpus_matrix, noise_robustness, transfer
from sercore.train import TrainConfig

SMALL = Recipe(
    model_config={"widths": (4, 8, 8)}, copies=0, n_val_speakers=1, train=TrainConfig(epochs=1, batch_size=8, lr=0.02)
)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))
    with joblib.parallel_config(backend="sequential"):
        yield


@pytest.fixture
def clips(five_speakers):
    return load_corpus("synthetic", five_speakers)


@pytest.fixture
def noises(monkeypatch):
    """Noise that notes what it is added to."""
    met = []

    def noise(y, sr, snr_db, rng):
        met.append((len(y), sr, snr_db, int(rng.integers(2**32))))
        return np.clip(y + 10 ** (-snr_db / 20) * rng.normal(size=len(y)), -1, 1).astype(np.float32)

    monkeypatch.setitem(robustness.NOISES, "white", noise)
    return met


@pytest.mark.parametrize("calibrate", [True, False])
def test_quiet_clips_get_the_scores_of_the_cross_validation_whose_networks_are_asked(
    calibrate, clips, noises, tmp_path, monkeypatch
):
    recipe = replace(SMALL, calibrate=calibrate)
    options = {"recipe": recipe, "seeds": (0, 1), "results_dir": tmp_path, "progress": False}
    cross_validate(clips, **options)
    monkeypatch.setattr(train, "_train_epoch", lambda *_: pytest.fail("trained again"))
    table = noise_robustness(clips, **options, kinds=["white"], snrs_db=[20, -20])
    assert table[["n_members", "noise", "snr_db"]].values.tolist() == [
        [2, "none", np.inf], [2, "white", 20], [2, "white", -20],
    ]  # fmt: skip
    tested, proba = read_answers(clips, n_members=2, results_dir=tmp_path)
    expected = scores(targets_of(tested), proba.argmax(axis=1))
    assert table.loc[0, list(expected)].to_dict() == pytest.approx(expected)
    ece = expected_calibration_error(proba, targets_of(tested))
    assert table.loc[0, "ece"] == pytest.approx(ece, abs=1e-4)
    assert (table["low"] <= table["uar"]).all() and (table["uar"] <= table["high"]).all()
    assert table["ece"].nunique() == 3  # the noise did reach the networks
    assert len(read_table(clips, "noise", results_dir=tmp_path)) == 3


def test_noise_is_added_to_the_whole_recording_and_is_the_clip_s_own(clips, noises, tmp_path):
    recipe = replace(SMALL, model="functionals_svm", model_config={}, calibrate=False)
    options = {"recipe": recipe, "kinds": ["white"], "snrs_db": [5, 0], "results_dir": tmp_path, "progress": False}
    first = noise_robustness(clips, **options)
    # In another order every clip meets the same noise.
    pd.testing.assert_frame_equal(first, noise_robustness(clips.sample(frac=1, random_state=0), **options))
    assert sorted(noises[:80]) == sorted(noises[80:])
    lengths = sorted(len(load_audio(path, sr=16_000)) for path in clips["path"])
    for snr_db in (5, 0):
        assert sorted(length for length, sr, level, _ in noises[:80] if (sr, level) == (16_000, snr_db)) == lengths
    assert len({draw for *_, draw in noises}) == 40


def test_an_unknown_noise_is_named(clips):
    with pytest.raises(ConfigError, match=r"Bad noises \['rain'\]: expected some of \['white', 'babble'\]"):
        noise_robustness(clips, kinds=["rain"])


def checkpoint(path, **info):
    torch.manual_seed(0)
    return save_checkpoint(path, build_model("cnn"), name="cnn", info=info)


def test_a_checkpoint_is_scored_on_a_corpus_by_the_emotions_it_has(clips, tmp_path):
    path = checkpoint(tmp_path / "other.safetensors", corpus="ravdess", train_speakers=["ravdess-01"])
    few = clips[clips["emotion"].isin(EMOTIONS[:4])].reset_index(drop=True)
    [row] = transfer(few, path, results_dir=tmp_path, progress=False).to_dict("records")
    assert (row["model"], row["trained_on"], row["tested_on"]) == ("other", "ravdess", "synthetic")
    assert (row["n_test"], row["n_emotions"]) == (20, 4)
    assert row["uar"] <= row["uar_shared"] and row["low"] <= row["uar"] <= row["high"]
    assert row["top_label"] in EMOTIONS and 1 / 8 <= row["top_share"] <= 1
    assert pd.read_csv(tmp_path / "transfer.csv")["uar"].tolist() == pytest.approx([row["uar"]], abs=1e-5)


def test_a_checkpoint_is_not_scored_on_speakers_it_was_trained_on(clips, tmp_path):
    path = checkpoint(tmp_path / "same.safetensors", train_speakers=["synthetic-05"])
    with pytest.raises(ConfigError, match=r"same.safetensors was trained on \['synthetic-05'\]"):
        transfer(clips, path, results_dir=tmp_path, progress=False)


def test_each_corpus_teaches_every_other_and_its_own_by_speaker(clips, tmp_path, monkeypatch):
    shown, members = [], robustness.train_members

    def spy(prepared, fold, **options):
        shown.append((set(prepared.clips["speaker"].iloc[fold.train]), set(prepared.clips["speaker"].iloc[fold.test])))
        return members(prepared, fold, **options)

    monkeypatch.setattr(robustness, "train_members", spy)
    names = np.where(clips["speaker"].isin(["synthetic-05", "synthetic-06"]), "one", "two")
    both = clips.assign(corpus=names, speaker=names + clips["speaker"])
    recipe = replace(SMALL, model="functionals_svm", model_config={})
    table = corpus_matrix(both, recipe=recipe, results_dir=tmp_path, progress=False)
    assert table[["trained_on", "tested_on", "n_test"]].values.tolist() == [
        ["one", "one", 16], ["one", "two", 24], ["two", "one", 16], ["two", "two", 24],
    ]  # fmt: skip
    assert len(shown) == 2 + 1 + 3 + 1 and not any(trained & tested for trained, tested in shown)
    assert table["uar"].mean() > 1 / 8 and table["low"].isna().all()  # fewer than four speakers make no interval
    assert len(pd.read_csv(tmp_path / "matrix.csv")) == 4
