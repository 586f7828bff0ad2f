"""models.checkpoint: one safetensors file with weights and all that prediction needs; nothing is ever unpickled."""

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import safetensors
import torch
from safetensors.torch import save
from torch import nn

from sercore.errors import ConfigError
from sercore.features import FeatureConfig
from sercore.labels import EIGHT, EMOTIONS
from sercore.models.build import all_options, build_model
from sercore.outliers import Outliers
from sercore.settings import write_atomic

CHECKPOINT_VERSION = "3"
#: Tensors that are not the network's.
OUTLIERS = ("outliers.mean", "outliers.precision")


def save_checkpoint(
    path: str | Path,
    model: nn.Module,
    *,
    name: str,
    model_config: dict | None = None,
    feature_config: FeatureConfig = FeatureConfig(),
    temperature: float = 1.0,
    info: dict | None = None,
    outliers: Outliers | None = None,
) -> Path:
    """Write weights and everything prediction needs into one safetensors file, whole or not at all.

    `name` and `model_config` are those of `build_model`; `temperature` divides the logits (Guo et al. 2017,
    arXiv:1706.04599); `info` is anything JSON holds: what it was trained on, its scores, its licence. What float16
    holds without loss is kept in it.

    >>> save_checkpoint("cnn.safetensors", build_model("cnn"), name="cnn")
    """
    metadata = {
        "sercore_checkpoint": CHECKPOINT_VERSION,
        "model": name,
        "model_config": all_options(name, model_config or {}),
        "feature_config": asdict(feature_config),
        "emotions": EMOTIONS,
        "temperature": temperature,
        "info": info or {},
    }
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    for key, value in tensors.items():
        if value.is_floating_point() and torch.equal(value.half().to(value.dtype), value):
            tensors[key] = value.half()
    if outliers:
        metadata["outliers_limit"] = outliers.limit
        parts = zip(OUTLIERS, (outliers.mean, outliers.precision), strict=True)
        tensors |= {key: torch.tensor(part, dtype=torch.float32) for key, part in parts}
    words = {key: json.dumps(value) for key, value in metadata.items()}
    return write_atomic(path, save(tensors, words | {"checksum": _checksum(words, tensors)}))


def load_checkpoint(path: str | Path) -> tuple[nn.Module, dict]:
    """Read what `save_checkpoint` wrote.

    The network comes on the CPU, in evaluation mode; the metadata hold ``model``, ``model_config``, ``feature_config``
    (a FeatureConfig), ``emotions``, ``temperature``, ``info`` and ``outliers`` (an Outliers or None). `ConfigError` if
    there is no such file, it is not a checkpoint of this version, or what it holds cannot be right.

    >>> model, metadata = load_checkpoint("cnn.safetensors")
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"No checkpoint at {path}: expected a .safetensors file; `sercore train` writes one.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.pop("sercore_checkpoint", None) != json.dumps(CHECKPOINT_VERSION):
                raise ConfigError(f"expected version {CHECKPOINT_VERSION} of sercore's; `sercore train` writes it.")
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            told = metadata.pop("checksum", None)
            if told != _checksum({"sercore_checkpoint": json.dumps(CHECKPOINT_VERSION)} | metadata, tensors):
                raise ConfigError("it is damaged: its checksum is not that of what it holds. Fetch or train it again.")
            metadata = {key: json.loads(value) for key, value in metadata.items()}
        return _rebuild(metadata, tensors)
    except KeyError as error:
        raise ConfigError(f"Bad checkpoint {path.name}: it lacks {error}.") from error
    except (safetensors.SafetensorError, ValueError, TypeError) as error:
        raise ConfigError(f"Bad checkpoint {path.name}: expected a safetensors file of sercore; {error}") from error


def _checksum(metadata, tensors):
    """What changes with any bit of settings or weights."""
    digest = hashlib.blake2b(json.dumps(sorted(metadata.items())).encode(), digest_size=16)
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {list(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def _rebuild(metadata, tensors):
    """Check all that the file claims, then build the network; no memory is given to more than its tensors."""
    if metadata["emotions"] != list(EMOTIONS):
        named = ",".join(map(str, metadata["emotions"]))
        how = f"set SERCORE_EMOTIONS={named}" if metadata["emotions"] != list(EIGHT) else "unset SERCORE_EMOTIONS"
        raise ConfigError(f"its emotions are {named}, expected {','.join(EMOTIONS)}; {how}.")
    if not _above_zero(metadata["temperature"]):
        raise ConfigError(f"its temperature is {metadata['temperature']!r}, expected a number above 0.")
    if broken := [key for key, value in tensors.items() if not value.isfinite().all()]:
        raise ConfigError(f"{broken[0]} holds numbers that are not finite.")
    config = metadata["feature_config"] = FeatureConfig(**metadata["feature_config"])
    metadata["outliers"] = None
    if (limit := metadata.pop("outliers_limit", None)) is not None:
        mean, precision = (tensors.pop(key).double().numpy() for key in OUTLIERS)
        n = 3 * config.n_mels
        if not _above_zero(limit) or (mean.shape, precision.shape) != ((n,), (n, n)):
            raise ConfigError(f"its limit for outliers, {limit!r}, or what it is measured by is no longer right.")
        metadata["outliers"] = Outliers(mean, precision, limit)
    with torch.device("meta"):
        claimed = build_model(metadata["model"], **metadata["model_config"]).state_dict()
    if {key: value.shape for key, value in claimed.items()} != {key: value.shape for key, value in tensors.items()}:
        raise ConfigError("its weights or settings do not fit its model.")
    model = build_model(metadata["model"], **metadata["model_config"])
    model.load_state_dict(tensors)
    return model.eval(), metadata


def _above_zero(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
