"""train: an explicit training loop on accelerate, that can be killed at any moment and resumed exactly."""

import hashlib
import json
import math
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list
from safetensors.torch import save
from sklearn.metrics import recall_score
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from sercore import settings
from sercore.augment import mixup
from sercore.dataset import EpochSampler, TrainingSet
from sercore.errors import ConfigError
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import all_options, build_model, predict_logits

#: Values of `TrainConfig.mixed_precision`, and what a run's facts call them.
PRECISIONS = {"auto": "auto", "no": "float32", "bf16": "bf16", "fp16": "fp16"}


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained: AdamW under `one_cycle` with the peak `lr`, keeping a running mean of the weights.

    That mean is what is evaluated; its memory grows from a few steps to `ema_decay`, so that it forgets the untrained
    weights. Training stops after `patience` epochs without a better validation UAR; under a one-cycle schedule the best
    epochs are the last ones, so by default the whole of it is run. `mixup_alpha`: 0 is none. `balance`: draw every
    emotion equally often. `mixed_precision`: "auto" is bf16 on devices that compute with it (CUDA, AVX512-BF16).
    """

    epochs: int = 60
    batch_size: int = 32
    lr: float = 3e-3
    warmup: float = 0.3
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    mixup_alpha: float = 0.0
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
        if self.mixed_precision not in PRECISIONS:
            raise ConfigError(f"Bad mixed_precision {self.mixed_precision!r}: expected one of {list(PRECISIONS)}.")


@dataclass
class FitResult:
    """What `fit` gives back, on the CPU: the model of the best epoch, and of the last one.

    `history`: one row an epoch; train figures are those of the varied clips. `stopped_early`: patience was over before
    the last epoch. `facts`, as the run wrote them: ``device, precision, threads, processor, pretrained, commit``; one
    that changed while the run was resumed reads "a, then b".
    """

    model: nn.Module
    history: pd.DataFrame
    best_epoch: int
    stopped_early: bool
    last: nn.Module
    facts: dict

    @property
    def minutes(self) -> float:
        """Minutes spent in all epochs, also those before a resumption."""
        return float(self.history["seconds"].sum() / 60)


@dataclass
class _State:
    """Everything a resumed run needs; random numbers follow from seed and epoch."""

    facts: dict
    history: list = field(default_factory=list)
    best_epoch: int = 0
    best: dict = field(default_factory=dict)


def fit(
    name: str,
    train_set: TrainingSet,
    val_features: list | None = None,
    val_targets: np.ndarray | None = None,
    *,
    config: TrainConfig = TrainConfig(),
    feature_config: FeatureConfig = FeatureConfig(),
    model_config: dict | None = None,
    run_dir: str | Path | None = None,
    progress: bool = True,
) -> FitResult:
    """Train a network, keeping the epoch with the best validation UAR, or the last one if there is no validation.

    Runs unchanged in one process or, under ``accelerate launch``, in many.

    Parameters
    ----------
    name, model_config : str, dict
        Design and its options, for `sercore.models.build_model`.
    train_set : sercore.dataset.TrainingSet
    val_features : list of np.ndarray [shape=(n_mels, n)], optional
        Of the validation speakers, never augmented.
    val_targets : np.ndarray of int [shape=(n_val,)], optional
    run_dir : str or Path, optional
        Where the state is written after each epoch, and read from if it is there: a killed run resumes,
        and ends as if it had not been killed. A finished one is only read.

    Returns
    -------
    result : FitResult
        Its `history` has the columns ``epoch, lr, train_loss, train_uar, val_loss, val_uar, seconds``.

    Raises
    ------
    ConfigError
        If `run_dir` holds a run with other settings or data, or a damaged one.

    Examples
    --------
    >>> result = fit("cnn", TrainingSet(features, targets), val_features, val_targets, run_dir="runs/first")
    >>> result.history["val_uar"].max()
    """
    accelerator = _accelerator(config)
    torch.manual_seed(config.seed)
    options = model_config or {}
    model = build_model(name, **options)
    facts = _facts(accelerator)
    if model.closed:
        return _fit_closed(model, train_set, val_features, val_targets, config, feature_config, facts)
    path = Path(run_dir) / "state.safetensors" if run_dir else None
    resumed = path is not None and path.exists()
    state = _State({"pretrained": not resumed and model.warm_start()})
    average = AveragedModel(model, multi_avg_fn=_running_mean(config.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    # Processes share out a batch, and take the steps that one of them alone would take.
    batch_size = config.batch_size + -config.batch_size % accelerator.num_processes
    loader = DataLoader(
        train_set,
        batch_size=batch_size,
        sampler=EpochSampler(train_set, balance=config.balance),
        drop_last=len(train_set) > batch_size,
    )
    fingerprint = _fingerprint(name, options, config, feature_config, train_set, val_features, val_targets)
    if resumed:
        state = _load_state(path, fingerprint, model, average, optimizer)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    average.to(accelerator.device)

    n_done, silent = len(state.history), not (progress and accelerator.is_main_process)
    bar = tqdm(total=config.epochs, initial=n_done, desc="training", unit="epoch", disable=silent)
    while len(state.history) < config.epochs and len(state.history) - state.best_epoch < config.patience:
        epoch = len(state.history) + 1
        state.facts = _joined(state.facts, facts)
        started = time.perf_counter()
        if state.facts["pretrained"]:
            accelerator.unwrap_model(model).set_stage((epoch - 1) / config.epochs)
        row = {"epoch": epoch} | _train_epoch(accelerator, model, average, optimizer, loader, config, epoch)
        if val_features:
            row |= _scores("val", average.module, val_features, val_targets, feature_config)
        row["seconds"] = time.perf_counter() - started
        # All processes go on, or stop, by the figures of one.
        [row] = broadcast_object_list([row])
        state.history.append(row)
        if not (val_features and state.best_epoch) or row["val_uar"] > state.history[state.best_epoch - 1]["val_uar"]:
            state.best_epoch = epoch
            state.best = {key: value.detach().cpu().clone() for key, value in average.module.state_dict().items()}
        if path and accelerator.is_main_process:
            _save_state(path, fingerprint, state, accelerator.unwrap_model(model), average, optimizer)
        bar.update()
        shown = {key: f"{row[key]:.3f}" for key in ("train_loss", "val_loss", "val_uar") if key in row}
        bar.set_postfix(shown | {"best": state.best_epoch})
    bar.close()
    best = build_model(name, **options)
    best.load_state_dict(state.best)
    history, stopped_early = pd.DataFrame(state.history), len(state.history) < config.epochs
    last = average.module.cpu().eval()
    return FitResult(best.eval(), history, state.best_epoch, stopped_early, last, state.facts)


def one_cycle(step: int, n_steps: int, *, peak: float, warmup: float = 0.3) -> float:
    """Give the learning rate of a step: a cosine up to `peak` in a share of the steps, then down to nearly nothing.

    Smith & Topin (2019), arXiv:1708.07120, with the cosine shape of `torch.optim.lr_scheduler.OneCycleLR`.
    """
    start, end, turn = peak / 25, peak / 1e4, max(1.0, warmup * n_steps)
    if step < turn:
        return start + (peak - start) * (1 - math.cos(math.pi * step / turn)) / 2
    share = min(1.0, (step - turn) / max(1.0, n_steps - turn))
    return end + (peak - end) * (1 + math.cos(math.pi * share)) / 2


def processes() -> PartialState:
    """Tell where this process stands among those that ``accelerate launch`` started.

    Its ``is_main_process`` is True for the one that writes files, and where there is only one.
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
    shared = DataLoaderConfiguration(split_batches=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision, dataloader_config=shared)


def _facts(accelerator):
    """What may move the bits of a run beside its settings."""
    return {
        "device": accelerator.device.type,
        "precision": PRECISIONS[accelerator.mixed_precision],
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "commit": settings.commit(),
    }


def processor() -> str:
    """Name what this computes on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _joined(facts, here):
    """Add what is true here to what was true where the run began or went on before."""
    joined = dict(facts)
    for key, value in here.items():
        before = joined.setdefault(key, value)
        if str(before).split(", then ")[-1] != str(value):
            joined[key] = f"{before}, then {value}"
    return joined


def _running_mean(decay):
    def update(averages, currents, n_averaged):
        memory = min(decay, (1 + int(n_averaged)) / (10 + int(n_averaged)))
        get_ema_multi_avg_fn(memory)(averages, currents, n_averaged)

    return update


def _fit_closed(model, train_set, val_features, val_targets, config, feature_config, facts):
    """Fit a model that is solved at once, on the clips and all their copies; there is nothing to resume."""
    started = time.perf_counter()
    copies = train_set.copies or [[]] * len(train_set)
    X = np.concatenate([part for clip, row in zip(train_set.windows, copies, strict=True) for part in (clip, *row)])
    targets = train_set.targets.repeat(len(X) // len(train_set))
    model.fit_closed(X, targets, seed=config.seed)
    row = {"epoch": 1, "lr": 0.0} | _scores("train", model, list(X), targets, feature_config)
    if val_features:
        row |= _scores("val", model, val_features, val_targets, feature_config)
    row["seconds"] = time.perf_counter() - started
    facts = {"pretrained": False} | facts | {"device": "cpu", "precision": "float32"}
    return FitResult(model.eval(), pd.DataFrame([row]), 1, False, model, facts)


def _train_epoch(accelerator, model, average, optimizer, loader, config, epoch):
    loader.dataset.epoch = epoch
    # Dropout too must not depend on what ran before: the seed is set anew each epoch, apart in each process.
    torch.manual_seed(config.seed * 100_003 + epoch * 101 + accelerator.process_index)
    model.train()
    rng = np.random.default_rng([config.seed, epoch, accelerator.process_index])
    criterion = nn.CrossEntropyLoss(label_smoothing=config.label_smoothing)
    n_steps = len(loader) * config.epochs
    losses, hits = [], []
    for i, (X, targets, *taught) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = one_cycle((epoch - 1) * len(loader) + i, n_steps, peak=config.lr, warmup=config.warmup)
        [goals] = taught or [targets]
        if config.mixup_alpha:
            [goals] = taught or [nn.functional.one_hot(targets, len(EMOTIONS)).to(X.dtype)]
            X, goals = mixup(X, goals, rng=rng, alpha=config.mixup_alpha)
        with accelerator.autocast():
            logits = model(X)
            loss = criterion(logits, goals)
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(accelerator.unwrap_model(model))
        losses.append(loss.detach())
        hits.append(torch.stack(accelerator.gather((targets, logits.argmax(dim=1)))))
    truth, guesses = torch.cat(hits, dim=1).cpu().numpy()
    return {
        "lr": optimizer.param_groups[0]["lr"],
        "train_loss": float(accelerator.reduce(torch.stack(losses).mean(), "mean")),
        "train_uar": _uar(truth, guesses),
    }


def _scores(part, model, features, targets, feature_config):
    logits = torch.from_numpy(predict_logits(model, features, config=feature_config))
    loss = nn.functional.cross_entropy(logits, torch.as_tensor(targets))
    return {f"{part}_loss": float(loss), f"{part}_uar": _uar(targets, logits.argmax(dim=1).numpy())}


def _uar(truth, guesses):
    return float(recall_score(truth, guesses, labels=np.unique(truth), average="macro"))


def _fingerprint(name, options, config, feature_config, train_set, val_features, val_targets):
    """What must be the same for a run to be the same run."""
    copies = [copy for row in train_set.copies or [] for copy in row]
    groups = [] if train_set.groups is None else [train_set.groups]
    goals = [] if train_set.goals is None else [train_set.goals.numpy()]
    validation = [*val_features, np.asarray(val_targets)] if val_features else []
    data = hashlib.blake2b(digest_size=8)
    for array in (*train_set.windows, *copies, train_set.targets, *groups, *goals, *validation):
        data.update(f"{array.shape}".encode() + array.tobytes())
    run = {
        "model": name,
        "model_config": all_options(name, options),
        "train": asdict(config),
        "features": asdict(feature_config),
        "data": data.hexdigest(),
        "n_copies": len(copies),
        "augmented_share": train_set.augmented_share,
        "masks": [train_set.max_bands, train_set.max_frames],
        "warp": repr(train_set.warp),
        "seed": train_set.seed,
    }
    return json.dumps(run, sort_keys=True)


def _save_state(path, fingerprint, state, model, average, optimizer):
    parts = {"model": model.state_dict(), "average": average.state_dict(), "best": state.best}
    parts |= {f"optimizer.{i}": slot for i, slot in optimizer.state_dict()["state"].items()}
    tensors = {f"{part}.{key}": value.detach().cpu() for part in parts for key, value in parts[part].items()}
    metadata = {"fingerprint": fingerprint, "best_epoch": str(state.best_epoch)}
    metadata |= {"history": json.dumps(state.history), "facts": json.dumps(state.facts)}
    # Cloned: tensors that share memory, or lie in another order, are refused.
    tensors = {key: value.clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
    settings.write_atomic(path, save(tensors, metadata))


def _load_state(path, fingerprint, model, average, optimizer):
    """Read what `_save_state` wrote into the networks and the optimizer."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        same = metadata["fingerprint"] == fingerprint
        state = _State(json.loads(metadata["facts"]), json.loads(metadata["history"]), int(metadata["best_epoch"]))
        if same:
            parts = {"model": {}, "average": {}, "best": {}, "optimizer": {}}
            for key, value in tensors.items():
                part, _, rest = key.partition(".")
                parts[part][rest] = value
            state.best = parts["best"]
            model.load_state_dict(parts["best"])  # tried: it is read only at the end
            model.load_state_dict(parts["model"])
            average.load_state_dict(parts["average"])
            saved = optimizer.state_dict()
            for key, value in parts["optimizer"].items():
                i, _, slot = key.partition(".")
                saved["state"].setdefault(int(i), {})[slot] = value
            optimizer.load_state_dict(saved)
    except (safetensors.SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"Damaged run {path}: delete it, and the training begins anew. ({error})") from error
    if not same:
        raise ConfigError(
            f"Run folder {path.parent} holds a run with other settings or data: choose another, or delete it."
        )
    return state
