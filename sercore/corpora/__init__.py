"""corpora: from a folder of recordings to a clip table, one short file a corpus."""

import logging
import os
import re
from pathlib import Path

import pandas as pd

from sercore import settings
from sercore.corpora import crema_d, emodb, nemo, own, ravdess, savee, synthetic, tess
from sercore.corpora.corpus import COLUMNS, Corpus, clip_table
from sercore.decoder import find_audio, left_out
from sercore.errors import ConfigError, CorpusError, readable
from sercore.labels import EMOTIONS

__all__ = ["COLUMNS", "CORPORA", "Corpus", "corpus_of", "load_corpora", "load_corpus", "skipped_files"]

logger = logging.getLogger(__name__)

_OTHERS = (room.CORPUS for room in (crema_d, tess, savee, emodb, nemo, own, synthetic))
CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (ravdess.CORPUS, ravdess.SONG, *_OTHERS)}


def corpus_of(name: str) -> Corpus:
    """Give what is known of a corpus, or `ConfigError` if nothing is."""
    if name not in CORPORA:
        raise ConfigError(f"Bad corpus {name!r}: expected one of {sorted(CORPORA)}.")
    return CORPORA[name]


def load_corpus(name: str, root: str | Path | None = None) -> pd.DataFrame:
    """Find the clips of a corpus and read what their names say.

    Parameters
    ----------
    name : str
        A key of `CORPORA`; "own" reads recordings of one's own.
    root : str or Path, optional
        The corpus's folder, searched with all its sub-folders. Default: `settings.data_root()` / name; "synthetic" is
        written to the cache. For "own" a folder with a folder per emotion (and one per speaker below or above it), or
        a CSV file with the columns ``path, emotion, speaker``, with commas, semicolons or tabs between.

    Returns
    -------
    clips : pd.DataFrame
        One row a clip, columns `COLUMNS`, sorted by speaker and file; ``clip``, its official place, is there once.
        ``attrs["skipped"]`` lists what was left out (see `skipped_files`), ``attrs["dropped"]`` the sound files whose
        emotion is none of our eight.

    Raises
    ------
    ConfigError
        If `name` is not a known corpus.
    CorpusError
        If the folder does not exist or holds not one usable clip.

    Examples
    --------
    >>> load_corpus("synthetic")["clip"][0]
    'synthetic/Actor_01/03-01-01-01-01-01-01'
    """
    corpus = corpus_of(name)
    root = _root(corpus, root)
    rows, skipped, dropped, others = own.read(root) if corpus is own.CORPUS else _read(corpus, root)
    why = _why_skipped(skipped, root)
    if skipped:
        logger.warning("%s: skipped %d of %d files%s", root, len(skipped), len(skipped) + len(rows), why)
    if others:
        level = logging.WARNING if corpus is own.CORPUS else logging.INFO
        logger.log(level, "%s: left out %s", root, left_out(others))
    if not rows:
        raise CorpusError(
            f"No {name} clip in {root}: expected {_expected(corpus, root)}; {len(skipped)} files were skipped{why or '.'}"
        )
    clips = clip_table(rows)
    if dropped:
        logger.info("%s: %d clips of an emotion that is none of %d were left out", name, len(dropped), len(EMOTIONS))
    clips.attrs["skipped"], clips.attrs["dropped"] = skipped, dropped
    return clips


def load_corpora(names: list[str]) -> pd.DataFrame:
    """Read several corpora, keys of `CORPORA`, from the data folder into one clip table.

    >>> load_corpora(["ravdess", "emodb"]).groupby("corpus")["speaker"].nunique()
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"Bad corpora {names}: expected at least one of {sorted(CORPORA)}, each once.")
    tables = [load_corpus(name) for name in names]
    clips = pd.concat(tables, ignore_index=True)
    clips.attrs = {key: [entry for table in tables for entry in table.attrs[key]] for key in ("skipped", "dropped")}
    return clips


def skipped_files(clips: pd.DataFrame) -> pd.DataFrame:
    """Show what `load_corpus` left out: columns ``path`` and ``reason``, no row if nothing was skipped."""
    return pd.DataFrame(clips.attrs.get("skipped", []), columns=["path", "reason"])


def _read(corpus, root):
    (paths, others), rows, skipped, dropped, seen = find_audio(root), [], [], [], {}
    for path in paths:
        try:
            fields = corpus.parse(path)
            place = corpus.official_path(path, fields)
            if place in seen:
                raise CorpusError(f"Duplicate of {seen[place]}: each clip counts once.")
            seen[place] = path
            if path.stem in corpus.broken:
                raise CorpusError(f"Broken clip {path.name}: {corpus.broken[path.stem]}.")
            row = corpus.row(path, place, fields)
        except CorpusError as error:
            skipped.append({"path": readable(path), "reason": readable(error)})
            continue
        if row["emotion"] in EMOTIONS:  # not None, either
            rows.append(row)
        else:
            dropped.append(str(path))
    return rows, skipped, dropped, others


def _why_skipped(skipped, root):
    """Say in words which emotions are lost, and in which folders, and the first of the other reasons."""
    words, others = {}, []
    for entry in skipped:
        match = re.match(r"Bad emotion (.+) \(.*\): expected", entry["reason"])
        words.setdefault(match[1], []).append(entry["path"]) if match else others.append(entry["reason"])
    parts = []
    for word, paths in sorted(words.items(), key=lambda item: -len(item[1])):
        folder = root.is_dir() and os.path.commonpath(os.path.dirname(os.path.relpath(path, root)) for path in paths)
        parts.append(f"no emotion is called {word} ({len(paths)} files{f' in {folder}/' if folder else ''})")
    told = f": {own.first_of(parts)}" if parts else ""
    if not others:
        return told and f"{told}."
    return f"{told}{f'; {len(others)} others' if told else ''}, the first because: {others[0]}"


def _root(corpus, root):
    if root is None and corpus is synthetic.CORPUS:
        return synthetic.write_corpus(settings.cache_dir() / f"synthetic-{synthetic.VERSION}")
    root = Path(root).expanduser() if root is not None else settings.data_root() / corpus.name
    if root.is_dir() or (corpus is own.CORPUS and root.is_file()):
        return root
    if corpus is own.CORPUS:
        raise CorpusError(
            f"No recordings at {root}: expected a folder with a folder per emotion, or a CSV file with the columns "
            f"{list(own.REQUIRED)}. Say where with root (on the command line: --root)."
        )
    how = f"run `sercore download {corpus.name}`" if corpus.home else "see data/README.md for where to get it"
    raise CorpusError(
        f"No {corpus.name} folder at {root}: expected a folder of audio files. Set SERCORE_DATA to the folder that "
        f"holds {corpus.name}/, or {how}."
    )


def _expected(corpus, root):
    if corpus is own.CORPUS:
        return "a folder per emotion, such as happy/anna/01.wav" if root.is_dir() else "a row a clip"
    if next(root.glob("*.zip"), None):
        return f"unpacked audio files, and found zip files (`sercore download {corpus.name}` unpacks them)"
    return f"audio files named as in {corpus.url or 'corpora/synthetic.py'}"
