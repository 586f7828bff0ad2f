"""models.build: the designs by their names, the limits of their options, and several networks as one."""

import numbers

import numpy as np
import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.features import FeatureConfig, to_windows
from sercore.models.cnn import CNN
from sercore.models.cnn_basic import BasicCNN
from sercore.models.cnn_transformer import CNNTransformer
from sercore.models.conv1d import Conv1d
from sercore.models.functionals_svm import FunctionalsSVM
from sercore.models.resnet18 import ResNet18
from sercore.models.resnet_blocks import ResNetBlocks
from sercore.models.trainable import Trainable
from sercore.models.transcript_rnn import TranscriptRNN
from sercore.models.two_channel import TwoChannel
from sercore.models.whisper_encoder import WhisperEncoder, WhisperHead

#: Least and most of options that are numbers, 1 to 100,000 if not named here: a checkpoint may claim anything.
LIMITS = {
    "C": (1e-9, 1e9),
    "depth": (1, 64),
    "dropout": (0.0, 0.99),
    "encoder_dropout": (0.0, 0.99),
    "layers": (1, 64),
    "n_heads": (1, 100),
    "n_members": (1, 100),
    "tempos": (0.25, 4.0),
}


class Ensemble(nn.Module, Trainable):
    """Networks of one design answer together, by their mean logits at each of the `tempos`; `config` is the members'."""

    def __init__(self, *, member="cnn", n_members=3, tempos=(1.0,), **config):
        super().__init__()
        self.kind = MODELS[member].kind
        self.tempos = tuple(tempos)
        if self.kind != "log_mel" and self.tempos != (1.0,):
            raise ConfigError(f"Bad tempos {self.tempos} for {member}, which reads {self.kind}: expected (1.0,).")
        self.members = nn.ModuleList(build_model(member, **config) for _ in range(n_members))

    def forward(self, X):
        versions = [at_tempo(X, tempo) for tempo in self.tempos]
        return torch.stack([member(x) for x in versions for member in self.members]).mean(dim=0)  # (n, 8)


def at_tempo(X: torch.Tensor, tempo: float) -> torch.Tensor:
    """Let windows of a spectrogram pass faster (above 1) or slower: cut at the end, or filled with the quietest value."""
    n_frames = int(X.shape[-1])  # a number for the tracer of an export, too
    if (size := round(n_frames / tempo)) == n_frames:
        return X
    stretched = nn.functional.interpolate(X, (X.shape[2], size), mode="bilinear", align_corners=False)
    silence = X.amin(dim=(2, 3), keepdim=True).expand(*X.shape[:3], max(0, n_frames - size))
    return torch.cat([stretched[..., :n_frames], silence], dim=3)


MODELS = {
    "cnn": CNN,
    "conv1d": Conv1d,
    "two_channel": TwoChannel,
    "cnn_basic": BasicCNN,
    "resnet_blocks": ResNetBlocks,
    "resnet18": ResNet18,
    "cnn_transformer": CNNTransformer,
    "transcript_rnn": TranscriptRNN,
    "functionals_svm": FunctionalsSVM,
    "whisper_head": WhisperHead,
    "whisper_encoder": WhisperEncoder,
    "ensemble": Ensemble,
}


def build_model(name: str, **config) -> nn.Module:
    """Build an untrained network by its name.

    It takes and gives what `sercore.models` says; its options are those of its class. `ConfigError` if the name or an
    option is not known, or an option is of another type or out of `LIMITS`.

    >>> build_model("cnn", widths=(16, 32, 64))(torch.zeros(2, 1, 64, 176)).shape
    torch.Size([2, 8])
    """
    defaults = all_options(name, {key: config[key] for key in config if key == "member"})
    for key, value in config.items():
        if key not in defaults:
            raise ConfigError(f"Bad option {key!r} for model {name!r}: expected one of {list(defaults)}.")
        _check_option(name, key, value, defaults[key])
    try:
        # Convolutions want the channels side by side in memory: the house CNN is a third faster so on a CPU.
        return MODELS[name](**config).to(memory_format=torch.channels_last)
    except ConfigError:
        raise
    except (ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(f"Bad options {config} for model {name!r}: they do not fit each other. ({error})") from error


def all_options(name: str, config: dict) -> dict:
    """Give the options of a design with the defaults filled in: what is kept must outlive their change."""
    if not isinstance(name, str) or name not in MODELS:
        raise ConfigError(f"Bad model {name!r}: expected one of {sorted(MODELS)}.")
    options = (MODELS[name].__init__.__kwdefaults__ or {}) | config
    return all_options(options["member"], {}) | options if "member" in options else options


def _check_option(name, key, value, default):
    listed = isinstance(default, tuple)
    first, values = (default[0], value) if listed else (default, [value])
    low, high = LIMITS.get(key, (1, 100_000))
    if isinstance(first, bool | str):
        good, expected = type(value) is type(first), "True or False" if isinstance(first, bool) else "a word"
    else:
        kind, expected = (numbers.Integral, "whole numbers") if isinstance(first, int) else (numbers.Real, "numbers")
        good = isinstance(values, list | tuple) and 0 < len(values) <= 16
        good = good and all(isinstance(x, kind) and not isinstance(x, bool) and low <= x <= high for x in values)
        expected = f"{'a list of ' if listed else ''}{expected} from {low} to {high}"
    if not good:
        raise ConfigError(f"Bad {key} {value!r} for model {name!r}: expected {expected}.")


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.inference_mode()
def predict_logits(
    model: nn.Module, features: list, *, config: FeatureConfig = FeatureConfig(), batch_size: int = 64
) -> np.ndarray:
    """Score clips of any length, as log-mel (n_mels, n) or the model's ``kind``: logits (n, 8), means over windows."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    windows = [to_windows(S_db, config=config) for S_db in features]
    X = torch.from_numpy(np.concatenate(windows))[:, None]
    scores = torch.cat([model(part.to(device)).float().cpu() for part in X.split(batch_size)]).numpy()
    model.train(was_training)
    ends = np.cumsum([len(part) for part in windows])[:-1]
    return np.stack([part.mean(axis=0) for part in np.split(scores, ends)])
