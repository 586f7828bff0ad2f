"""Several processes and machines: the work is done whole, nothing is lost or done twice, whoever dies on the way."""

import os
import signal
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
import torch

from sercore.cache import extract
from sercore.corpora import load_corpus
from sercore.features import FeatureConfig
from sercore.models import build_model, save_checkpoint
from sercore.predict import Predictor


@pytest.fixture(scope="module")
def cluster():
    """Two workers on this machine, spoken to as those of a cluster are."""
    distributed = pytest.importorskip("distributed", reason="needs Dask: pip install distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as workers, distributed.Client(workers) as client:
        yield client


@pytest.fixture
def clips(five_speakers):
    return load_corpus("synthetic", five_speakers)


def kill_a_worker(client):
    os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_dies_takes_no_answer_along(cluster, clips, tmp_path):
    torch.manual_seed(0)
    options = {"widths": (4, 8)}
    save_checkpoint(tmp_path / "cnn.safetensors", build_model("cnn", **options), name="cnn", model_config=options)
    predictor, rows = Predictor(tmp_path / "cnn.safetensors"), []
    paths = [*clips["path"], tmp_path / "none.wav"]
    with joblib.parallel_config(backend="dask"):
        for row in predictor.predict_files(paths, jobs=-1):
            rows.append(row)
            if len(rows) == 9:
                kill_a_worker(cluster)
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert "No file at" in rows.pop()["error"]
    alone = pd.DataFrame(predictor.predict_files(clips["path"]))
    pd.testing.assert_frame_equal(pd.DataFrame(rows), alone, rtol=1e-4)


@pytest.mark.slow
def test_a_worker_of_a_cluster_that_dies_takes_no_feature_along(cluster, clips, tmp_path, monkeypatch):
    config, alone = FeatureConfig(), extract(clips, cache=False, n_jobs=1, progress=False)
    many = pd.concat([clips] * 10, ignore_index=True)
    with joblib.parallel_config(backend="dask"):
        killed = []
        monkeypatch.setattr("sercore.cache.tqdm", lambda results, **_: killing(results, cluster, killed))
        features = extract(many, config=config, cache=tmp_path, progress=False)
    assert killed and len(features) == len(many)
    for k, feature in enumerate(features):
        np.testing.assert_array_equal(feature, alone[k % len(clips)])
    assert len(list(tmp_path.rglob("*.npy"))) == len(clips) and not list(tmp_path.rglob("*.tmp*"))


def killing(results, client, killed):
    for k, result in enumerate(results):
        if k == 5:
            kill_a_worker(client)
            killed.append(k)
        yield result


@pytest.mark.slow
def test_processes_that_accelerate_launches_record_every_clip_once(five_speakers, tmp_path):
    options = ["--corpus", "synthetic", "--root", five_speakers, "--folds", "1", "--epochs", "2"]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1",
              "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "sercore", "crossval"]  # fmt: skip
    own = {"SERCORE_PROFILE": "smoke", "SERCORE_RUNS": str(tmp_path / "runs"), "SERCORE_RESULTS": str(tmp_path)}
    done = subprocess.run(
        [*launch, *options],
        capture_output=True,
        text=True,
        env=os.environ | own | {"SERCORE_DEVICE": "cpu"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answers = [pd.read_csv(file) for file in tmp_path.rglob("out_of_fold/*.csv")]
    assert len(answers) == 1 and answers[0]["clip"].is_unique
    scores = pd.concat(pd.read_csv(file) for file in tmp_path.rglob("scores.csv"))
    assert scores["n_test"].tolist() == [len(answers[0])]
