"""settings: where data, cache, runs and figures live; the profile; the seed; the device; which code runs.

The only room that reads the environment. A relative path there is meant from the checkout.
"""

import errno
import os
import re
import subprocess
import tempfile
import threading
from functools import cache
from pathlib import Path

from sercore.errors import ConfigError

#: The seed of every documented run.
SEED = 0

PROFILES = ("full", "smoke")

#: So many colours are told apart in every colour vision.
MAX_EMOTIONS = 8
#: What stands beside the emotions in tables of answers.
RESERVED = frozenset({"file", "network", "label", "confidence", "warnings", "error", "silence", "remarks"})


def _checkout() -> Path | None:
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def _folder(variable: str, *default: str) -> Path:
    home = _checkout() or Path.home() / ".sercore"
    value = os.environ.get(variable)
    # Also when a notebook runs in notebooks/.
    return (home / Path(value).expanduser()).resolve() if value else home.joinpath(*default)


def data_root() -> Path:
    """Folder with one sub-folder per corpus: `SERCORE_DATA`, or data/ of the checkout."""
    return _folder("SERCORE_DATA", "data")


def samples_dir() -> Path:
    """Folder of the few real clips to try, one an emotion: `SERCORE_SAMPLES`, or data/samples."""
    return _folder("SERCORE_SAMPLES", "data", "samples")


def cache_dir() -> Path:
    """Folder of computed features, safe to delete: `SERCORE_CACHE`, or data/cache."""
    return _folder("SERCORE_CACHE", "data", "cache")


def runs_dir() -> Path:
    """Folder of training runs and their checkpoints: `SERCORE_RUNS`, or data/runs."""
    return _folder("SERCORE_RUNS", "data", "runs")


def results_dir() -> Path:
    """Folder of the recorded scores: `SERCORE_RESULTS`, or data/results."""
    return _folder("SERCORE_RESULTS", "data", "results")


def figures_dir() -> Path:
    """Folder that figures are written to: `SERCORE_FIGURES`, or build/figures; `make figures` sets figures/."""
    return _folder("SERCORE_FIGURES", "build", "figures")


def chosen_profile() -> str | None:
    """Give `SERCORE_PROFILE` if it is set; ConfigError if it is neither "full" nor "smoke"."""
    value = os.environ.get("SERCORE_PROFILE") or None
    if value not in (None, *PROFILES):
        raise ConfigError(f"Bad SERCORE_PROFILE {value!r}: expected one of {list(PROFILES)}.")
    return value


def profile() -> str:
    """Tell which profile is in force: the chosen one, else "full" where there is a ravdess folder, else "smoke"."""
    return chosen_profile() or ("full" if (data_root() / "ravdess").is_dir() else "smoke")


def own_emotions() -> tuple[str, ...]:
    """Give the emotions of `SERCORE_EMOTIONS`, such as "calm,upset,urgent"; none if it is not set.

    As `corpora.own` reads them in names of folders: lower case, words with spaces between.
    """
    value = os.environ.get("SERCORE_EMOTIONS") or ""
    words = tuple(re.sub(r"[\W_]+", " ", word.casefold()).strip() for word in value.split(",") if value)
    if value and not (2 <= len(words) <= MAX_EMOTIONS and all(words) and len(set(words)) == len(words)):
        expected = f"2 to {MAX_EMOTIONS} different words with commas between, such as calm,upset"
        raise ConfigError(f"Bad SERCORE_EMOTIONS {value!r}: expected {expected}.")
    if taken := set(words) & RESERVED:
        raise ConfigError(f"Bad SERCORE_EMOTIONS {value!r}: {sorted(taken)} are names of columns; expected others.")
    return words


def language() -> str:
    """Name the language of the demo: `SERCORE_LANGUAGE`, or "en"."""
    return os.environ.get("SERCORE_LANGUAGE") or "en"


def device() -> str:
    """Name the device for torch: `SERCORE_DEVICE` ("cpu", "cuda", "cuda:1", "mps"), or the best there is."""
    import torch

    n_cuda, mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    present = ["cuda", *(f"cuda:{k}" for k in range(n_cuda))] if torch.cuda.is_available() else []
    present += ["mps"] if mps else []
    value = os.environ.get("SERCORE_DEVICE") or (present[0] if present else "cpu")
    if value not in (*present, "cpu"):
        raise ConfigError(f"Bad SERCORE_DEVICE {value!r}: expected one of {[*present, 'cpu']} on this machine.")
    return value


def write_atomic(path: str | Path, data: bytes) -> Path:
    """Write bytes so that a reader, or a kill, meets the old file or the new one and nothing between."""
    path = Path(os.path.realpath(path))  # what a link names is written, and the link stays
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # a pipe or a device
        path.write_bytes(data)
        return path
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def check_writable(path: str | Path) -> Path:
    """Let a place that cannot be written to fail before the work is done, by the machine's own `OSError`."""
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "Is a directory, expected a place for a file", str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):
        return path


@cache
def commit() -> str:
    """Tell which code runs: the short hash of sercore's own checkout, "+" after it if code differs from it.

    "unknown" where sercore is installed: a repository around the installation is another project's.
    """
    checkout = _checkout()

    def git(*words):
        done = subprocess.run(["git", *words], cwd=checkout, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        if checkout is None or not (top := git("rev-parse", "--show-toplevel")) or Path(top) != checkout:
            return "unknown"
        head = git("rev-parse", "--short=10", "HEAD") or "unknown"
        return f"{head}+" if git("status", "--porcelain", "--", "*.py") else head
    except OSError:  # no git
        return "unknown"
