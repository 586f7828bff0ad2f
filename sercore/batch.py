"""batch: recordings in files, folders and lists; their rows are written as they come, and a killed run resumes."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

from tqdm.auto import tqdm

from sercore import settings
from sercore.decoder import find_audio, left_out
from sercore.errors import ConfigError, readable
from sercore.predict import COLUMNS, Predictor

#: More files than this are shared out to all cores.
FEW = 8
#: A Parquet file has so many rows.
PART_ROWS = 10_000
#: The columns that are no numbers.
TEXTS = ("file", "network", "label", "warnings", "error")


def list_files(paths: Iterable[Path], *, tell=print) -> list[Path]:
    """List recordings: files as they are named, and of folders what is one by its first bytes; `tell` hears of the rest."""
    files = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside, others = find_audio(path)
        files += inside
        if others or not inside:
            tell(f"{path}: left out {left_out(others)}." if others else f"{path}: no audio in this folder.")
    if not files:
        raise ConfigError("No audio: expected recordings, such as .wav, .flac, .ogg, .mp3 or .m4a, or folders of them.")
    return files


def read_list(file: str | None) -> list[Path]:
    """Read paths, one a line, from a file or, for "-", from standard input."""
    if file is None:
        return []
    with nullcontext(sys.stdin) if file == "-" else open(file, encoding="utf-8", errors="surrogateescape") as lines:
        return [Path(line.rstrip("\r\n")) for line in lines if line.strip()]


def open_table(path: Path, *, resume: bool = False) -> "Table | Parts":
    """Open what rows are written to, by the suffix of its name."""
    return (Parts if path.suffix.lower() == ".parquet" else Table)(path, resume=resume)


class Table:
    """A table that grows row by row: JSON Lines if its name ends so, else CSV.

    It is opened before any work is done; `resume` keeps what an earlier run has written, but for a row cut in its middle.
    Links are followed and pipes written to. Names that are not UTF-8 keep their bytes.
    """

    def __init__(self, path: Path, *, resume: bool = False):
        self._is_json = path.suffix.lower() in (".jsonl", ".ndjson")
        self.done: set[tuple[str, str]] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        resume = resume and path.is_file() and path.stat().st_size > 0
        text = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
        self._file = open(path, "r+" if resume else "w", **text)
        if resume:
            self._keep(path)
        elif not self._is_json:
            self._write(",".join(COLUMNS) + "\n")

    def _keep(self, path):
        whole = self._file.read()
        kept = whole[: whole.rfind("\n") + 1]
        try:
            lines = kept.splitlines() if self._is_json else csv.DictReader(io.StringIO(kept, newline=""), strict=True)
            if not self._is_json and kept and lines.fieldnames != COLUMNS:
                raise ValueError(f"its columns are {lines.fieldnames}, expected {COLUMNS}")
            rows = [json.loads(line) if self._is_json else line for line in lines]
            self.done = {(readable(row["file"]), row["network"]) for row in rows}
        except (csv.Error, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"Bad table {path} to resume: expected one that `sercore predict` wrote. ({error})"
            ) from error
        self._file.seek(len(kept.encode("utf-8", "surrogateescape")))
        self._file.truncate()

    def add(self, row: dict):
        """Write a row, at once."""
        if self._is_json:
            return self._write(json.dumps(row) + "\n")
        line = io.StringIO()
        csv.DictWriter(line, COLUMNS, restval="", lineterminator="\n").writerow(row)
        return self._write(line.getvalue())

    def _write(self, text):
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as error:  # the system does not say on which file
            raise type(error)(error.errno, error.strerror, self._file.name) from error

    def close(self):
        """Finish the table, on the disk."""
        try:
            os.fsync(self._file.fileno())
        except OSError:  # a pipe
            pass
        self._file.close()


class Parts:
    """A folder of Parquet files of `PART_ROWS` rows each, whole or not there: tools for large tables read it as one."""

    def __init__(self, folder: Path, *, resume: bool = False):
        if find_spec("pyarrow") is None:
            raise ConfigError(
                f"Cannot write {folder}: Parquet needs pyarrow. Run `pip install pyarrow`, or write .csv."
            )
        import pandas as pd

        folder.mkdir(parents=True, exist_ok=True)
        parts = sorted(folder.glob("part-*.parquet"))
        if parts and not resume:
            raise ConfigError(f"Table {folder} holds {len(parts)} parts: expected --resume, or another name.")
        there = [pd.read_parquet(part, columns=["file", "network"]) for part in parts]
        self.done = {key for table in there for key in zip(table["file"], table["network"], strict=True)}
        self._folder, self._first, self._rows = folder, sum(map(len, there)), []

    def add(self, row: dict):
        """Keep a row until a part is full: what a killed run has not written is asked about again."""
        self._rows.append({name: readable(cell) if name in TEXTS else cell for name, cell in row.items()})
        if len(self._rows) == PART_ROWS:
            self.close()

    def close(self):
        """Write what is left as the last part."""
        if self._rows:
            import pandas as pd

            table = pd.DataFrame(self._rows, columns=COLUMNS).fillna(dict.fromkeys(TEXTS, ""))
            table = table.astype({name: str if name in TEXTS else float for name in COLUMNS})
            settings.write_atomic(self._folder / f"part-{self._first:010}.parquet", table.to_parquet(index=False))
        self._first, self._rows = self._first + len(self._rows), []


def recognise(
    predictor: Predictor,
    files: list[Path],
    *,
    table: Table | Parts | None = None,
    failures: Table | Parts | None = None,
    jobs: int | None = None,
    keep: bool = True,
    tell=print,
) -> tuple[list[dict], int, int]:
    """Ask about each file that the table has not: the rows, how many could not be used, and how many were there before.

    With a table, rows are kept only if `keep` says so, and `tell` hears what could not be used; `failures` gets that alone.
    """
    todo = [file for file in files if not table or (readable(file), predictor.name) not in table.done]
    jobs = jobs or (-1 if len(todo) > FEW else 1)
    rows, n_bad = [], 0
    for row in tqdm(predictor.predict_files(todo, jobs=jobs), total=len(todo), unit="clip", disable=len(todo) <= FEW):
        if table:
            table.add(row)
        if row.get("error"):
            n_bad += 1
            if failures:
                failures.add(row)
            if table:
                tell(f"{row['file']}: {row['error']}")
        if keep or not table:
            rows.append(row)
    for written in (table, failures):
        if written:
            written.close()
    return rows, n_bad, len(files) - len(todo)


def as_text(rows: list[dict]) -> str:
    """Lay rows out as a table, shares in per cent: pandas, which does so too, takes longer to load than an answer."""
    names = ["file", *COLUMNS[2 : COLUMNS.index("duration_s")], "remarks"]
    table = [names]
    for row in rows:
        cells = [row.get(name, "-") for name in names[:-1]] + [row.get("error") or row["warnings"]]
        table.append([f"{100 * cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [[*map(str.rjust, line[:-1], widths), line[-1].ljust(widths[-1])] for line in table]
    return "\n".join(map(" ".join, lines))
