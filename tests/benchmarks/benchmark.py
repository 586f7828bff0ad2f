"""How fast the costly steps are, each against a baseline in the same run: python tests/benchmarks/benchmark.py

Ratios travel between machines better than seconds do; both are printed. Uses synthetic speech.
"""

import tempfile
import time

import librosa
import pandas as pd
import soundfile as sf
import torch

from sercore.cache import extract
from sercore.corpora import load_corpus
from sercore.features import FeatureConfig, log_mel
from sercore.models import build_model
from sercore.predict import Predictor


def seconds(action, *, repeats=3):
    """Best of a few runs, after one to warm up."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)


def librosa_alone(clips, config):
    """Decode, resample and compute log-mel as a script without this library would."""
    for path in clips["path"]:
        y, _ = librosa.load(path, sr=config.sr)
        S = librosa.feature.melspectrogram(
            y=y, sr=config.sr, n_fft=config.n_fft, hop_length=config.hop_length, n_mels=64
        )
        librosa.power_to_db(S)


def training_step(model, X):
    model(X).square().mean().backward()
    model.zero_grad()


def main():
    clips, config = load_corpus("synthetic").iloc[:120], FeatureConfig()
    rows = []

    def compare(what, action, baseline_name, baseline, **options):
        fast, slow = seconds(action, **options), seconds(baseline, **options)
        row = {"what": what, "ms": 1000 * fast, "baseline": baseline_name, "baseline ms": 1000 * slow}
        rows.append(row | {"ratio": fast / slow})

    quiet = {"config": config, "progress": False}
    with tempfile.TemporaryDirectory() as cache:
        alone = lambda: librosa_alone(clips, config)  # noqa: E731
        compare(
            "120 clips, nothing cached", lambda: extract(clips, cache=False, **quiet), "librosa, one process", alone
        )
        compare("120 clips, all cached", lambda: extract(clips, cache=cache, **quiet), "librosa, one process", alone)

    X = torch.randn(32, 1, config.n_mels, config.n_frames)
    ours, plain = build_model("cnn"), build_model("cnn").to(memory_format=torch.contiguous_format)
    plain.stem.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    compare(
        "training step, 32 clips",
        lambda: training_step(ours, X),
        "channels first",
        lambda: training_step(plain, X),
        repeats=10,
    )

    predictor, path = Predictor(), clips["path"].iloc[0]
    y, sr = sf.read(path, dtype="float32")
    compare(
        "one answer from a file",
        lambda: predictor.predict(path),
        "log-mel of it alone",
        lambda: log_mel(y, sr=sr),
        repeats=20,
    )
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
