"""corpora.own: recordings of one's own, in a folder per emotion or listed in a CSV file."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from sercore.corpora.corpus import Corpus, sound_files
from sercore.errors import CorpusError
from sercore.labels import EMOTIONS

#: The nouns that other corpora use.
NOUNS = {
    "calmness": "calm", "happiness": "happy", "sadness": "sad", "anger": "angry", "fear": "fearful",
    "surprise": "surprised",
}  # fmt: skip
#: Who it is, where nothing says so. One name for all, so that no split can promise an unseen speaker.
UNKNOWN = "unknown"
REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("sex", "intensity", "statement", "repetition", "vocal_channel")


def emotion_of(word: str) -> str | None:
    """Give the label that a word names, in capitals or not; or None."""
    word = word.strip().lower()
    return NOUNS.get(word, word if word in EMOTIONS else None)


def find(root: Path) -> list[tuple[Path, Callable]]:
    """List the recordings of a folder or a CSV file, each with the function that reads its fields."""
    if root.is_dir():
        return [(path, partial(parse, root=root)) for path in sound_files(root)]
    try:
        table = pd.read_csv(root, dtype=str, skipinitialspace=True).fillna("")
    except (ValueError, OSError) as error:
        raise CorpusError(f"Bad table {root}: expected a CSV file in UTF-8; {error}.") from error
    table.columns = [column.strip().lower() for column in table.columns]
    if missing := [column for column in REQUIRED if column not in table]:
        raise CorpusError(f"No column {missing} in {root}: expected {list(REQUIRED)}, got {list(table.columns)}.")
    # A spreadsheet counts its lines from 1, and the first holds the names.
    return [
        (root.parent / row["path"], partial(_row, row=row, where=f"{root.name}, line {line}"))
        for line, row in enumerate(table.to_dict("records"), start=2)
    ]


def place(path: Path, root: Path) -> str:
    """Give where a recording lies below the folder, or beside the table; the whole path if it lies elsewhere."""
    folder, path = (Path(os.path.abspath(p)) for p in (root if root.is_dir() else root.parent, path))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def parse(path: str | Path, *, root: str | Path = "") -> dict:
    """Read emotion and speaker, the nearest folder that is no emotion, of a place such as ``happy/anna/01.wav``."""
    path = Path(path)
    folders = path.relative_to(root).parts[:-1]
    emotions = {emotion_of(folder) for folder in folders} - {None}
    if len(emotions) != 1:
        where = "/".join(folders) or root
        raise CorpusError(f"Bad place of {path.name} in {where}: expected one folder named as one of {list(EMOTIONS)}.")
    others = [folder for folder in folders if emotion_of(folder) is None]
    return {"emotion": emotions.pop(), "speaker": others[-1] if others else UNKNOWN}


def _row(path, *, row, where):
    if not path.is_file():
        raise CorpusError(f"No recording {row['path']!r} ({where}): expected a path from the table's folder.")
    if (emotion := emotion_of(row["emotion"])) is None:
        raise CorpusError(f"Bad emotion {row['emotion']!r} ({where}): expected one of {list(EMOTIONS)}.")
    optional = {column: row[column] for column in OPTIONAL if row.get(column)}
    if number := optional.get("repetition"):
        if not number.isdecimal():
            raise CorpusError(f"Bad repetition {number!r} ({where}): expected a whole number.")
        optional["repetition"] = int(number)
    return {"emotion": emotion, "speaker": row["speaker"].strip() or UNKNOWN, **optional}


CORPUS = Corpus(name="own", title="Recordings of one's own", parse=parse)
