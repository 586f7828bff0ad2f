"""corpora.corpus: what is said of a corpus, how its file names are read, and the clip table they become."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from sercore.errors import CorpusError, readable

COLUMNS = (
    "path", "clip", "corpus", "speaker", "sex", "emotion", "intensity", "statement", "repetition", "vocal_channel",
)  # fmt: skip


@dataclass(frozen=True)
class Corpus:
    """What a corpus is, where it comes from, and what its file names say."""

    name: str
    title: str
    #: Path -> fields of the clip table, by name; emotion None if it is none of our eight. Or `CorpusError`.
    parse: Callable[[str | Path], dict]
    url: str | None = None
    doi: str | None = None
    licence: str | None = None
    citation: str | None = None
    n_files: int | None = None
    #: URL that the archives or the listing lie below; None if no program can fetch them.
    home: str | None = None
    #: How a person gets it, up to "into FOLDER"; None if there is nothing to fetch.
    by_hand: str | None = None
    #: Name -> size [bytes] and checksum, None where the home publishes none.
    archives: dict[str, tuple[int | None, str | None]] = field(default_factory=dict)
    #: Of a corpus that is published clip by clip: the list's place, and file -> name -> (place, size, checksum).
    listing: str | None = None
    read_listing: Callable[[str | Path], dict] | None = None
    #: The corpus whose speakers these are, if not its own.
    people: str | None = None
    #: File stem -> what is wrong with the official file.
    broken: dict[str, str] = field(default_factory=dict)
    #: Vocal channel -> the official file stems.
    expected_files: Callable[..., list[str]] | None = None
    #: Path and its fields -> the official place without suffix, whatever the folder on disk. Or `CorpusError`.
    official_path: Callable[[Path, dict], str] = lambda path, fields: path.stem

    def row(self, path: str | Path, place: str, fields: dict) -> dict:
        """Make a row of the clip table; speaker and clip carry the corpus. `CorpusError` if a name is not UTF-8."""
        if readable(path) != str(path):
            raise CorpusError(f"Bad name '{readable(path)}': expected UTF-8, as tables do; rename it.")
        row = {"path": str(path), "clip": f"{self.name}/{place}", "corpus": self.name, "vocal_channel": "speech"}
        people = fields.get("people") or self.people or self.name
        return {**row, **fields, "speaker": f"{people}-{fields['speaker']}"}


def clip_table(rows: list[dict]) -> pd.DataFrame:
    """Make the clip table, sorted by speaker and file."""
    clips = pd.DataFrame(rows, columns=list(COLUMNS))
    # Text, also where a corpus has none of it.
    clips = clips.astype(dict.fromkeys(("sex", "intensity", "statement"), clips["speaker"].dtype))
    return clips.sort_values(["speaker", "path"], kind="stable", ignore_index=True)


def read_name(filename: str | Path, corpus: str, form: str, pattern: str, **known: Collection[str]) -> dict:
    """Take fields from a file name by a pattern with named groups, which may reach into its folder.

    Codes of a `known` dict become its values. `CorpusError` if the name has not the `form`, or a code is not `known`.
    """
    path = Path(filename)
    match = re.search(rf"(?:^|/){pattern}\Z", path.with_suffix("").as_posix(), flags=re.ASCII)
    if not match:
        raise CorpusError(f"Bad {corpus} file name {path.name!r}: expected {form}.")
    fields = match.groupdict()
    for what, codes in known.items():
        code = fields[what]
        if code not in codes:
            first, *_, last = codes
            counted = last.isdecimal() and int(last) - int(first) + 1 == len(codes)
            expected = f"a code from {first} to {last}" if counted else f"one of {list(codes)}"
            raise CorpusError(f"Bad {what.replace('_', ' ')} {code!r} in {path.name}: expected {expected}.")
        fields[what] = codes[code] if isinstance(codes, dict) else code
    return fields
