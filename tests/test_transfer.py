"""transfer: a checkpoint on speakers it has not heard gets the scores of its own predictions, and no others."""

import numpy as np
import pandas as pd
import pytest
import torch

from sercore.corpora import load_corpus
from sercore.errors import ConfigError
from sercore.evaluate import scores, targets_of
from sercore.labels import EMOTIONS
from sercore.models import build_model, save_checkpoint
from sercore.predict import Predictor
from sercore.studies import transfer


@pytest.fixture
def clips(five_speakers):
    return load_corpus("synthetic", five_speakers)


def checkpoint(path, train_speakers):
    torch.manual_seed(3)
    widths = (4, 8, 8)
    model = build_model("cnn", widths=widths)
    return save_checkpoint(
        path, model, name="cnn", model_config={"widths": widths}, temperature=0.5,
        info={"corpus": "elsewhere", "train_speakers": train_speakers},
    )  # fmt: skip


def test_its_scores_are_those_of_its_predictions_over_the_emotions_there_are(clips, tmp_path):
    clips = clips[clips["emotion"].isin(["happy", "sad", "angry"])].reset_index(drop=True)
    path = checkpoint(tmp_path / "tiny.safetensors", ["elsewhere-01"])
    row = transfer(clips, path, results_dir=tmp_path, progress=False).iloc[0]
    proba = Predictor(path).predict_files(clips["path"])[list(EMOTIONS)].to_numpy(float)
    targets, answers = targets_of(clips), proba.argmax(axis=1)
    assert (row["model"], row["trained_on"], row["tested_on"]) == ("tiny", "elsewhere", "synthetic")
    assert (row["n_test"], row["n_emotions"]) == (len(clips), 3)
    assert row["uar"] == pytest.approx(scores(targets, answers)["uar"])
    three = [EMOTIONS.index(emotion) for emotion in ("happy", "sad", "angry")]
    shared = np.array(three)[proba[:, three].argmax(axis=1)]
    assert row["uar_shared"] == pytest.approx(scores(targets, shared)["uar"]) and row["uar_shared"] > 0
    assert row["confidence"] == pytest.approx(proba.max(axis=1).mean())
    assert row["top_label"] == EMOTIONS[np.bincount(answers).argmax()]
    assert row["top_share"] == pytest.approx(np.bincount(answers).max() / len(clips))
    assert pd.read_csv(tmp_path / "transfer.csv")["model"].tolist() == ["tiny"]


def test_a_speaker_it_has_heard_is_refused(clips, tmp_path):
    path = checkpoint(tmp_path / "tiny.safetensors", [clips["speaker"].iloc[0]])
    with pytest.raises(ConfigError, match=r"tiny\.safetensors was trained on .*`sercore evaluate` leaves them out"):
        transfer(clips, path, results_dir=tmp_path, progress=False)
    assert not (tmp_path / "transfer.csv").exists()
