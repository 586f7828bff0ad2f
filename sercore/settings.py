"""settings: where data, cache, runs and figures live; the profile; the seed; the device.

Relative paths in the environment variables are meant from the checkout.
"""

import os
from pathlib import Path

from sercore.errors import ConfigError

#: The seed of every documented run.
SEED = 0

PROFILES = ("full", "smoke")


def _home():
    """The checkout when sercore runs from one, else a folder of the user's."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "pyproject.toml").is_file() else Path.home() / ".sercore"


def _folder(variable, *default):
    value = os.environ.get(variable)
    # A relative path is meant from the checkout, also when a notebook runs in notebooks/.
    return (_home() / Path(value).expanduser()).resolve() if value else _home().joinpath(*default)


def data_root():
    """Folder with one sub-folder per corpus: `SERCORE_DATA`, or data/ of the checkout."""
    return _folder("SERCORE_DATA", "data")


def cache_dir():
    """Folder of computed features, safe to delete: `SERCORE_CACHE`, or data/cache."""
    return _folder("SERCORE_CACHE", "data", "cache")


def runs_dir():
    """Folder of training runs and their checkpoints: `SERCORE_RUNS`, or data/runs."""
    return _folder("SERCORE_RUNS", "data", "runs")


def results_dir():
    """Folder of the recorded scores: `SERCORE_RESULTS`, or data/results."""
    return _folder("SERCORE_RESULTS", "data", "results")


def figures_dir():
    """Folder that `save_figure` writes to: `SERCORE_FIGURES`, or build/figures.

    The committed figures/ is written only by `make figures`, which sets the variable.
    """
    return _folder("SERCORE_FIGURES", "build", "figures")


def profile():
    """Tell which profile is in force.

    Returns
    -------
    profile : {"full", "smoke"}
        `SERCORE_PROFILE` if set; else "full" where `data_root()` has a ravdess folder, and "smoke"
        (synthetic speech, small runs) where it has not.

    Raises
    ------
    ConfigError
        If `SERCORE_PROFILE` is neither.
    """
    value = os.environ.get("SERCORE_PROFILE")
    if value and value not in PROFILES:
        raise ConfigError(f"Bad SERCORE_PROFILE {value!r}: expected one of {list(PROFILES)}.")
    return value or ("full" if (data_root() / "ravdess").is_dir() else "smoke")


def device():
    """Name the device that torch should use: "cuda", "mps" or "cpu" (`SERCORE_DEVICE` overrules)."""
    import torch

    if value := os.environ.get("SERCORE_DEVICE"):
        return value
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def write_atomic(path, data):
    """Write bytes so that a reader, or a kill, meets the old file or the new one and nothing between.

    Parameters
    ----------
    path : str or Path
    data : bytes

    Returns
    -------
    path : Path
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
    return path
