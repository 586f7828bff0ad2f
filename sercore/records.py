"""records: the scores that were measured, as tidy tables that are read whole or refused, and written under a lock."""

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from pandas.api.types import is_numeric_dtype

from sercore import settings
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS
from sercore.labels import EIGHT, EMOTIONS
from sercore.train import processes

#: What tells one row of a table from another.
KEYS = {
    "scores": (
        "corpora", "protocol", "fold", "seed", "model", "recipe", "n_members", "transductive", "pretrained",
    ),
    "ablation": ("corpora", "variant", "fold", "seed"),
    "noise": ("corpora", "protocol", "model", "recipe", "n_members", "noise", "snr_db"),
    "transfer": ("model", "tested_on"),
    "matrix": ("model", "recipe", "trained_on", "tested_on"),
    "deletion": ("network", "corpora"),
}  # fmt: skip
#: Columns of scores.csv, one row a fold. `answers` names the file with its out-of-fold probabilities, `commit` the code
#: that trained; `val_uar` is the best of the first training, where there was one.
SCORE_COLUMNS = (
    *KEYS["scores"], "n_test", "accuracy", "uar", "macro_f1", "val_uar", "parameters", "epochs", "minutes", "device",
    "precision", "threads", "processor", "answers", "commit",
)  # fmt: skip
_TEXT = ("fold", "commit", "threads", "processor", "precision", "device", "answers", "clip")
_NUMBERS = ("seed", "n_members", "n_test", "accuracy", "uar", "macro_f1", "val_uar", *PROBA_COLUMNS)


def results_dir_of(clips: pd.DataFrame, results_dir: str | Path | None = None) -> Path:
    """Tell where the scores of a corpus are kept: those on synthetic speech, or of other emotions, never among the results."""
    if results_dir:
        return Path(results_dir)
    if EMOTIONS != EIGHT:
        return settings.runs_dir() / "own_emotions" / "-".join(EMOTIONS)
    synthetic = "synthetic" in set(clips["corpus"])
    return settings.runs_dir() / "synthetic_results" if synthetic else settings.results_dir()


def corpora_of(clips: pd.DataFrame) -> str:
    """Name the corpora of a clip table, as records do: "emodb+ravdess"."""
    return "+".join(sorted(clips["corpus"].unique()))


def label(row: dict | pd.Series) -> str:
    """Name what a row of scores is of, such as "cnn, warped, 3 networks"."""
    parts = [row["model"]]
    if row["recipe"] != "standard":
        parts.append(row["recipe"])
    if row["n_members"] > 1:
        parts.append(f"{row['n_members']} networks")
    parts += [name for name in ("transductive", "pretrained") if row[name]]
    return ", ".join(parts)


def read_scores(
    clips: pd.DataFrame, *, protocol: str = "speaker_5fold", results_dir: str | Path | None = None, **where
) -> pd.DataFrame:
    """Read the recorded scores on the corpora of a clip table, `SCORE_COLUMNS`, one row a fold.

    Parameters
    ----------
    clips : pd.DataFrame
    protocol : str
    results_dir : str or Path, optional
        As in `results_dir_of`.
    **where
        The value that a column must have, such as ``model="cnn", n_members=3``.

    Raises
    ------
    ConfigError
        If there are none, with the command that makes them; or if the file is damaged.

    Examples
    --------
    >>> read_scores(clips, model="cnn", recipe="warped", n_members=3)["uar"].mean()
    0.703
    """
    where = {"corpora": corpora_of(clips), "protocol": protocol} | where
    if unknown := set(where) - set(SCORE_COLUMNS):
        raise ConfigError(f"Bad columns {sorted(unknown)}: expected some of {list(SCORE_COLUMNS)}.")
    path = results_dir_of(clips, results_dir) / "scores.csv"
    table = read(path, keys=KEYS["scores"]) if path.is_file() else pd.DataFrame(columns=list(SCORE_COLUMNS))
    for column, value in where.items():
        table = table[table[column] == value]
    if table.empty:
        raise ConfigError(f"No scores in {path.name} with {_words(where)}: run `sercore crossval{_options(where)}`.")
    return table.reset_index(drop=True)


def _words(where):
    return ", ".join(f"{column} {value}" for column, value in where.items())


def _options(where):
    """What to type after a command to get the scores that were asked for."""
    options = {"--corpus": where["corpora"], "--protocol": where["protocol"]}
    options |= {f"--{name}": where[name] for name in ("model", "recipe") if name in where}
    if where.get("n_members", 1) > 1:
        options["--seeds"] = ",".join(map(str, range(where["n_members"])))
    return "".join(f" {option} {value}" for option, value in options.items())


def read_answers(
    clips: pd.DataFrame,
    *,
    protocol: str = "speaker_5fold",
    model: str = "cnn",
    recipe: str = "standard",
    n_members: int = 1,
    seed: int = settings.SEED,
    results_dir: str | Path | None = None,
    columns: list[str] = PROBA_COLUMNS,
    **where,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read recorded out-of-fold probabilities, each from the one network that was trained without the clip.

    Parameters
    ----------
    clips : pd.DataFrame
    protocol, model, recipe, n_members, seed, results_dir, **where
        As in `read_scores`; an ensemble's seed is its lowest.
    columns : list of str
        What to read; "temperature" is there too.

    Returns
    -------
    clips : pd.DataFrame [shape=(n, ...)]
        Those that have recorded probabilities, in their order.
    proba : np.ndarray [shape=(n, len(columns))]

    Raises
    ------
    ConfigError
        As `read_scores`; also if the answers are not those of the scores.

    Examples
    --------
    >>> tested, proba = read_answers(clips, recipe="warped", n_members=3)
    """
    wanted = {"model": model, "recipe": recipe, "n_members": n_members, "seed": seed} | where
    scored = read_scores(clips, protocol=protocol, results_dir=results_dir, **wanted)
    if scored["answers"].nunique() != 1 or scored["fold"].duplicated().any():
        raise ConfigError(f"Several networks have {_words(wanted)}: say which with more of {list(KEYS['scores'])}.")
    path = results_dir_of(clips, results_dir) / "out_of_fold" / scored["answers"][0]
    answers = read(path, keys=("clip",))
    counts = answers["fold"].value_counts()
    for fold, n_test in zip(scored["fold"], scored["n_test"], strict=True):
        if counts.get(fold, 0) != n_test:
            raise _damaged(path, f"{counts.get(fold, 0)} clips of fold {fold}, expected the {n_test} of scores.csv")
    proba = answers[PROBA_COLUMNS].to_numpy(float)
    if not (np.abs(proba.sum(axis=1) - 1) < 1e-3).all() or proba.min() < 0:
        raise _damaged(path, "its probabilities do not add up to 1")
    known = clips["clip"].isin(answers["clip"]).to_numpy()
    if not known.any():
        raise ConfigError(f"No clip of these in {path.name}: it has {answers['clip'][0]}, expected {clips['clip'][0]}.")
    answers = answers.set_index("clip").loc[clips["clip"][known], columns]
    return clips[known].reset_index(drop=True), answers.to_numpy()


def read_table(clips: pd.DataFrame, name: str, *, results_dir: str | Path | None = None) -> pd.DataFrame:
    """Read the rows of another table, such as "ablation" or "noise", that are about the corpora of a clip table."""
    if name not in KEYS:
        raise ConfigError(f"Bad table {name!r}: expected one of {list(KEYS)}.")
    path = results_dir_of(clips, results_dir) / f"{name}.csv"
    table = read(path, keys=KEYS[name]) if path.is_file() else pd.DataFrame(columns=list(KEYS[name]))
    if "corpora" in table:
        table = table[table["corpora"] == corpora_of(clips)].reset_index(drop=True)
    if table.empty:
        command = "ablate" if name == "ablation" else name
        raise ConfigError(f"No rows for {corpora_of(clips)} in {path.name}: run `sercore {command}`.")
    return table


def read(path: Path, *, keys: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of records whole; ConfigError names the file and line where it is damaged."""
    try:
        text = path.read_text(encoding="utf-8")
        header, *lines = list(csv.reader(text.splitlines(), strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, error) from error
    if missing := [key for key in keys if key not in header]:
        raise _damaged(path, f"no column {missing[0]}")
    if not text.endswith("\n"):
        raise _damaged(path, "its last line is cut")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):  # pandas would fill it up, or shift its columns
            raise _damaged(path, f"line {number} has {len(line)} fields, expected {len(header)}")
    table = pd.read_csv(StringIO(text), dtype={name: str for name in _TEXT if name in header})
    known = table[list(keys)]
    for fault, rows in (("lacks a key", known.isna().any(axis=1)), ("repeats an earlier line", known.duplicated())):
        if rows.any():
            raise _damaged(path, f"line {rows.argmax() + 2} {fault}")
    for name in table.columns.intersection(_NUMBERS):
        if not is_numeric_dtype(table[name]):
            raise _damaged(path, f"column {name} holds what is no number")
    return table


def _damaged(path, what):
    return ConfigError(f"Damaged record {path.parent.name}/{path.name}: {what}. Bring it back with git, or delete it.")


def record(path: Path, rows: pd.DataFrame, *, keys: tuple[str, ...]) -> None:
    """Put rows into a table in place of those with the same keys, whole or not at all, while others do the same."""
    if not processes().is_main_process:
        return
    keys, rows = list(keys), rows.astype({name: str for name in ("fold", "clip") if name in rows})
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            old = read(path, keys=keys)
            news = pd.MultiIndex.from_frame(rows[keys].astype(old[keys].dtypes))
            old = old[~pd.MultiIndex.from_frame(old[keys]).isin(news)]
            columns = [*rows.columns, *old.columns.difference(rows.columns, sort=False)]  # also where one is new
            rows = pd.concat([old, rows], ignore_index=True)[columns] if len(old) else rows[columns]
        rows = rows.sort_values(keys, kind="stable")
        settings.write_atomic(path, rows.to_csv(index=False, float_format="%.6g").encode())
