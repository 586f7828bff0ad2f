"""export: a network with its front end as one ONNX graph, a waveform in and probabilities out: for phones and browsers."""

import json
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.features import FeatureConfig, hann, mel_filters
from sercore.predict import Predictor
from sercore.settings import check_writable, write_atomic

_OPSET = 17


class LogMel(nn.Module):
    """What `features.compute` and `features.to_windows` do, in operations that ONNX has."""

    def __init__(self, config: FeatureConfig):
        super().__init__()
        self.config = config
        left = (config.n_fft - config.win_length) // 2
        n = np.arange(config.n_fft)[left : left + config.win_length]
        turns = np.outer(np.arange(config.n_fft // 2 + 1), n) % config.n_fft / config.n_fft
        window = hann(config)[n]
        basis = [np.cos(2 * np.pi * turns) * window, np.sin(2 * np.pi * turns) * window]
        self.register_buffer("basis", torch.tensor(np.concatenate(basis)[:, None], dtype=torch.float32))
        self.register_buffer("filters", torch.tensor(mel_filters(config)))
        first = config.n_fft // 2 - left
        self.around = (first, 2 * (config.n_fft // 2) - config.n_fft + config.win_length - first)

    def forward(self, y):
        """Give windows (n_windows, 1, n_mels, n_frames) of a waveform (n_samples,)."""
        config = self.config
        y = _without_pauses(y.clamp(-1, 1), config.sr, config.window_s * config.sr)
        if config.trim_db is not None:
            heard = torch.nonzero(_levels_db(y) > -config.trim_db)[:, 0]
            y = y[512 * heard[0] : 512 * (heard[-1] + 1)]
        spectrum = nn.functional.conv1d(
            nn.functional.pad(y, self.around)[None, None], self.basis, None, config.hop_length
        )
        real, imaginary = spectrum[0].chunk(2)  # (n_fft / 2 + 1, frames) each
        S_db = 10 * (self.filters @ (real.square() + imaginary.square())).clamp(min=1e-10).log10()
        S_db = (S_db if config.level == "fixed" else S_db - S_db.max()).clamp(min=config.db_floor)
        return (self._windows(S_db)[:, None] - config.db_center) / config.db_scale

    def _windows(self, S_db):
        size = self.config.n_frames
        # Lengths are counted, as the tracer would keep `shape` as that of its example.
        room = (torch.ones_like(S_db[0]).long().sum() - size).clamp(min=0)
        steps = (2 * room + size - 1) // size  # windows after the first, half a window apart at most
        twice, parts = 2 * room * torch.arange(steps + 1), 2 * steps.clamp(min=1)
        starts = (twice + parts // 2) // parts
        # Halves go to the even frame, as numpy rounds them; in whole numbers, as runtimes differ.
        starts = starts - ((twice + parts // 2 - starts * parts == 0) & (starts - 2 * (starts // 2) == 1)).long()
        S_db = nn.functional.pad(S_db, (0, size), value=self.config.db_floor)
        return S_db[:, starts[:, None] + torch.arange(size)].transpose(0, 1)


def _levels_db(y):
    power = nn.functional.pad(y.square(), (1024, 1024))[None, None]
    power = nn.functional.avg_pool1d(power, 2048, 512)[0, 0].clamp(min=1e-10)
    return 10 * (power / power.max()).log10()


def _without_pauses(y, sr, longest):
    """Do what `audio.cut_pauses` does, where the speech is longer than `longest` samples."""
    level_db, half = _levels_db(y), sr // 2
    speech = torch.nonzero(level_db > -35.0)[:, 0]
    end = torch.minimum(512 * (speech[-1] + 1), torch.ones_like(y).long().sum())
    fits = end - 512 * speech[0] <= longest
    rank = 0.1 * (torch.ones_like(level_db).double().sum() - 1)  # of the 10th percentile
    low, ordered = rank.floor().long(), level_db.sort()[0]
    high = rank.ceil().long()
    quiet_db = ordered[low] + (rank - rank.floor()).float() * (ordered[high] - ordered[low])
    heard = (level_db > -(-0.6 * quiet_db).clamp(10.0, 35.0)).long()
    heard = heard[:, None].expand(-1, 512).reshape(-1)[: y.shape[0]]
    n_before = nn.functional.pad(heard, (half + 1, half)).cumsum(0)
    near = n_before[2 * half + 1 :] > n_before[: -2 * half - 1]  # speech is within half a second
    return y[torch.nonzero(near | fits)[:, 0]]


class Exported(nn.Module):
    """Front end, network, mean over the windows, and calibration."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.front, self.model, self.temperature = LogMel(predictor.config), predictor.model, predictor.temperature

    def forward(self, y):
        """Give the probability of each emotion (n_emotions,) for a waveform (n_samples,)."""
        return torch.softmax(self.model(self.front(y)).mean(dim=0) / self.temperature, dim=0)


def export_onnx(file: str | Path, *, checkpoint: str | Path = "small") -> Path:
    """Write a network that reads log-mel as an ONNX graph, from waveform to calibrated probabilities.

    Its input ``waveform`` (n_samples,) is mono float32 at the rate that its metadata name, its output ``probabilities``
    (n_emotions,) is in the order of their ``emotions``. It gives what `Predictor.predict` does, but warns of nothing.
    `ConfigError` if the network reads something else, or onnx is not installed.

    >>> export_onnx("small.onnx", checkpoint="small")
    """
    if find_spec("onnx") is None:
        raise ConfigError("No onnx here: expected it for an export; `pip install onnx onnxruntime` brings it.")
    import onnx

    check_writable(file)
    predictor = Predictor(checkpoint)
    if predictor.model.kind != "log_mel":
        raise ConfigError(f"Bad network {predictor.name}: it reads {predictor.model.kind}, expected one for log-mel.")
    part = Path(f"{file}.part")
    names = {"input_names": ["waveform"], "output_names": ["probabilities"], "dynamic_axes": {"waveform": {0: "n"}}}
    y = torch.randn(3 * predictor.config.sr) / 10
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer's, of sizes that do not change
            torch.onnx.export(Exported(predictor).eval(), (y,), part, opset_version=_OPSET, dynamo=False, **names)
        graph = onnx.load(part)
    finally:
        part.unlink(missing_ok=True)
    facts = {"sr": predictor.config.sr, "emotions": predictor.metadata["emotions"], "network": predictor.name}
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in facts.items()})
    return write_atomic(file, graph.SerializeToString())
