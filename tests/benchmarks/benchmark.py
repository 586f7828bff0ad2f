"""How fast and how large the costly steps are, each against a baseline in the same run: python tests/benchmarks/benchmark.py

Ratios travel between machines better than seconds do. Every time is the median of several runs after one to warm up, on a
machine that does nothing else. Reads RAVDESS where there is some, else synthetic speech, and says so. With --record the
table becomes data/results/speed.csv, from which `make facts` fills data/README.md.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import librosa
import numpy as np
import onnxruntime
import pandas as pd
import soundfile as sf
import soxr
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sercore import settings
from sercore.audio import load_audio
from sercore.augment import SpectrogramWarp
from sercore.cache import extract
from sercore.corpora import load_corpus
from sercore.export import export_onnx
from sercore.features import FeatureConfig, log_mel
from sercore.models import build_model, predict_logits
from sercore.predict import VARIANTS, Predictor
from sercore.records import record
from sercore.train import processor

CONFIG = FeatureConfig()
QUIET = {"cache": False, "progress": False}


def corpus_at_hand():
    return "ravdess" if (settings.data_root() / "ravdess").is_dir() else "synthetic"


def seconds(action, *, repeats=5):
    """Median of some runs, after one to warm up."""
    action()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def log_mels_by_librosa(paths):
    """As a script without this library would: one clip after the other."""
    for path in paths:
        y, sr = librosa.load(path, sr=CONFIG.sr)
        librosa.power_to_db(
            librosa.feature.melspectrogram(y=y, sr=sr, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length)
        )


def functionals_by_librosa(paths):
    """Means over time of five features, as most tutorials on RAVDESS compute them."""
    for path in paths:
        y, sr = librosa.load(path, sr=CONFIG.sr)
        parts = [librosa.feature.zero_crossing_rate(y), librosa.feature.chroma_stft(S=np.abs(librosa.stft(y)), sr=sr),
                 librosa.feature.mfcc(y=y, sr=sr), librosa.feature.rms(y=y),
                 librosa.feature.melspectrogram(y=y, sr=sr)]  # fmt: skip
        np.hstack([part.mean(axis=1) for part in parts])


def varied_by_librosa(waveforms):
    """What augments on the fly in most tutorials."""
    for y in waveforms:
        y = librosa.effects.time_stretch(librosa.effects.pitch_shift(y, sr=CONFIG.sr, n_steps=1.5), rate=1.1)
        librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=CONFIG.sr, hop_length=CONFIG.hop_length))


class Wav2Vec2Sized(nn.Module):
    """As many products as wav2vec2-base has for a clip, with random weights: Baevski et al. (2020), arXiv:2006.11477."""

    def __init__(self):
        super().__init__()
        shapes = [(1, 10, 5), *[(512, 3, 2)] * 4, *[(512, 2, 2)] * 2]
        self.convolutions = nn.Sequential(*(nn.Sequential(nn.Conv1d(n, 512, k, s), nn.GELU()) for n, k, s in shapes))
        layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True, norm_first=True)
        self.project, self.layers = nn.Linear(512, 768), nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)

    def forward(self, y):
        return self.layers(self.project(self.convolutions(y[:, None]).transpose(1, 2)))


#: A small parent for a command: what a process has at its largest begins with what its parent had.
SMALL = """
import resource, subprocess, sys
subprocess.run([sys.executable, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""


def process(*command):
    """Run a command of its own: seconds, and the largest it or one of its processes became [MB]."""
    started = time.perf_counter()
    run = [sys.executable, "-c", SMALL, *map(str, command)]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, float(done.stdout)


def median_process(*command, repeats=3):
    runs = [process(*command) for _ in range(repeats + 1)][1:]
    return [statistics.median(column) for column in zip(*runs, strict=True)]


def features(paths, rows, _):
    clips = pd.DataFrame({"path": paths})
    for kind, baseline in (("log_mel", log_mels_by_librosa), ("functionals", functionals_by_librosa)):
        per_clip = [1000 / len(paths) * seconds(action, repeats=7) for action in (
            lambda kind=kind: extract(clips, config=CONFIG, kind=kind, **QUIET), lambda baseline=baseline: baseline(paths),
        )]  # fmt: skip
        rows.append(
            [f"{kind.replace('_', '-')} of a clip, ms", per_clip[0], "librosa, one clip after the other", per_clip[1]]
        )
    warp, rng = SpectrogramWarp(), np.random.default_rng(0)
    waveforms = [librosa.load(path, sr=CONFIG.sr)[0] for path in paths[:32]]
    spectrograms = extract(clips[:32], config=CONFIG, **QUIET)

    def varied():
        for S_db in spectrograms:
            warp(S_db, rng=rng, floor_db=CONFIG.db_floor, hop_s=CONFIG.hop_length / CONFIG.sr)

    per_clip = [1000 / 32 * seconds(action, repeats=7) for action in (varied, lambda: varied_by_librosa(waveforms))]
    rows.append(["a variation of a clip, ms", per_clip[0], "librosa, pitch and tempo on the fly", per_clip[1]])


def parts(paths, rows, _):
    """Where the time of an answer by `small` goes, on one thread, beside what nobody can do without."""
    predictor, threads = Predictor("small"), torch.get_num_threads()
    torch.set_num_threads(1)
    y = load_audio(paths[0])
    [feature] = extract(pd.DataFrame({"path": paths[:1]}), config=predictor.config, **QUIET, n_jobs=1)
    X = torch.zeros(1, 1, predictor.config.n_mels, predictor.config.n_frames)

    def bare():
        y, sr = sf.read(paths[0], dtype="float32")
        soxr.resample(y, sr, CONFIG.sr)

    def by_librosa():
        S = librosa.feature.melspectrogram(y=y, sr=CONFIG.sr, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length)
        librosa.power_to_db(S)

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        predictor.model(X)
    A = torch.randn(2048, 2048)
    with torch.inference_mode():
        product_s = seconds(lambda: A @ A) * counter.get_total_flops() / (2 * 2048**3)
    for what, action, baseline, least in (
        ("decoding and resampling", lambda: load_audio(paths[0]), "soundfile and soxr alone", seconds(bare, repeats=40)),
        ("log-mel", lambda: log_mel(y, sr=CONFIG.sr, config=CONFIG), "librosa", seconds(by_librosa, repeats=40)),
        ("the network, at three tempos", lambda: predict_logits(predictor.model, [feature], config=predictor.config),
         "its sums at the pace of a product of matrices", product_s),
    ):  # fmt: skip
        took_ms, what = 1000 * seconds(action, repeats=40), f"of an answer by `small`, one thread: {what}, ms"
        rows.append([what, took_ms, baseline, 1000 * least])
    torch.set_num_threads(threads)


def answers(paths, rows, folder):
    y = torch.randn(1, 3 * CONFIG.sr)
    large = Wav2Vec2Sized().eval()
    with torch.inference_mode():
        forward = 1000 * seconds(lambda: large(y))
    for name in VARIANTS:
        predictor = Predictor(name)
        one = 1000 * seconds(lambda predictor=predictor: predictor.predict(paths[0]), repeats=20)
        rows.append(
            [f"one answer from a file, `{name}`, ms", one, "a network of wav2vec2-base's size, forward alone", forward]
        )
        y_clip = predictor.load(paths[0])
        torchs = 1000 * seconds(lambda p=predictor, y=y_clip: p.predict((y, CONFIG.sr)), repeats=20)
        session = onnxruntime.InferenceSession(export_onnx(folder / f"{name}.onnx", checkpoint=name))
        given = {session.get_inputs()[0].name: y_clip}
        as_onnx = 1000 * seconds(lambda session=session, given=given: session.run(None, given), repeats=20)
        del session  # its threads would go on for a while
        rows.append([f"one answer from a waveform, `{name}` by onnxruntime, ms", as_onnx, "by torch", torchs])


def commands(paths, rows, folder):
    start_s, start_mb = median_process("-c", "import torch, librosa")
    for name in ("small", "any_voice"):
        took_s, peak_mb = median_process("-m", "sercore", "predict", paths[0], "--checkpoint", name)
        rows.append([f"`sercore predict` of one clip, `{name}`, s", took_s, "`import torch, librosa`", start_s])
        rows.append([f"`sercore predict` of one clip, `{name}`, MB", peak_mb, "`import torch, librosa`", start_mb])
    files = folder / "files"
    files.mkdir()
    for k in range(300):
        (files / f"{k:03}{Path(paths[0]).suffix}").symlink_to(Path(paths[k % len(paths)]).resolve())
    for name in VARIANTS:
        times = {}
        for jobs in (2, 1):
            options = ("--checkpoint", name, "--csv", folder / "all.csv", "--jobs", jobs)
            times[jobs] = 1000 / 300 * process("-m", "sercore", "predict", files, *options)[0]
        rows.append(
            [f"300 files in one command, `{name}`, two processes, ms a file", times[2], "one process", times[1]]
        )


#: How many files, in how many processes: cost against size, then time against processes.
SCALES = [*((n, 2) for n in (100, 1_000, 10_000, 100_000)), (10_000, 1), *((2_000, jobs) for jobs in (1, 2, 3, 4))]


def scale(paths, rows, folder):
    """What a file costs among few and among many, each file many times, and what further processes bring."""
    for n, jobs in SCALES:
        listed = folder / "files.txt"
        listed.write_text("\n".join(str(Path(paths[k % len(paths)]).resolve()) for k in range(n)))
        options = ("--checkpoint", "small", "--csv", folder / "all.csv", "--jobs", jobs)
        took_s, peak_mb = process("-m", "sercore", "predict", "--files-from", listed, *options)
        rows.append([n, jobs, 1000 * took_s / n, peak_mb])


def training(_, rows, __):
    """What a step takes, and what it would take if all its sums were a plain product of matrices."""
    model, X = build_model("cnn"), torch.randn(32, 1, CONFIG.n_mels, CONFIG.n_frames)

    def step():
        model(X).square().mean().backward()
        model.zero_grad()

    A = torch.randn(2048, 2048)
    with FlopCounterMode(display=False) as counter:
        step()
    took_ms, product_s = 1000 * seconds(step, repeats=40), seconds(lambda: A @ A, repeats=40)
    least_ms = 1000 * product_s * counter.get_total_flops() / (2 * 2048**3)
    rows.append(["a training step of 32 clips, ms", took_ms, "its sums at the pace of a product of matrices", least_ms])


def memory(_, rows, folder):
    """How much more than its imports an hour's timeline takes, and how much a training on all clips."""
    hour = folder / "hour.wav"
    with sf.SoundFile(hour, "w", CONFIG.sr, 1) as file:
        for k in range(1200):
            file.write(np.random.default_rng(k).normal(0, 0.05, 3 * CONFIG.sr))
    base = process("-c", "import sercore.cli, sercore.predict as p, pandas; p.Predictor('small')")[1]
    peak = process("-m", "sercore", "timeline", hour, "--checkpoint", "small", "--csv", folder / "hour.csv")[1]
    rows.append(["an hour's timeline, `small`, MB", peak, "its imports and the network", base])
    trained = process(
        "-m", "sercore", "train", "--corpus", corpus_at_hand(), "--epochs", 1, "--out", folder / "new.safetensors"
    )
    start_mb = process("-c", "import torch, librosa")[1]
    rows.append(["an epoch on the whole corpus, MB", trained[1], "`import torch, librosa`", start_mb])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the rows to data/results/speed.csv")
    parser.add_argument(
        "--only",
        choices=("training", "features", "parts", "answers", "commands", "memory", "scale"),
        help="one part; scale, which takes half an hour, is in none of the others",
    )
    only = (options := parser.parse_args()).only
    corpus = corpus_at_hand()
    clips, rows = load_corpus(corpus), []
    paths = clips["path"].iloc[:: max(1, len(clips) // 360)].tolist()[:360]
    with tempfile.TemporaryDirectory() as place:
        for part in (training, features, parts, answers, commands, memory):
            if only in (None, part.__name__):
                part(paths, rows, Path(place))
        if only == "scale":
            scale(paths, rows, Path(place))
    if only == "scale":
        file, table = "scale.csv", pd.DataFrame(rows, columns=["n_files", "jobs", "ms_a_file", "peak_mb"])
    else:
        file, table = "speed.csv", pd.DataFrame(rows, columns=["what", "ours", "baseline", "theirs"])
        table["ratio"] = table["theirs"] / table["ours"]
    where = {"processor": processor(), "threads": torch.get_num_threads(), "commit": settings.commit()}
    table = table.round(4).assign(corpus=corpus, **where)
    print(table.iloc[:, :5].round(2).to_string(index=False))
    if options.record:
        record(settings.results_dir() / file, table, keys=("n_files", "jobs") if only == "scale" else ("what",))


if __name__ == "__main__":
    main()
