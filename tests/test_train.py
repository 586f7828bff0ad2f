"""Training: what the network is shown, that a seed repeats a run, and that a killed run ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import safetensors
import torch

from sercore import models, train
from sercore.dataset import TrainingSet
from sercore.errors import ConfigError
from sercore.models.functionals_svm import FunctionalsSVM
from sercore.train import TrainConfig, fit, one_cycle

CONFIG = TrainConfig(epochs=3, batch_size=16, patience=3, ema_decay=0.5)


def bands(n_clips, *, seed=0):
    """Clips whose emotion is the band of mels that is loud: a network can learn this in a few steps."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n_clips) % 8
    clips = rng.normal(-60, 5, (n_clips, 64, 40)).astype(np.float32)
    for clip, target in zip(clips, targets, strict=True):
        clip[target * 8 : target * 8 + 8] += 40
    return list(clips), targets


@pytest.fixture
def data():
    features, targets = bands(64)
    return TrainingSet(features, targets, seed=1), *bands(16, seed=1)


def timeless(history):
    return history.drop(columns="seconds")


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing():
    rates = [one_cycle(step, 100, peak=1.0, warmup=0.3) for step in range(100)]
    assert np.argmax(rates) == 30
    assert rates[0] == pytest.approx(0.04)
    assert rates[30] == pytest.approx(1.0)
    assert rates[-1] < 0.01
    torch_rates = torch.optim.lr_scheduler.OneCycleLR(
        torch.optim.SGD([torch.zeros(1)], lr=1.0), max_lr=1.0, total_steps=101, pct_start=0.31
    )
    assert torch_rates.get_last_lr()[0] == pytest.approx(rates[0])


def test_it_learns_and_keeps_the_best_epoch(data):
    result = fit("cnn", *data, config=replace(CONFIG, epochs=6, patience=6), progress=False)
    history = result.history
    assert list(history) == ["epoch", "lr", "train_loss", "train_uar", "val_loss", "val_uar", "seconds"]
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["val_uar"].max() > 0.5
    assert result.best_epoch == history["epoch"][history["val_uar"].idxmax()]
    assert not result.model.training


def test_one_seed_gives_one_history_and_another_seed_another(data):
    one, same, other = (
        fit("cnn", *data, config=replace(CONFIG, epochs=2, seed=seed), progress=False).history for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(timeless(one), timeless(same), check_exact=True)
    assert not timeless(one).equals(timeless(other))


def test_mixup_blends_what_it_learns_from(data):
    plain, mixed = (
        fit("cnn", *data, config=replace(CONFIG, epochs=2, mixup_alpha=alpha), progress=False).history
        for alpha in (0, 0.4)
    )
    assert mixed["train_loss"].iloc[-1] > plain["train_loss"].iloc[-1]


def test_it_stops_when_patience_is_over(data):
    train_set, features, targets = data
    # Labels that the features say nothing about: validation cannot go on getting better.
    shuffled = np.random.default_rng(0).permutation(targets)
    result = fit("cnn", train_set, features, shuffled, config=replace(CONFIG, epochs=40, patience=2), progress=False)
    assert len(result.history) == result.best_epoch + 2 < 40


def test_a_finished_run_is_read_not_trained_again_and_another_one_is_refused(data, tmp_path):
    one, other = replace(CONFIG, epochs=1), replace(CONFIG, epochs=1, lr=1e-4)
    first, again = (fit("cnn", *data, config=one, run_dir=tmp_path, progress=False) for _ in range(2))
    pd.testing.assert_frame_equal(first.history, again.history)
    with pytest.raises(ConfigError, match="other settings"):
        fit("cnn", *data, config=other, run_dir=tmp_path, progress=False)


@pytest.fixture
def tell_apart(monkeypatch):
    """A model, "scripted", that says when its hooks are called, and starts from weights of its own."""
    calls = []

    class Scripted(torch.nn.Module, models.Trainable):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(64, 8)

        def warm_start(self):
            calls.append("warm start")
            torch.nn.init.constant_(self.head.weight, 7.0)
            return True

        def set_stage(self, progress):
            calls.append(progress)

        def forward(self, X):
            return self.head(X[:, 0].mean(dim=2))

    monkeypatch.setitem(models.MODELS, "scripted", Scripted)
    return calls


def test_a_network_is_warmed_up_once_and_told_its_progress_each_epoch(data, tell_apart):
    result = fit("scripted", *data, config=replace(CONFIG, epochs=4, patience=4, lr=1e-9), progress=False)
    assert tell_apart == ["warm start", 0.0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(result.model.head.weight, torch.full((8, 64), 7.0))
    assert result.facts["pretrained"] is True


def test_the_running_mean_starts_with_a_short_memory(data):
    """Of 0.9999 alone, the mean would be the untrained network still after six short epochs."""
    result = fit("cnn", *data, config=replace(CONFIG, epochs=6, patience=6, ema_decay=0.9999), progress=False)
    assert result.history["val_uar"].iloc[-1] > 0.5


def test_a_model_that_is_solved_at_once_meets_the_clips_and_their_copies(monkeypatch):
    met = []
    original = FunctionalsSVM.fit_closed

    def spy(self, X, targets, *, seed):
        met.append((X[:, 0].tolist(), targets.tolist(), seed))
        original(self, X, targets, seed=seed)

    monkeypatch.setattr(FunctionalsSVM, "fit_closed", spy)
    targets = np.arange(8)

    def vectors(first):
        clips = 10 * np.eye(8, 196, k=1, dtype=np.float32)  # the emotion is the entry that is high
        clips[:, 0] = first + targets
        return list(clips)

    copies = [list(pair) for pair in zip(vectors(100), vectors(200), strict=True)]
    result = fit("functionals_svm", TrainingSet(vectors(0), targets, copies=copies), vectors(50), targets,
                 config=replace(CONFIG, seed=5), progress=False)  # fmt: skip
    [(first, shown, seed)] = met
    assert first == [start + k for k in range(8) for start in (0, 100, 200)]
    assert shown == [k for k in range(8) for _ in range(3)]
    assert seed == 5
    assert result.history[["epoch", "train_uar", "val_uar"]].values.tolist() == [[1, 1, 1]]
    assert (result.best_epoch, result.stopped_early, result.model.training) == (1, False, False)
    assert "val_uar" not in fit("functionals_svm", TrainingSet(vectors(0), targets), progress=False).history


@pytest.mark.parametrize(
    ("device", "capabilities", "asked", "precision"),
    [
        ("cpu", {"avx512_bf16": True}, "auto", "bf16"),
        ("cpu", {"avx512_bf16": False, "avx512_f": True}, "auto", "no"),
        ("cpu", {"architecture": "arm64"}, "auto", "no"),
        ("cpu", {"avx512_bf16": True}, "no", "no"),
        ("cpu", {}, "bf16", "bf16"),
        ("mps", {"avx512_bf16": True}, "auto", "no"),
    ],
)
def test_half_precision_is_for_processors_that_compute_with_it(
    device, capabilities, asked, precision, data, monkeypatch
):
    class Chosen(Exception):
        pass

    def accelerator(*, cpu, mixed_precision, **_):
        raise Chosen(f"{mixed_precision}, on the CPU: {cpu}")

    monkeypatch.setattr(train.settings, "device", lambda: device)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(train, "Accelerator", accelerator)
    with pytest.raises(Chosen, match=f"^{precision}, on the CPU: {device == 'cpu'}$"):
        fit("cnn", *data, config=replace(CONFIG, mixed_precision=asked), progress=False)


def test_one_process_can_train_at_one_precision_after_the_other(data, tell_apart):
    losses = [
        fit("scripted", *data, config=replace(CONFIG, epochs=1, mixed_precision=precision), progress=False).history
        for precision in ("no", "bf16", "no")
    ]
    first, half, again = (history["train_loss"].item() for history in losses)
    assert first == again != half
    assert half == pytest.approx(first, rel=0.05)


def test_bad_settings_are_named():
    with pytest.raises(ConfigError, match="epochs 0"):
        TrainConfig(epochs=0)


RUN = """
import sys
sys.path.insert(0, sys.argv[2])
from test_train import CONFIG, bands, fit, replace, TrainingSet
fit("cnn", TrainingSet(*bands(64), seed=1), *bands(16, seed=1),
    config=replace(CONFIG, epochs=6, patience=6), run_dir=sys.argv[1], progress=False)
"""


@pytest.mark.slow
def test_a_run_killed_half_way_ends_as_if_it_had_not_been(data, tmp_path):
    whole = fit("cnn", *data, config=replace(CONFIG, epochs=6, patience=6), progress=False)
    state = tmp_path / "state.safetensors"
    command = [sys.executable, "-c", RUN, str(tmp_path), os.path.dirname(__file__)]
    process, stamps, deadline = subprocess.Popen(command), set(), time.monotonic() + 120
    while len(stamps) < 2 and process.poll() is None and time.monotonic() < deadline:
        stamps |= {state.stat().st_mtime_ns} if state.exists() else set()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with safetensors.safe_open(state, framework="pt") as file:
        n_done = file.metadata()["history"].count('"epoch"')
    assert 0 < n_done < 6
    resumed = fit("cnn", *data, config=replace(CONFIG, epochs=6, patience=6), run_dir=tmp_path, progress=False)
    pd.testing.assert_frame_equal(timeless(whole.history), timeless(resumed.history), check_exact=True)
    assert resumed.best_epoch == whole.best_epoch
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


LAUNCHED = """
import json, sys
sys.path.insert(0, sys.argv[2])
from test_train import CONFIG, bands, fit, TrainingSet
from sercore.train import processes
train_set = TrainingSet(*bands(64), seed=1)
result = fit("cnn", train_set, *bands(16, seed=1), config=CONFIG, run_dir=sys.argv[1], progress=False)
facts = [processes().num_processes, result.best_epoch, result.history.drop(columns="seconds").values.tolist()]
open(f"{sys.argv[1]}/{processes().process_index}.json", "w").write(json.dumps(facts))
"""


@pytest.mark.slow
def test_two_processes_train_one_network_as_one_process_does(data, tmp_path):
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    options = {"capture_output": True, "text": True, "env": os.environ | {"SERCORE_DEVICE": "cpu"}, "timeout": 120}
    done = subprocess.run([*command, script, tmp_path, os.path.dirname(__file__)], **options)
    assert done.returncode == 0, done.stderr[-2000:]
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert one[0] == 2
    assert one == other
    shared, alone = np.array(one[2]), fit("cnn", *data, config=CONFIG, progress=False).history
    assert shared[:, :2].tolist() == alone[["epoch", "lr"]].to_numpy().tolist()  # the same steps
    # Batch normalisation and dropout see half a batch each; otherwise the networks are the same.
    assert shared[:, 2:] == pytest.approx(timeless(alone).to_numpy()[:, 2:], abs=0.25)
