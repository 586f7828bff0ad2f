"""corpora: from a folder of recordings to a clip table, one short file per corpus."""

import logging
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import soundfile as sf

from sercore import settings
from sercore.corpora import emodb, ravdess, synthetic, tess
from sercore.errors import ConfigError, CorpusError

logger = logging.getLogger(__name__)

CORPORA = {module.NAME: module for module in (ravdess, emodb, tess, synthetic)}

COLUMNS = (
    "path", "corpus", "speaker", "sex", "emotion", "intensity", "statement", "repetition", "vocal_channel",
)  # fmt: skip

#: What libsndfile reads, and the names these formats go by.
SUFFIXES = ({f".{name.lower()}" for name in sf.available_formats()} | {".aif", ".aifc", ".oga", ".opus"}) - {".raw"}


def _module(name):
    if name not in CORPORA:
        raise ConfigError(f"Bad corpus {name!r}: expected one of {sorted(CORPORA)}.")
    return CORPORA[name]


def _root(name, root):
    if root is None and name == synthetic.NAME:
        return synthetic.ensure_corpus()
    root = Path(root).expanduser() if root is not None else settings.data_root() / name
    if not root.is_dir():
        raise CorpusError(
            f"No {name} folder at {root}: expected a folder of audio files. Set SERCORE_DATA to the folder that "
            f"holds {name}/, or see data/README.md for where to get it."
        )
    return root


def load_corpus(name, root=None):
    """Find the clips of a corpus and read what their names say.

    Parameters
    ----------
    name : str
        A key of `CORPORA`.
    root : str or Path, optional
        The corpus's own folder, searched with all its sub-folders. Default: `settings.data_root()` / name;
        "synthetic" is written to the cache on first use.

    Returns
    -------
    clips : pd.DataFrame
        The clip table: one row a clip, columns `COLUMNS`, sorted by speaker and file name.
        ``clips.attrs["skipped"]`` lists what was left out, as dicts of ``path`` and ``reason``;
        `skipped_files` shows it as a table. ``clips.attrs["dropped"]`` lists the sound files whose emotion is none
        of our eight.

    Raises
    ------
    ConfigError
        If `name` is not a known corpus.
    CorpusError
        If the folder does not exist or holds not one usable clip.
    """
    module, root = _module(name), _root(name, root)
    rows, skipped, dropped, seen = [], [], [], {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
        try:
            fields = module.parse(path.name)
            _check_place(path, fields, seen)
        except CorpusError as error:
            skipped.append({"path": str(path), "reason": str(error)})
            continue
        seen[path.stem] = path
        if fields["emotion"] is None:
            dropped.append(str(path))
            continue
        rows.append({"path": str(path), "corpus": name, **fields, "speaker": f"{name}-{fields['speaker']}"})
    if skipped:
        logger.warning(
            "%s: skipped %d of %d files; see skipped_files(clips)", root, len(skipped), len(skipped) + len(rows)
        )
    if not rows:
        raise CorpusError(
            f"No {name} clip in {root}: expected audio files named as in {module.URL or 'corpora/synthetic.py'}; "
            f"{len(skipped)} files were skipped{', the first because: ' + skipped[0]['reason'] if skipped else ''}."
        )
    clips = pd.DataFrame(rows, columns=list(COLUMNS))
    clips = clips.astype({"intensity": clips["speaker"].dtype})  # text, also where a corpus has none
    clips = clips.sort_values(["speaker", "path"], kind="stable", ignore_index=True)
    if dropped:
        logger.info("%s: %d clips of an emotion that is none of our eight were left out", name, len(dropped))
    clips.attrs["skipped"], clips.attrs["dropped"] = skipped, dropped
    return clips


def _check_place(path, fields, seen):
    """Reject what a sound name cannot save: video's sound track, a second copy, another actor's folder."""
    if fields.get("modality", "audio-only") != "audio-only":
        raise CorpusError(f"Bad modality {fields['modality']!r} in {path.name}: expected audio-only (03).")
    if path.stem in seen:
        raise CorpusError(f"Duplicate of {seen[path.stem]}: each clip counts once.")
    folder = path.parent.name.lower()
    if "actor" in fields and folder.startswith("actor_") and folder != f"actor_{fields['actor']:02d}":
        raise CorpusError(
            f"Bad place of {path.name}: its name says actor {fields['actor']:02d}, its folder {path.parent.name}."
        )


def skipped_files(clips):
    """Show what `load_corpus` left out, and why.

    Parameters
    ----------
    clips : pd.DataFrame
        As `load_corpus` returned it.

    Returns
    -------
    skipped : pd.DataFrame
        Columns ``path`` and ``reason``; empty if nothing was skipped.
    """
    return pd.DataFrame(clips.attrs.get("skipped", []), columns=["path", "reason"])


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found: counts, and the files that are missing, unreadable or skipped.

    Attributes
    ----------
    name : str
    n_expected, n_found : int
        Clips of the whole corpus, and usable clips in the folder.
    missing : list of str
        File stems of the official list that are not there; empty where no list is kept.
    unreadable : dict of str to str
        Path and reason of files that do not decode or hold no sound.
    skipped : dict of str to str
        Path and reason of files whose name or place cannot be right.
    """

    name: str
    n_expected: int
    n_found: int
    missing: list = field(default_factory=list)
    unreadable: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)

    @property
    def ok(self):
        """True if the corpus is whole and every clip can be decoded."""
        return self.n_found >= self.n_expected and not (self.missing or self.unreadable or self.skipped)


def verify(name, root=None):
    """Decode every clip of a corpus, and say what is missing or unreadable.

    Parameters
    ----------
    name : str
    root : str or Path, optional
        As in `load_corpus`.

    Returns
    -------
    report : VerifyReport

    Raises
    ------
    ConfigError, CorpusError
        As `load_corpus`.
    """
    clips = load_corpus(name, root)
    module, paths = CORPORA[name], [*clips["path"], *clips.attrs["dropped"]]
    found = {Path(path).stem for path in paths}
    missing = []
    if hasattr(module, "expected_files"):
        expected = set().union(*(module.expected_files(channel) for channel in clips["vocal_channel"].unique()))
        missing = sorted(expected - found)
    unreadable = {path: reason for path in paths if (reason := _unreadable(path))}
    return VerifyReport(
        name=name,
        n_expected=len(expected) if hasattr(module, "expected_files") else module.N_FILES,
        n_found=len(found) - len(unreadable),
        missing=missing,
        unreadable=unreadable,
        skipped={entry["path"]: entry["reason"] for entry in clips.attrs["skipped"]},
    )


def _unreadable(path):
    """Decode a file block by block, so that a truncated or lying one shows itself; "" if all is well."""
    try:
        with sf.SoundFile(path) as sound:
            # libsndfile reads a WAV or AIFF file that was cut short as if it were whole, and notes it only here.
            if cut := re.search(r"(?:data|SSND) *: (\d+) \(should be (\d+)\)", sound.extra_info):
                return f"holds {cut[1]} bytes of sound, its header says {cut[2]}"
            n_read = sum(len(block) for block in sound.blocks(blocksize=1 << 16, dtype="float32"))
            if n_read == 0:
                return "holds no samples"
            return "" if n_read == sound.frames else f"holds {n_read} samples, its header says {sound.frames}"
    except (sf.LibsndfileError, OSError) as error:
        return str(error)
