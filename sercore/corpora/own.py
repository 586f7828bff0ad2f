"""corpora.own: recordings of one's own, in a folder per emotion or listed in a CSV file."""

import csv
import hashlib
import io
import logging
import os
import re
from collections import Counter
from functools import partial
from pathlib import Path

from sercore.corpora import crema_d, emodb, nemo, ravdess, tess
from sercore.corpora.corpus import Corpus
from sercore.decoder import find_audio
from sercore.errors import CorpusError, readable
from sercore.labels import EMOTIONS

logger = logging.getLogger(__name__)

#: What else people call the eight.
WORDS = {
    "neutral": "neutrality",
    "calm": "calmness",
    "happy": "happiness, joy, joyful",
    "sad": "sadness",
    "angry": "anger, mad",
    "fearful": "fear, afraid, scared, frightened",
    "disgust": "disgusted",
    "surprised": "surprise, suprise, suprised, ps, pleasant surprise, pleasant surprised, pleasantly surprised",
}
_LABELS = {word: label for label, words in WORDS.items() if label in EMOTIONS for word in words.split(", ")}
_LABELS |= {label: label for label in EMOTIONS}
#: Folders named by these words, numbered or not, are no people.
PLACES = frozenset(
    "train training val valid validation dev development eval evaluation test testing fold folds split splits set part "
    "session sessions batch wav wavs wave mp flac khz audio audios sound sounds clip clips file files data dataset "
    "datasets aug augmented augmentation orig original raw clean processed preprocessed speech voice voices recording "
    "recordings sample samples emotion emotions speakers actors people".split()
)
#: Who it is, where nothing says so. One name for all, so that no split can promise an unseen speaker.
UNKNOWN = "unknown"
REQUIRED = ("path", "emotion", "speaker")
OPTIONAL = ("sex", "intensity", "statement", "repetition", "vocal_channel")
#: So many clips that are named as a known corpus's are no chance.
_MIN_KNOWN = 5


def emotion_of(word: str) -> str | None:
    """Give the label that a word names, in capitals, with hyphens or an exclamation mark; or None."""
    return _LABELS.get(re.sub(r"[\W_]+", " ", word.casefold()).strip())


def read(root: Path) -> tuple[list[dict], list[dict], list[str], list[Path]]:
    """Read a folder or a CSV file: rows of the clip table, what is skipped and why, dropped (nothing), the other files.

    A recording counts once, by whatever path and in whatever copy: it must not become two people or two emotions.
    """
    entries, others = _placed(root) if root.is_dir() else (_listed(root), [])
    known = _known([path for path, *_ in entries], root)
    sizes = Counter(os.path.getsize(path) for path, *_ in entries if os.path.isfile(path))
    rows, skipped, seen, names, people = [], [], {}, {UNKNOWN: UNKNOWN}, Counter()
    for path, where, parse_it in entries:
        try:
            fields = parse_it(path)
            fields["speaker"] = names.setdefault(fields["speaker"].casefold(), fields["speaker"])
            fields |= known.get(path, {})
            before = seen.setdefault(_identity(path, sizes), (path, where, fields))
            if before[0] is not path:
                raise CorpusError(_again(where, fields, *before))
            rows.append(CORPUS.row(path, place(path, root), fields))
        except CorpusError as error:
            skipped.append({"path": readable(path), "reason": readable(error)})
            continue
        if path not in known and fields["speaker"] != UNKNOWN:
            people[fields["speaker"]] += 1
    if root.is_dir() and (named := [f"{name} ({n})" for name, n in people.most_common()]):
        advice = "Where these are no people, list the clips in a CSV file"
        logger.warning("%s: speakers taken from the names of folders: %s. %s.", root, first_of(named), advice)
    if any(row["speaker"] == f"own-{UNKNOWN}" for row in rows):
        logger.warning("%s: nothing says who speaks in some clips; all of them count as one speaker", root)
    return rows, skipped, [], others


def place(path: Path, root: Path) -> str:
    """Give where a recording lies below the folder, or beside the table; the whole path if it lies elsewhere."""
    folder, path = (Path(os.path.abspath(p)) for p in (root if root.is_dir() else root.parent, path))
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def parse(path: str | Path, *, root: str | Path = "", people: frozenset = frozenset()) -> dict:
    """Read emotion and speaker, the nearest folder that may be a person, of a place such as ``happy/anna/01.wav``.

    Where no folder is an emotion, the message names those that are neither of these `people`.
    """
    path = Path(path)
    folders = path.relative_to(root).parts[:-1]
    emotions = {emotion_of(folder) for folder in folders} - {None}
    others = [folder for folder in folders if emotion_of(folder) is None and not _is_place(folder)]
    if folders and not emotions:
        word = "/".join([folder for folder in others if folder.casefold() not in people] or folders)
        where = "/".join(folders)
        raise CorpusError(f"Bad emotion {word!r} ({where}/): expected one folder named as one of {list(EMOTIONS)}.")
    if len(emotions) != 1:
        where = "/".join(folders) or root
        raise CorpusError(f"Bad place of {path.name} in {where}: expected one folder named as one of {list(EMOTIONS)}.")
    return {"emotion": emotions.pop(), "speaker": others[-1] if others else UNKNOWN}


def _is_place(folder):
    words = re.findall(r"[^\W\d_]+", folder.casefold())
    return bool(words) and PLACES.issuperset(words)


def first_of(parts: list[str], n: int = 8) -> str:
    """Join the first of some words with commas."""
    return ", ".join(parts[:n]) + (", …" if len(parts) > n else "")


def _placed(root):
    """The recordings of a folder: path, what a message calls it, and the function that reads its fields."""
    paths, others = find_audio(root)
    people = set()
    for path in paths:
        try:
            people.add(parse(path, root=root)["speaker"].casefold())
        except CorpusError:
            continue
    return [(path, place(path, root), partial(parse, root=root, people=frozenset(people))) for path in paths], others


def _listed(table):
    """The recordings of a CSV file, as `_placed` has them."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.DictReader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=True, restval="")
        columns = reader.fieldnames = [column.strip().lower() for column in reader.fieldnames or ()]
        lines = [(reader.line_num, row) for row in reader]
    except (ValueError, OSError, csv.Error) as error:
        raise CorpusError(f"Bad table {table}: expected a CSV file in UTF-8; {error}.") from error
    if missing := [column for column in REQUIRED if column not in columns]:
        raise CorpusError(f"No column {missing} in {table}: expected {list(REQUIRED)}, got {columns}.")
    rows = [(line, {column: row[column].strip() for column in columns}) for line, row in lines]
    return [
        (table.parent / row["path"], f"line {line}", partial(_row, row=row, where=f"{table.name}, line {line}"))
        for line, row in rows
    ]


def _row(path, *, row, where):
    if not os.path.isfile(path):  # unlike Path.is_file, also of a name that no disk takes
        raise CorpusError(f"No recording {row['path']!r} ({where}): expected a path from the table's folder.")
    if (emotion := emotion_of(row["emotion"])) is None:
        raise CorpusError(f"Bad emotion {row['emotion']!r} ({where}): expected one of {list(EMOTIONS)}.")
    optional = {column: row[column] for column in OPTIONAL if row.get(column)}
    if number := optional.get("repetition"):
        if not (number.isdecimal() and len(number) < 10):
            raise CorpusError(f"Bad repetition {number[:20]!r} ({where}): expected a whole number below 10⁹.")
        optional["repetition"] = int(number)
    return {"emotion": emotion, "speaker": row["speaker"] or UNKNOWN, **optional}


def _known(paths, root):
    """Path -> speaker, of clips that are named as a known corpus's: whoever was trained on that has heard them."""
    known = {}
    for corpus in (room.CORPUS for room in (crema_d, emodb, nemo, ravdess, tess)):
        found = {}
        for path in paths:
            try:
                found[path] = {"speaker": corpus.parse(path)["speaker"], "people": corpus.name}
            except CorpusError:
                continue
        if len(found) >= _MIN_KNOWN:
            known |= found
            logger.warning(
                "%s: %d of %d files look like clips of %s, which a network may have been trained on: their speakers are "
                "called %s-… here, as there. To read them as that corpus: --corpus %s --root %s",
                root, len(found), len(paths), corpus.name, corpus.name, corpus.name, root if root.is_dir() else root.parent,
            )  # fmt: skip
    return known


def _identity(path, sizes):
    """What is equal for one file by two paths, and for two copies."""
    try:
        size = os.path.getsize(path)
        if size and sizes[size] > 1:
            with open(path, "rb") as file:
                return hashlib.file_digest(file, "blake2b").digest()
    except OSError:  # whoever decodes it says what is wrong
        pass
    return os.path.realpath(path)


def _again(where, fields, first, there, before):
    if all(fields[what] == before[what] for what in ("emotion", "speaker")):
        return f"Duplicate of {first}: each clip counts once."
    here, then = (
        f"{said['emotion']} of {said['speaker']}" if fields["speaker"] != before["speaker"] else said["emotion"]
        for said in (fields, before)
    )
    return f"Same recording as {first}, contradicting: {where} says {here}, {there} says {then}."


CORPUS = Corpus(name="own", title="Recordings of one's own", parse=parse)
