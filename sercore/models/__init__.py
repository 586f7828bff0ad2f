"""models: one readable file per architecture, built by name; and the checkpoint that carries one."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from safetensors.torch import save

from sercore.errors import ConfigError
from sercore.features import FeatureConfig, to_windows
from sercore.labels import EMOTIONS
from sercore.models.cnn import CNN
from sercore.models.cnn_basic import BasicCNN
from sercore.models.cnn_transformer import CNNTransformer
from sercore.models.conv1d import Conv1d
from sercore.models.functionals_svm import CompareSVM, EgemapsSVM, FunctionalsSVM
from sercore.models.resnet18 import ResNet18
from sercore.models.resnet_blocks import ResNetBlocks
from sercore.models.transcript_rnn import TranscriptRNN
from sercore.models.two_channel import TwoChannel
from sercore.novelty import Novelty
from sercore.settings import write_atomic


class Ensemble(torch.nn.Module):
    """Several networks of one design that answer together, by the mean of their logits.

    Parameters
    ----------
    member : str
        A key of `MODELS`.
    n_members : int
    tempos : sequence of float
        Every member hears the clip at each of these tempos (test-time augmentation); 1 is the clip's own.
    **config
        Options of the members.

    Raises
    ------
    ConfigError
        If the members read no spectrogram, and yet another tempo is asked for.
    """

    def __init__(self, *, member="cnn", n_members=3, tempos=(1.0,), **config):
        super().__init__()
        self.members = torch.nn.ModuleList(build_model(member, **config) for _ in range(n_members))
        self.kind = MODELS[member].kind
        self.tempos = tuple(tempos)
        if self.kind != "log_mel" and self.tempos != (1.0,):
            raise ConfigError(f"Bad tempos {self.tempos} for {member}, which reads {self.kind}: expected (1.0,).")

    def forward(self, X):
        """Score the emotions, as a member does."""
        heard = [at_tempo(X, tempo) for tempo in self.tempos]
        return torch.stack([member(x) for x in heard for member in self.members]).mean(dim=0)  # (n, 8)


def at_tempo(X, tempo):
    """Let windows of a spectrogram pass faster or slower, at the same pitch.

    Parameters
    ----------
    X : torch.Tensor [shape=(n, 1, n_mels, n_frames)]
    tempo : float > 0
        Above 1 is faster.

    Returns
    -------
    X : torch.Tensor [shape=(n, 1, n_mels, n_frames)]
        What becomes longer is cut, what becomes shorter ends in the window's quietest value.
    """
    n_frames = X.shape[3]
    if (size := round(n_frames / tempo)) == n_frames:
        return X
    stretched = torch.nn.functional.interpolate(X, (X.shape[2], size), mode="bilinear", align_corners=False)
    silence = X.amin(dim=(2, 3), keepdim=True).expand(*X.shape[:3], max(0, n_frames - size))
    return torch.cat([stretched[..., :n_frames], silence], dim=3)


#: Every class names in its ``kind`` what it reads: a key of `sercore.features.KINDS`, or "words".
MODELS = {
    "cnn": CNN, "conv1d": Conv1d, "two_channel": TwoChannel, "cnn_basic": BasicCNN, "resnet_blocks": ResNetBlocks,
    "resnet18": ResNet18, "cnn_transformer": CNNTransformer, "transcript_rnn": TranscriptRNN,
    "functionals_svm": FunctionalsSVM, "egemaps_svm": EgemapsSVM, "compare_svm": CompareSVM, "ensemble": Ensemble,
}  # fmt: skip
#: Names that the house CNN's scores go by, the shipped one's first.
HOUSE = ("cnn_warped_ensemble", "cnn_ensemble", "cnn_warped", "cnn")
CHECKPOINT_VERSION = "1"
_NOVELTY = ("mean", "precision")


def build_model(name, **config):
    """Build an untrained network by its name.

    Parameters
    ----------
    name : str
        A key of `MODELS`.
    **config
        Options of that architecture; see its class.

    Returns
    -------
    model : torch.nn.Module
        Takes ``X`` (n, 1, n_mels, n_frames), or (n, 1, k) where its ``kind`` is a vector; gives logits (n, 8).

    Raises
    ------
    ConfigError
        If the name or an option is not known.
    """
    if name not in MODELS:
        raise ConfigError(f"Bad model {name!r}: expected one of {sorted(MODELS)}.")
    try:
        return MODELS[name](**config)
    except TypeError as error:
        raise ConfigError(f"Bad option for model {name!r}: {error}.") from error


def count_parameters(model):
    """Count the trainable parameters.

    Parameters
    ----------
    model : torch.nn.Module

    Returns
    -------
    n_parameters : int
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.inference_mode()
def layer_table(model, X):
    """Follow a batch through a network.

    Parameters
    ----------
    model : torch.nn.Module
    X : torch.Tensor [shape=(n, 1, n_mels, n_frames)]

    Returns
    -------
    table : pd.DataFrame
        One row for each part that makes the tensor another shape or holds parameters, in the order of the
        computation: ``part, kind, output`` (its shape, without n) and ``parameters``.
    """
    rows, handles = [], []

    def note(name):
        def hook(module, _, output):
            output = output[0] if isinstance(output, tuple) else output
            if isinstance(module, torch.nn.Identity):
                return
            size = tuple(output.shape[1:])
            rows.append(
                {"part": name, "kind": type(module).__name__, "output": size, "parameters": count_parameters(module)}
            )

        return hook

    for name, child in model.named_children():
        parts = child.named_children() if name == "blocks" else [("", child)]
        handles += [part.register_forward_hook(note(f"{name}.{key}".rstrip("."))) for key, part in parts]
    try:
        model(X)
    finally:
        for handle in handles:
            handle.remove()
    return pd.DataFrame(rows)


@torch.inference_mode()
def predict_logits(model, features, *, config=FeatureConfig(), batch_size=64, n_outputs=len(EMOTIONS)):
    """Score clips of any length: cut them into windows, score each, average over a clip's windows.

    Parameters
    ----------
    model : torch.nn.Module
    features : list of np.ndarray [shape=(n_mels, n)]
        Log-mel spectrograms in dB, or what the model's ``kind`` says.
    config : FeatureConfig
    batch_size : int
    n_outputs : int, optional
        The first so many are given, so that answers to asides are left out; None gives all.

    Returns
    -------
    logits : np.ndarray [shape=(n_clips, n_outputs)]
        float32.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    windows = [to_windows(S_db, config=config) for S_db in features]
    X = torch.from_numpy(np.concatenate(windows))[:, None]
    scores = torch.cat([model(part.to(device)).float().cpu() for part in X.split(batch_size)]).numpy()
    model.train(was_training)
    ends = np.cumsum([len(w) for w in windows])[:-1]
    return np.stack([part.mean(axis=0) for part in np.split(scores[:, :n_outputs], ends)])


def softmax(logits, *, temperature=1.0):
    """Turn logits into probabilities.

    Parameters
    ----------
    logits : np.ndarray [shape=(..., n_classes)]
    temperature : float > 0
        Above 1 makes them less sure (Guo et al. 2017, arXiv:1706.04599).

    Returns
    -------
    proba : np.ndarray [shape=(..., n_classes)]
        float64, adding up to 1.
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    z = np.exp(z - z.max(axis=-1, keepdims=True))
    return z / z.sum(axis=-1, keepdims=True)


def save_checkpoint(
    path, model, *, name, model_config=None, feature_config=FeatureConfig(), temperature=1.0, info=None, novelty=None
):
    """Write weights and everything prediction needs into one safetensors file, whole or not at all.

    Parameters
    ----------
    path : str or Path
    model : torch.nn.Module
    name : str
        The key of `MODELS` it was built by.
    model_config : dict, optional
        The options it was built with.
    feature_config : FeatureConfig
    temperature : float > 0
        Of `softmax`, fitted on validation speakers.
    info : dict, optional
        What it was trained on, its scores, its licence: anything JSON holds.
    novelty : sercore.novelty.Novelty, optional
        The sound of its training clips.

    Returns
    -------
    path : Path
    """
    metadata = {
        "sercore_checkpoint": CHECKPOINT_VERSION, "model": name,
        "model_config": all_options(name, model_config or {}),
        "feature_config": asdict(feature_config), "emotions": EMOTIONS, "temperature": temperature, "info": info or {},
    }  # fmt: skip
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    if novelty:
        metadata["novelty_limit"] = novelty.limit
        weights |= {f"novelty.{key}": torch.tensor(getattr(novelty, key), dtype=torch.float32) for key in _NOVELTY}
    return write_atomic(path, save(weights, {key: json.dumps(value) for key, value in metadata.items()}))


def all_options(name, config):
    """Give the options of an architecture with the defaults filled in: what is kept must outlive their change.

    Parameters
    ----------
    name : str
        A key of `MODELS`.
    config : dict

    Returns
    -------
    options : dict
    """
    options = (MODELS[name].__init__.__kwdefaults__ or {}) | config
    return all_options(options["member"], {}) | options if "member" in options else options


def load_checkpoint(path):
    """Read what `save_checkpoint` wrote; nothing is unpickled.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    model : torch.nn.Module
        On the CPU, in evaluation mode.
    metadata : dict
        ``model``, ``model_config``, ``feature_config`` (a FeatureConfig), ``emotions``, ``temperature``, ``info``,
        and ``novelty`` (a Novelty, or None if it was not kept).

    Raises
    ------
    ConfigError
        If there is no such file, or it is not a checkpoint of this library.
    """
    if not Path(path).is_file():
        raise ConfigError(f"No checkpoint at {path}: expected a .safetensors file; `sercore train` writes one.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            weights = {key: file.get_tensor(key) for key in file.keys()}
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        raise ConfigError(
            f"Bad checkpoint {Path(path).name}: expected a safetensors file written by sercore. ({error})"
        ) from error
    if metadata.get("sercore_checkpoint") != CHECKPOINT_VERSION or tuple(metadata["emotions"]) != EMOTIONS:
        raise ConfigError(
            f"Bad checkpoint {Path(path).name}: expected sercore's version {CHECKPOINT_VERSION} and emotions {list(EMOTIONS)}."
        )
    try:
        metadata["feature_config"] = FeatureConfig(**metadata["feature_config"])
        model = build_model(metadata["model"], **metadata["model_config"])
        parts = [weights.pop(f"novelty.{key}", None) for key in _NOVELTY]
        metadata["novelty"] = None
        if limit := metadata.pop("novelty_limit", None):
            metadata["novelty"] = Novelty(*(part.double().numpy() for part in parts), limit)
        model.load_state_dict(weights)
    except (TypeError, KeyError, RuntimeError, AttributeError) as error:
        raise ConfigError(
            f"Bad checkpoint {Path(path).name}: its weights or settings do not fit its model. ({error})"
        ) from error
    return model.eval(), metadata
