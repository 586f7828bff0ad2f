"""corpora: from a folder of recordings to a clip table, one short file per corpus."""

import logging
import re
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import soundfile as sf

from sercore import settings
from sercore.corpora import crema_d, emodb, own, ravdess, ravdess_song, savee, synthetic, tess
from sercore.decoder import SUFFIXES as PHONE_SUFFIXES
from sercore.decoder import open_recording
from sercore.errors import AudioError, ConfigError, CorpusError

logger = logging.getLogger(__name__)

CORPORA = {module.NAME: module for module in (ravdess, ravdess_song, crema_d, tess, savee, emodb, own, synthetic)}

COLUMNS = (
    "path", "corpus", "speaker", "sex", "emotion", "intensity", "statement", "repetition", "vocal_channel",
)  # fmt: skip

#: What libsndfile reads, and the names these formats go by; and what phones record.
SUFFIXES = ({f".{name.lower()}" for name in sf.available_formats()} | {".aif", ".aifc", ".oga", ".opus"}) - {".raw"}
SUFFIXES |= PHONE_SUFFIXES


def module_of(name):
    """Give the module that knows a corpus.

    Parameters
    ----------
    name : str

    Returns
    -------
    module : module

    Raises
    ------
    ConfigError
        If `name` is not a key of `CORPORA`.
    """
    if name not in CORPORA:
        raise ConfigError(f"Bad corpus {name!r}: expected one of {sorted(CORPORA)}.")
    return CORPORA[name]


def _root(name, root):
    if root is None and name == synthetic.NAME:
        return synthetic.ensure_corpus()
    root = Path(root).expanduser() if root is not None else settings.data_root() / name
    if root.is_dir() or (name == own.NAME and root.is_file()):
        return root
    if name == own.NAME:
        raise CorpusError(
            f"No recordings at {root}: expected a folder with a folder per emotion, or a CSV file with the columns "
            f"{list(own.REQUIRED)}. Say where with root (on the command line: --root)."
        )
    module = CORPORA[name]
    how = f"run `sercore download {name}`" if hasattr(module, "HOME") else "see data/README.md for where to get it"
    raise CorpusError(
        f"No {name} folder at {root}: expected a folder of audio files. Set SERCORE_DATA to the folder that "
        f"holds {name}/, or {how}."
    )


def _sound_files(root):
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())


def load_corpus(name, root=None):
    """Find the clips of a corpus and read what their names say.

    Parameters
    ----------
    name : str
        A key of `CORPORA`; "own" reads recordings of one's own.
    root : str or Path, optional
        The corpus's own folder, searched with all its sub-folders. Default: `settings.data_root()` / name;
        "synthetic" is written to the cache on first use. For "own" a folder with a folder per emotion (and one per
        speaker below or above it), or a CSV file with the columns ``path, emotion, speaker``.

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
    module, root = module_of(name), _root(name, root)
    people, broken = getattr(module, "PEOPLE", name), getattr(module, "BROKEN", {})
    rows, skipped, dropped, seen = [], [], [], {}
    found = own.find(root, _sound_files) if module is own else [(path, module.parse) for path in _sound_files(root)]
    for path, parse in found:
        try:
            fields = parse(path)
            _check_place(path, fields)
            clip = fields.get("file", tuple(fields.values()))
            if clip in seen:
                raise CorpusError(f"Duplicate of {seen[clip]}: each clip counts once.")
            seen[clip] = path
            if path.stem in broken:
                raise CorpusError(f"Broken clip {path.name}: {broken[path.stem]}.")
        except CorpusError as error:
            skipped.append({"path": str(path), "reason": str(error)})
            continue
        if fields["emotion"] is None:
            dropped.append(str(path))
            continue
        rows.append({"path": str(path), "corpus": name, **fields, "speaker": f"{people}-{fields['speaker']}"})
    if skipped:
        logger.warning(
            "%s: skipped %d of %d files; see skipped_files(clips)", root, len(skipped), len(skipped) + len(rows)
        )
    if not rows:
        raise CorpusError(
            f"No {name} clip in {root}: expected {_expected(module, root)}; "
            f"{len(skipped)} files were skipped{', the first because: ' + skipped[0]['reason'] if skipped else ''}."
        )
    clips = pd.DataFrame(rows, columns=list(COLUMNS))
    # Text, also where a corpus has none of it.
    clips = clips.astype(dict.fromkeys(("sex", "intensity", "statement"), clips["speaker"].dtype))
    if name == own.NAME and (clips["speaker"] == f"{name}-{own.UNKNOWN}").any():
        logger.warning("%s: nothing says who speaks in some clips; all of them count as one speaker", root)
    clips = clips.sort_values(["speaker", "path"], kind="stable", ignore_index=True)
    if dropped:
        logger.info("%s: %d clips of an emotion that is none of our eight were left out", name, len(dropped))
    clips.attrs["skipped"], clips.attrs["dropped"] = skipped, dropped
    return clips


def _expected(module, root):
    if module is own:
        return "a folder per emotion, such as happy/anna/01.wav" if root.is_dir() else "a row a clip"
    if next(root.glob("*.zip"), None):
        return f"unpacked audio files, and found zip files (`sercore download {module.NAME}` unpacks them)"
    return f"audio files named as in {module.URL or 'corpora/synthetic.py'}"


def load_corpora(names, *, roots=None):
    """Read several corpora into one clip table.

    Parameters
    ----------
    names : list of str
        Keys of `CORPORA`, each once.
    roots : dict of str to Path, optional
        Folders of corpora that are not where `load_corpus` looks.

    Returns
    -------
    clips : pd.DataFrame
        The clip tables one below the other. Speakers carry their corpus (``tess-OAF``), so none are mixed up; those
        of RAVDESS's speech and song are the same people. ``attrs`` are joined.

    Raises
    ------
    ConfigError
        If no corpus is named, one twice, or `roots` has another.
    CorpusError
        As `load_corpus`.
    """
    names, roots = [names] if isinstance(names, str) else list(names), dict(roots or {})
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Bad corpora {names}: expected at least one of {sorted(CORPORA)}, each once.")
    if unknown := set(roots) - set(names):
        raise ConfigError(f"Bad roots {sorted(unknown)}: expected folders of some of {names}.")
    tables = [load_corpus(name, roots.get(name)) for name in names]
    clips = pd.concat(tables, ignore_index=True)
    clips.attrs = {key: [entry for table in tables for entry in table.attrs[key]] for key in ("skipped", "dropped")}
    return clips


def _check_place(path, fields):
    """Reject what a sound name cannot save: video's sound track, another actor's folder."""
    if fields.get("modality", "audio-only") != "audio-only":
        raise CorpusError(f"Bad modality {fields['modality']!r} in {path.name}: expected audio-only (03).")
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
        Path and reason of files whose name or place cannot be right, or that are known to be broken.
    copies : dict of str to str
        Path and reason of second copies, as mirrors ship them; they do no harm.
    """

    name: str
    n_expected: int
    n_found: int
    missing: list = field(default_factory=list)
    unreadable: dict = field(default_factory=dict)
    skipped: dict = field(default_factory=dict)
    copies: dict = field(default_factory=dict)

    @property
    def whole(self):
        """True if every clip is there and can be decoded, whatever else lies beside them."""
        return self.n_found >= self.n_expected and not (self.missing or self.unreadable)

    @property
    def ok(self):
        """True if the corpus is whole and nothing in its folder had to be skipped."""
        return self.whole and not self.skipped


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
    broken, missing = getattr(module, "BROKEN", {}), []
    n_expected = getattr(module, "N_FILES", len(paths)) - len(broken)
    if hasattr(module, "expected_files"):
        expected = set().union(*(module.expected_files(channel) for channel in clips["vocal_channel"].unique()))
        missing, n_expected = sorted(expected - {Path(path).stem for path in paths}), len(expected)
    unreadable = {path: reason for path in paths if (reason := _unreadable(path))}
    reasons = {entry["path"]: entry["reason"] for entry in clips.attrs["skipped"]}
    copies = {path: reason for path, reason in reasons.items() if reason.startswith("Duplicate")}
    return VerifyReport(
        name=name,
        n_expected=n_expected,
        n_found=len(paths) - len(unreadable),
        missing=missing,
        unreadable=unreadable,
        skipped={path: why for path, why in reasons.items() if path not in copies and Path(path).stem not in broken},
        copies=copies,
    )


def _unreadable(path):
    """Decode a file block by block, so that a truncated or lying one shows itself; "" if all is well."""
    try:
        with open(path, "rb") as file:
            if file.read(19) == b"version https://git":
                return "is a pointer of git-lfs, not the sound: fetch it with `git lfs pull`"
        with sf.SoundFile(path) as sound:
            # libsndfile reads a WAV or AIFF file that was cut short as if it were whole, and notes it only here.
            if cut := re.search(r"(?:data|SSND) *: (\d+) \(should be (\d+)\)", sound.extra_info):
                return f"holds {cut[1]} bytes of sound, its header says {cut[2]}"
            n_read = sum(len(block) for block in sound.blocks(blocksize=1 << 16, dtype="float32"))
            if n_read == 0:
                return "holds no samples"
            return "" if n_read == sound.frames else f"holds {n_read} samples, its header says {sound.frames}"
    except sf.LibsndfileError as error:
        return _phone_fault(path) if Path(path).suffix.lower() in PHONE_SUFFIXES else str(error)
    except OSError as error:
        return str(error)


def _phone_fault(path):
    try:
        with open_recording(path, name=Path(path).name) or nullcontext() as sound:
            n_read = len(sound.read(1)) if sound else 0
            while sound and (block := sound.read(1 << 16)).size:
                n_read += len(block)
        return "" if n_read else "holds no samples"
    except (AudioError, OSError) as error:
        return str(error)
