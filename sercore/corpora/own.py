"""corpora.own: recordings of one's own, in a folder per emotion or listed in a CSV file."""

from functools import partial
from pathlib import Path

import pandas as pd

from sercore.errors import CorpusError
from sercore.labels import EMOTIONS

NAME = "own"
TITLE = "Recordings of one's own"
URL = DOI = LICENCE = CITATION = None

#: The nouns that other corpora use.
NOUNS = {
    "calmness": "calm", "happiness": "happy", "sadness": "sad", "anger": "angry", "fear": "fearful",
    "surprise": "surprised",
}  # fmt: skip
#: Who it is, where nothing says so. One name for all, so that no split can promise an unheard speaker.
UNKNOWN = "unknown"
REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("sex", "intensity", "statement", "repetition", "vocal_channel")


def emotion_of(word):
    """Give the label that a word names, or None.

    Parameters
    ----------
    word : str
        One of `labels.EMOTIONS` or `NOUNS`, in capitals or not.

    Returns
    -------
    emotion : str or None
    """
    word = word.strip().lower()
    return NOUNS.get(word, word if word in EMOTIONS else None)


def find(root, files):
    """List the recordings, each with the function that reads its fields.

    Parameters
    ----------
    root : Path
        A folder, or a CSV file with the columns ``path`` (meant from the file's own folder), ``emotion`` and
        ``speaker``, and any of `OPTIONAL`.
    files : callable
        Gives the sound files of a folder.

    Returns
    -------
    found : list of (Path, callable)

    Raises
    ------
    CorpusError
        If the CSV file cannot be read or lacks a column.
    """
    if root.is_dir():
        return [(path, partial(parse, root=root)) for path in files(root)]
    try:
        table = pd.read_csv(root, dtype=str, skipinitialspace=True)
    except (ValueError, OSError) as error:
        raise CorpusError(f"Bad table {root}: expected a CSV file in UTF-8; {error}.") from error
    table.columns = [column.strip().lower() for column in table.columns]
    if missing := [column for column in REQUIRED if column not in table]:
        raise CorpusError(f"No column {missing} in {root}: expected {list(REQUIRED)}, got {list(table.columns)}.")
    table = table.astype(object).where(table.notna(), None)
    # A spreadsheet counts its lines from 1, and the first holds the names.
    return [
        (root.parent / (row["path"] or ""), partial(_row, row=row, where=f"{root.name}, line {line}"))
        for line, row in enumerate(table.to_dict("records"), start=2)
    ]


def parse(path, *, root=Path()):
    """Read emotion and speaker from the folders of a recording.

    Parameters
    ----------
    path : str or Path
        Such as ``happy/anna/01.wav`` or ``anna/happy/01.wav``, below `root`.
    root : str or Path
        Folders above it say nothing.

    Returns
    -------
    fields : dict
        ``emotion``; ``speaker``, the nearest folder that is no emotion, or `UNKNOWN`; and ``file``.

    Raises
    ------
    CorpusError
        If not exactly one folder is named as an emotion.
    """
    path = Path(path)
    folders = path.relative_to(root).parts[:-1]
    emotions = {emotion_of(folder) for folder in folders} - {None}
    if len(emotions) != 1:
        raise CorpusError(
            f"Bad place of {path.name} in {'/'.join(folders) or root}: expected one folder named as one of {list(EMOTIONS)}."
        )
    others = [folder for folder in folders if emotion_of(folder) is None]
    return _fields(path, emotion=emotions.pop(), speaker=others[-1] if others else UNKNOWN)


def _row(path, *, row, where):
    if not path.is_file():
        raise CorpusError(
            f"No recording {row['path']!r} ({where}): expected a sound file, meant from the table's folder."
        )
    if (emotion := emotion_of(row["emotion"] or "")) is None:
        raise CorpusError(f"Bad emotion {row['emotion']!r} ({where}): expected one of {list(EMOTIONS)}.")
    optional = {column: row[column] for column in OPTIONAL if row.get(column) is not None}
    if not str(optional.get("repetition", 1)).isdecimal():
        raise CorpusError(f"Bad repetition {row['repetition']!r} ({where}): expected a whole number.")
    if "repetition" in optional:
        optional["repetition"] = int(optional["repetition"])
    return _fields(path, emotion=emotion, speaker=(row["speaker"] or UNKNOWN).strip(), **optional)


def _fields(path, **fields):
    # A clip is its file: two of one's own recordings are never taken for copies, and none has two emotions.
    return {"file": str(path), "vocal_channel": "speech", **fields}
