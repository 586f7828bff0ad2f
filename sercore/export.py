"""export: a network with its front end as one ONNX graph, waveform in and probabilities out, for phones and other languages."""

import json
import warnings
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.predict import Predictor
from sercore.settings import write_atomic

#: Frames of `librosa.effects.trim` [samples].
TRIM_FRAME, TRIM_HOP = 2048, 512
#: Largest difference of a probability between the graph and torch that is let through.
TOLERANCE = 1e-4


class Listener(nn.Module):
    """What `Predictor.predict` does with a waveform, in tensor operations alone; pauses are not cut out."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        c = self.config = predictor.config
        if predictor.model.kind != "log_mel":
            raise ConfigError(
                f"Bad network {predictor.name}: it reads {predictor.model.kind}; expected one that reads log_mel."
            )
        self.model, self.temperature = predictor.model, float(predictor.temperature)
        # Around the window, which is shorter than n_fft, there would be zeros; the phase does not matter.
        angles = 2 * np.pi * np.outer(np.arange(c.n_fft // 2 + 1), np.arange(c.win_length)) / c.n_fft
        window = librosa.filters.get_window("hann", c.win_length)
        fourier = np.concatenate([np.cos(angles), np.sin(angles)]) * window  # (2 bins, win_length)
        mel = librosa.filters.mel(sr=c.sr, n_fft=c.n_fft, n_mels=c.n_mels, fmin=c.fmin_hz, fmax=c.fmax_hz)
        self.register_buffer("fourier", torch.from_numpy(fourier).float()[:, None])
        self.register_buffer("mel", torch.from_numpy(mel).float())

    def forward(self, y):  # (n_samples,) at config.sr
        windows = self.windows(self.log_mel(self.trim(y)))  # (n_windows, 1, n_mels, n_frames)
        logits = self.model(windows).mean(dim=0)  # (8,)
        return torch.softmax(logits / self.temperature, dim=0)

    def trim(self, y):
        """Cut the quiet ends off, as `librosa.effects.trim` does."""
        if self.config.trim_db is None:
            return y
        padded = nn.functional.pad(y * y, (TRIM_FRAME // 2, TRIM_FRAME // 2))[None, None]
        power = nn.functional.avg_pool1d(padded, TRIM_FRAME, TRIM_HOP)[0, 0].clamp(min=1e-10)  # (n,)
        loud = (power > power.max() * 10 ** (-self.config.trim_db / 10)).int()
        first, last = loud.argmax(), loud.shape[0] - loud.flip(0).argmax()
        return y[first * TRIM_HOP : last * TRIM_HOP]

    def log_mel(self, y):
        c = self.config
        lead = c.n_fft // 2 - (c.n_fft - c.win_length) // 2
        padded = nn.functional.pad(y, (lead, c.win_length - lead))[None, None]
        spectrum = nn.functional.conv1d(padded, self.fourier, stride=c.hop_length)[0]
        real, imaginary = spectrum.chunk(2)  # (bins, frames) each
        S = (self.mel @ (real * real + imaginary * imaginary)).clamp(min=1e-10)
        S_db = 10 * torch.log10(S / (S.max() if c.level == "clip" else 1.0))
        return S_db.clamp(min=c.db_floor)

    def windows(self, S_db):
        c, n = self.config, S_db.shape[1]
        over = torch.as_tensor(n - c.n_frames).clamp(min=0).double()
        steps = torch.ceil(over / (c.n_frames / 2)).long()  # one window fewer than there are
        starts = torch.round(torch.arange(steps + 1) * (over / steps.clamp(min=1))).long()
        padded = nn.functional.pad(S_db, (0, c.n_frames), value=c.db_floor)
        X = padded[:, starts[:, None] + torch.arange(c.n_frames)]  # (n_mels, n_windows, n_frames)
        return (X.permute(1, 0, 2)[:, None] - c.db_center) / c.db_scale


def export_onnx(predictor: Predictor, path: str | Path) -> float:
    """Write a network as an ONNX file, if onnxruntime then answers as torch does; give the largest difference met.

    The graph takes ``waveform`` (n_samples,), float32, mono, at the rate that its metadata name, and gives
    ``probabilities`` (8,), calibrated, in the order of its metadata's emotions. `ConfigError` if onnx and onnxruntime
    are not installed, or if the answers differ by more than `TOLERANCE`.

    >>> export_onnx(Predictor("small"), "small.onnx")  # doctest: +SKIP
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"Cannot export: {error.name} is missing. Install both: pip install onnx onnxruntime"
        ) from error
    listener, sr = Listener(predictor).eval(), predictor.config.sr
    part = Path(path).with_suffix(".onnx.part")
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of each Python number that becomes a constant
            torch.onnx.export(
                listener, (_tone(2.0, sr),), part, input_names=["waveform"], output_names=["probabilities"],
                dynamic_axes={"waveform": {0: "samples"}}, opset_version=17, dynamo=False,
            )  # fmt: skip
        graph = onnx.load(part)
    finally:
        part.unlink(missing_ok=True)
    facts = {"sr": sr, "emotions": json.dumps(EMOTIONS), "network": predictor.name}
    onnx.helper.set_model_props(graph, {key: str(value) for key, value in facts.items()})
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    difference = 0.0
    for seconds in (0.4, 1.7, 4.2, 9.0):
        y = _tone(seconds, sr)
        (proba,) = session.run(None, {"waveform": y.numpy()})
        expected = predictor.predict((y.numpy(), sr)).probabilities
        difference = max(difference, float(np.abs(proba - list(expected.values())).max()))
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"Bad export of {predictor.name}: a probability differs by {difference:.1e}, expected {TOLERANCE}."
        )
    write_atomic(path, graph.SerializeToString())
    return difference


def _tone(seconds, sr):
    """A voice-like sound without pauses: harmonics that move."""
    t = np.arange(round(seconds * sr)) / sr
    phase = 2 * np.pi * np.cumsum(150 + 60 * np.sin(5 * t)) / sr
    y = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.6 + 0.4 * np.sin(25 * t))
    return torch.from_numpy((0.1 * y).astype(np.float32))
