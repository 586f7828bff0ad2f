"""train: an explicit training loop on accelerate, that can be killed at any moment and resumed exactly."""

import hashlib
import json
import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, set_seed
from safetensors.torch import save
from sklearn.metrics import recall_score
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from sercore import settings
from sercore.augment import mixup
from sercore.dataset import EpochSampler
from sercore.errors import ConfigError
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import build_model, predict_logits

logger = logging.getLogger(__name__)

#: Of the loss for each of a training set's asides, beside 1 for the emotion.
ASIDE_WEIGHT = 0.3


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained.

    Attributes
    ----------
    epochs : int
        Length of the one-cycle schedule.
    batch_size : int
    lr : float
        Peak of the one-cycle schedule (Smith & Topin 2019, arXiv:1708.07120).
    warmup : float in [0, 1]
        Share of the steps in which the learning rate rises.
    weight_decay : float
        Of AdamW.
    label_smoothing : float in [0, 1)
    mixup_alpha : float
        Of `sercore.augment.mixup`; 0 leaves the clips as they are.
    gap_epochs : int
        Epochs before the first in which the network draws what it is not shown of spectrograms, and hears of no
        emotion; for networks with `frames`, such as the house CNN.
    ema_decay : float in [0, 1)
        Of the running mean of the weights, one update a step; it is what is evaluated and kept. Its memory
        grows from a few steps to this, so that the first epochs are not a mean with untrained weights.
    patience : int
        Epochs without a better validation UAR after which training stops. Under a one-cycle schedule the best
        epochs are the last ones, so by default the whole schedule is run.
    balance : bool
        Draw every emotion equally often.
    mixed_precision : {"auto", "no", "bf16", "fp16"}
        "auto": bf16 on devices that compute with it (CUDA, and CPUs with AVX512-BF16), else none.
    seed : int
    """

    epochs: int = 60
    batch_size: int = 32
    lr: float = 3e-3
    warmup: float = 0.3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    mixup_alpha: float = 0.0
    gap_epochs: int = 0
    ema_decay: float = 0.99
    patience: int = 60
    balance: bool = True
    mixed_precision: str = "auto"
    seed: int = settings.SEED

    def __post_init__(self):
        for name in ("epochs", "batch_size", "lr", "patience"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"Bad {name} {getattr(self, name)!r}: expected a number above 0.")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"Bad ema_decay {self.ema_decay!r}: expected 0 to less than 1.")


def settings_of(config):
    """Give what a `TrainConfig` holds, without the options that came later and are off: older runs had the rest."""
    return {key: value for key, value in asdict(config).items() if key != "gap_epochs" or value}


@dataclass
class FitResult:
    """What `fit` gives back.

    Attributes
    ----------
    model : torch.nn.Module
        On the CPU, with the weights of the best epoch.
    history : pd.DataFrame
        One row an epoch: ``epoch, lr, train_loss, train_uar, val_loss, val_uar, seconds``; train figures are
        those of the varied clips, as met in training.
    best_epoch : int
    stopped_early : bool
        Patience was over before the last epoch.
    device : str
    last : torch.nn.Module, optional
        As `model`, with the weights of the last epoch.
    """

    model: nn.Module
    history: pd.DataFrame
    best_epoch: int
    stopped_early: bool
    device: str
    last: nn.Module | None = None

    @property
    def minutes(self):
        """Minutes spent in all epochs, also those before a resumption."""
        return float(self.history["seconds"].sum() / 60)


@dataclass
class _State:
    """Everything a resumed run needs; random numbers follow from seed and epoch."""

    history: list = field(default_factory=list)
    best_epoch: int = 0
    best: dict = field(default_factory=dict)


def fit(name, train_set, val_features=None, val_targets=None, *, config=TrainConfig(), feature_config=FeatureConfig(),
        model_config=None, run_dir=None, on_epoch=None, progress=True):  # fmt: skip
    """Train a network, keeping the epoch with the best validation UAR, or the last one if there is no validation.

    Runs unchanged in one process or, under ``accelerate launch``, in many.

    Parameters
    ----------
    name : str
        Of the architecture, for `sercore.models.build_model`.
    train_set : sercore.dataset.TrainingSet
    val_features : list of np.ndarray [shape=(n_mels, n)], optional
        Of the validation speakers, never augmented.
    val_targets : np.ndarray of int [shape=(n_val,)], optional
    config : TrainConfig
    feature_config : FeatureConfig
    model_config : dict, optional
    run_dir : str or Path, optional
        Where the state is written after each epoch, and read from if it is there: a killed run resumes,
        and ends as if it had not been killed. A finished one is only read.
    on_epoch : callable ``on_epoch(history)``, optional
        Called after each epoch, when its state is written, with the history so far: live curves.
    progress : bool

    Returns
    -------
    result : FitResult

    Raises
    ------
    ConfigError
        If `run_dir` holds a run with other settings.
    """
    accelerator = _accelerator(config)
    set_seed(config.seed)
    model = build_model(name, **(model_config or {}))
    if hasattr(model, "fit_closed"):
        return _fit_closed(model, train_set, val_features, val_targets, config, feature_config)
    path = Path(run_dir) / "state.safetensors" if run_dir else None
    if hasattr(model, "warm_start"):
        model.warm_start()
    if config.gap_epochs and not hasattr(model, "frames"):
        raise ConfigError(f"Bad gap_epochs {config.gap_epochs} for {name}: expected 0, or a network such as cnn.")
    if config.gap_epochs and not (path and path.exists()):
        _fill_gaps(accelerator, model, train_set, config)
    average = AveragedModel(model, multi_avg_fn=_running_mean(config.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    loader = DataLoader(
        train_set,
        batch_size=config.batch_size,
        sampler=EpochSampler(train_set, balance=config.balance),
        drop_last=len(train_set) > config.batch_size,
    )
    fingerprint = _fingerprint(name, model_config, config, feature_config, train_set, val_targets)
    state = _load_state(path, fingerprint, model, average, optimizer)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    average.to(accelerator.device)
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)

    n_steps = len(loader) * config.epochs
    bar = tqdm(total=config.epochs, initial=len(state.history), desc="training", unit="epoch",
               disable=not (progress and accelerator.is_main_process))  # fmt: skip
    while len(state.history) < config.epochs and len(state.history) - state.best_epoch < config.patience:
        epoch = len(state.history) + 1
        started = time.perf_counter()
        row = {"epoch": epoch} | _train_epoch(
            accelerator, model, average, optimizer, loader, criterion, config, epoch, n_steps
        )
        if val_features:
            logits = torch.from_numpy(predict_logits(average.module, val_features, config=feature_config))
            row["val_loss"] = float(nn.functional.cross_entropy(logits, torch.as_tensor(val_targets)))
            row["val_uar"] = _uar(val_targets, logits.argmax(dim=1).numpy())
        row["seconds"] = time.perf_counter() - started
        # All processes go on, or stop, by the figures of one.
        [row] = broadcast_object_list([row])
        state.history.append(row)
        if not (val_features and state.best_epoch) or row["val_uar"] > state.history[state.best_epoch - 1]["val_uar"]:
            state.best_epoch = epoch
            state.best = {key: value.detach().cpu().clone() for key, value in average.module.state_dict().items()}
        if path and accelerator.is_main_process:
            _save_state(path, fingerprint, state, accelerator.unwrap_model(model), average, optimizer)
        if on_epoch and accelerator.is_main_process:
            on_epoch(pd.DataFrame(state.history))
        bar.update()
        shown = {key: f"{row[key]:.3f}" for key in ("train_loss", "val_loss", "val_uar") if key in row}
        bar.set_postfix(shown | {"best": state.best_epoch})
    bar.close()
    best = build_model(name, **(model_config or {}))
    best.load_state_dict(state.best)
    if hasattr(best, "pretrained"):
        best.pretrained = accelerator.unwrap_model(model).pretrained
    stopped = len(state.history) < config.epochs
    return FitResult(best.eval(), pd.DataFrame(state.history), state.best_epoch, stopped, accelerator.device.type,
                     average.module.cpu().eval())  # fmt: skip


def one_cycle(step, n_steps, *, peak, warmup=0.3):
    """Give the learning rate of a step: a cosine up to `peak`, then a cosine down to nearly nothing.

    Parameters
    ----------
    step, n_steps : int
    peak : float
    warmup : float in [0, 1]
        Share of the steps spent rising.

    Returns
    -------
    lr : float

    References
    ----------
    Smith & Topin (2019), arXiv:1708.07120, with the cosine shape of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    start, end, turn = peak / 25, peak / 1e4, max(1.0, warmup * n_steps)
    if step < turn:
        return start + (peak - start) * (1 - math.cos(math.pi * step / turn)) / 2
    share = min(1.0, (step - turn) / max(1.0, n_steps - turn))
    return end + (peak - end) * (1 + math.cos(math.pi * share)) / 2


def _running_mean(decay):
    def update(averages, currents, n_averaged):
        memory = min(decay, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        get_ema_multi_avg_fn(memory)(averages, currents, n_averaged)

    return update


def _fit_closed(model, train_set, val_features, val_targets, config, feature_config):
    """Fit a model that is solved at once, on the clips and all their copies; there is nothing to resume."""
    started = time.perf_counter()
    rows = train_set.windows if not train_set.copies else [
        windows for clip, copies in zip(train_set.windows, train_set.copies, strict=True) for windows in (clip, *copies)
    ]  # fmt: skip
    X = np.concatenate(rows)
    targets = train_set.targets.repeat(len(X) // len(train_set))
    model.fit_closed(X, targets, seed=config.seed)

    def logits_of(vectors):
        return torch.from_numpy(predict_logits(model, vectors, config=feature_config))

    row = {"epoch": 1, "lr": 0.0}
    for part, vectors, truth in (("train", list(X), targets), ("val", val_features, val_targets)):
        if vectors:
            logits = logits_of(vectors)
            row[f"{part}_loss"] = float(nn.functional.cross_entropy(logits, torch.as_tensor(truth)))
            row[f"{part}_uar"] = _uar(truth, logits.argmax(dim=1).numpy())
    row["seconds"] = time.perf_counter() - started
    return FitResult(model.eval(), pd.DataFrame([row]), 1, False, "cpu")


def processes():
    """Tell where this process stands among those that ``accelerate launch`` started.

    Returns
    -------
    state : accelerate.PartialState
        ``is_main_process`` is True for the one that writes files, and where there is only one.
    """
    # Without cpu=True, processes launched on a machine without a GPU would each take themselves for the only one.
    return PartialState(cpu=settings.device() == "cpu")


def _accelerator(config):
    device = settings.device()
    precision = config.mixed_precision
    if precision == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        # A training step of the house CNN takes a quarter to nearly half less time than in float32 on such a CPU.
        fast = fast or (device == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False))
        precision = "bf16" if fast else "no"
    # Else accelerate would refuse another precision than the first one of this process.
    AcceleratorState._reset_state()
    return Accelerator(cpu=device == "cpu", mixed_precision=precision)


def _fill_gaps(accelerator, model, train_set, config):
    """Train a masked autoencoder (He et al. 2022, arXiv:2111.06377) that draws with one linear layer."""
    n_mels, n_frames = train_set[0, 0][0].shape[1:]
    width, n_parts = model.eval().frames(torch.zeros(1, 1, n_mels, n_frames)).shape[1:]
    size = n_frames // n_parts
    model, draw = model.to(accelerator.device).train(), nn.Linear(width, n_mels * size).to(accelerator.device)
    optimizer = torch.optim.AdamW([*model.parameters(), *draw.parameters()], lr=config.lr / 3)
    loader = DataLoader(train_set, batch_size=config.batch_size, sampler=EpochSampler(train_set, balance=False))
    for k in range(config.gap_epochs):
        train_set.epoch = 10**6 + k  # other draws than in the epochs that follow
        rng = np.random.default_rng([config.seed, train_set.epoch])
        for X, _ in loader:
            X = X[..., : n_parts * size].to(accelerator.device)
            hidden = torch.from_numpy(rng.random((len(X), 1, 1, n_parts)) < 0.5).to(accelerator.device)
            hidden = hidden.repeat_interleave(size, dim=3)
            with accelerator.autocast():
                parts = draw(model.frames(X.masked_fill(hidden, 0.0)).transpose(1, 2))  # (n, n_parts, n_mels * size)
            drawn = parts.float().unflatten(2, (n_mels, size)).transpose(1, 2).reshape(X.shape)
            loss = ((drawn - X) ** 2)[hidden.expand_as(X)].mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    logger.info("%d epochs of filling gaps: mean squared error %.3f at the end", config.gap_epochs, loss.item())


def _train_epoch(accelerator, model, average, optimizer, loader, criterion, config, epoch, n_steps):
    loader.dataset.epoch = epoch
    if hasattr(accelerator.unwrap_model(model), "set_stage"):
        accelerator.unwrap_model(model).set_stage((epoch - 1) / config.epochs)
    # Dropout too must not depend on what ran before: the seed is set anew each epoch, apart in each process.
    torch.manual_seed(config.seed * 100_003 + epoch * 101 + accelerator.process_index)
    model.train()
    rng = np.random.default_rng([config.seed, epoch, accelerator.process_index])
    # Where a row of logits is cut: emotions first, then the answers of each aside.
    n_answers = loader.dataset.asides.max(axis=0, initial=0) + 1
    ends = np.cumsum([len(EMOTIONS), *n_answers])[:-1].tolist()
    losses, hits = [], []
    for i, (X, truth) in enumerate(loader):
        targets, *asides = truth.unbind(dim=1)
        for group in optimizer.param_groups:
            group["lr"] = one_cycle((epoch - 1) * len(loader) + i, n_steps, peak=config.lr, warmup=config.warmup)
        goals = targets
        if config.mixup_alpha:
            X, goals = mixup(
                X, nn.functional.one_hot(targets, len(EMOTIONS)).to(X.dtype), rng=rng, alpha=config.mixup_alpha
            )
        with accelerator.autocast():
            logits, *others = model(X).tensor_split(ends, dim=1)
            loss = criterion(logits, goals)
            for answers, aside in zip(others, asides, strict=True):
                loss = loss + ASIDE_WEIGHT * nn.functional.cross_entropy(answers, aside)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(accelerator.unwrap_model(model))
        guesses, truth = accelerator.gather((logits.argmax(dim=1), targets))
        losses.append(loss.detach())
        hits.append(torch.stack([truth, guesses]))
    truth, guesses = torch.cat(hits, dim=1).cpu().numpy()
    return {
        "lr": optimizer.param_groups[0]["lr"],
        "train_loss": float(accelerator.reduce(torch.stack(losses).mean(), "mean")),
        "train_uar": _uar(truth, guesses),
    }


def _uar(truth, guesses):
    return float(recall_score(truth, guesses, labels=np.unique(truth), average="macro"))


def _fingerprint(name, model_config, config, feature_config, train_set, val_targets):
    """What must be the same for a run to be the same run."""
    data = hashlib.blake2b(digest_size=8)
    for windows in train_set.windows:
        data.update(windows.tobytes())
    data.update(train_set.targets.tobytes())
    run = {
        "model": name, "model_config": model_config or {}, "train": settings_of(config), "features": asdict(feature_config),
        "data": data.hexdigest(), "n_val": len(val_targets) if val_targets is not None else 0,
        "masks": [train_set.max_bands, train_set.max_frames], "seed": train_set.seed,
        "augmented": [train_set.augmented_share, len(train_set.copies[0]) if train_set.copies else 0],
    }  # fmt: skip
    if train_set.warp:
        run["warp"] = repr(train_set.warp)
    if train_set.asides.size:
        run["asides"] = np.bincount(train_set.asides.ravel()).tolist()
    if train_set.groups is not None:
        run["groups"] = np.bincount(train_set.groups).tolist()
    return json.dumps(run, sort_keys=True)


def _save_state(path, fingerprint, state, model, average, optimizer):
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    tensors |= {f"average.{key}": value for key, value in average.state_dict().items()}
    tensors |= {f"best.{key}": value for key, value in state.best.items()}
    for i, slot in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{key}": value for key, value in slot.items()}
    tensors = {key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}
    metadata = {"fingerprint": fingerprint, "history": json.dumps(state.history), "best_epoch": str(state.best_epoch)}
    settings.write_atomic(path, save(tensors, metadata))


def _load_state(path, fingerprint, model, average, optimizer):
    if path is None or not path.exists():
        return _State()
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        if metadata["fingerprint"] != fingerprint:
            raise ConfigError(
                f"Run folder {path.parent.name} holds a run with other settings or data: choose another, or delete it."
            )
        parts = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
        for key in file.keys():
            part, _, rest = key.partition(".")
            parts[part][rest] = file.get_tensor(key)
    model.load_state_dict(parts["model"])
    average.load_state_dict(parts["average"])
    saved = optimizer.state_dict()
    for key, value in parts["optimizer"].items():
        i, _, slot = key.partition(".")
        saved["state"].setdefault(int(i), {})[slot] = value
    optimizer.load_state_dict(saved)
    return _State(json.loads(metadata["history"]), int(metadata["best_epoch"]), parts["best"])
