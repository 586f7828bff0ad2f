"""cache: features of many clips, computed in parallel and kept on disk, checked when they are read."""

import hashlib
import io
import json
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from sercore import settings
from sercore.audio import load_audio
from sercore.errors import OF_THE_PATH, AudioError, ConfigError
from sercore.features import FEATURES_VERSION, FeatureConfig, compute, one_thread, trim

logger = logging.getLogger(__name__)

#: What decodes, resamples, computes and varies: another version may give other numbers.
_PACKAGES = ("soundfile", "av", "soxr", "librosa", "audiomentations")
_DIGEST_BYTES = 16


def extract(
    clips: pd.DataFrame,
    *,
    config: FeatureConfig = FeatureConfig(),
    kind: str = "log_mel",
    augment: Callable | None = None,
    copies: int = 0,
    embed: Callable | None = None,
    seed: int = settings.SEED,
    n_jobs: int = -1,
    cache: bool | str | Path = True,
    on_error: str = "raise",
    progress: bool = True,
) -> list:
    """Compute a feature of every clip, in parallel, into a cache on disk.

    The cache is keyed by the bytes of the recording, `config`, `kind`, `augment`, `embed` and the versions of what
    computes it. Entries are written whole or not at all, so a run that was killed goes on where it was. Any number
    of processes gives the same bits (last bits apart, where torch computes an `embed`). A cache that cannot be written
    costs a warning, never a clip.

    Parameters
    ----------
    clips : pd.DataFrame
        A clip table; only ``path`` is read.
    kind : str
        A key of `sercore.features.KINDS`.
    augment : callable ``augment(y, *, sr, rng) -> y``, optional
        A frozen dataclass such as `sercore.augment.WaveformAugment`, whose ``repr`` is part of the key.
    copies : int
        Varied copies of each clip, each with draws of its own, by `augment`, or by `embed`, or by both.
    embed : callable ``embed(feature, rng=None) -> array``, optional
        What is made of the feature, such as `sercore.models.WhisperSummary`; also known by its ``repr``.
    n_jobs : int
        Processes; -1 is all cores. `joblib.parallel_config` can send the work to a cluster.
    cache : bool or path
        True: `settings.cache_dir()`. False: no cache.
    on_error : {"raise", "warn"}
        What to do, once all other clips are done, about clips that cannot be used.

    Returns
    -------
    features : list of np.ndarray
        One a clip; with `augment` or `copies`, a list of lists: ``features[i][k]`` is copy k of clip i. With
        ``on_error="warn"``, None stands for a clip that cannot be used.

    Raises
    ------
    AudioError
        If clips cannot be used; the message names the first.
    OSError, MemoryError
        If the machine fails, not a recording.

    Examples
    --------
    >>> clips = load_corpus("synthetic")
    >>> features = extract(clips)
    """
    if on_error not in ("raise", "warn"):
        raise ConfigError(f"Bad on_error {on_error!r}: expected 'raise' or 'warn'.")
    folder = None if cache is False else Path(settings.cache_dir() if cache is True else cache) / "features"
    varied = augment is not None or copies > 0
    variants = range(copies) if varied else [None]
    title = f"{kind}, {copies} copies" if varied else kind
    rows, errors, told = [], [], set()
    # Here as well as in each task: threads of one process share the setting, and none may put it back too early.
    with one_thread():
        tasks = (delayed(_row)(path, config, kind, augment, embed, variants, seed, folder) for path in clips["path"])
        results = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
        bar = tqdm(results, total=len(clips), desc=title, unit="clip", disable=not progress)
        for row, error, notes in bar:
            rows.append(row)
            errors += [error] if error else []
            for note in set(notes) - told:
                logger.warning(note)
            told.update(notes)
    if errors and on_error == "raise":
        raise AudioError(f"{len(errors)} of {len(clips)} clips cannot be used. The first: {errors[0]}") from errors[0]
    for error in errors:
        logger.warning("Left out: %s", error)
    return rows if varied else [row[0] for row in rows]


def _row(path, config, kind, augment, embed, variants, seed, folder):
    """Every variant of a clip, or None and the reason; and what is to be told about the cache."""
    row, notes, y = [], [], None
    try:
        audio = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        for variant in variants:
            recipe = {"audio": audio, "config": asdict(config), "kind": kind, "versions": _versions()}
            if variant is not None:
                recipe |= {"augment": repr(augment), "variant": variant, "seed": seed}
            if embed is not None:
                recipe |= {"embed": repr(embed)}
            key = hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=16).hexdigest()
            entry = folder / key[:2] / f"{key}.npy" if folder else None
            feature = _read(entry, notes) if entry else None
            if feature is None:
                y = load_audio(path, sr=config.sr) if y is None else y
                rng = None if variant is None else np.random.default_rng([seed, variant, int(audio[:8], 16)])
                feature = _computed(y, config, kind, augment, embed, rng)
                if entry:
                    _write(entry, feature, notes)
            row.append(feature)
    except (AudioError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in OF_THE_PATH:
            raise
        return [None] * len(variants), AudioError(f"{path}: {error}"), notes
    return row, None, notes


@lru_cache
def _versions():
    found = [part for name in _PACKAGES for part in distributions(name=name)]
    return [FEATURES_VERSION, *(f"{part.name} {part.version}" for part in found)]


def _computed(y, config, kind, augment, embed, rng):
    with one_thread():
        if augment is not None:
            # Trimmed before it is varied: added noise would hide the quiet ends from the trimming after it.
            y = augment(trim(y, config=config), sr=config.sr, rng=rng)
        feature = compute(y, config=config, kind=kind)
        return feature if embed is None else embed(feature, rng)


def _digest(array, entry):
    # Keyed by its name, so that an entry under another's name is found out too.
    return hashlib.blake2b(array, key=entry.stem.encode(), digest_size=_DIGEST_BYTES).digest()


def _write(entry, feature, notes):
    buffer = io.BytesIO()
    np.save(buffer, feature, allow_pickle=False)
    array = buffer.getvalue()
    try:
        settings.write_atomic(entry, array + _digest(array, entry))
    except OSError as error:
        folder = entry.parent.parent
        notes.append(f"Cannot write the cache {folder} ({error.strerror}): its features are computed each time.")


def _read(entry, notes):
    try:
        data = entry.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        notes.append(f"Cannot read cache entry {entry} ({error.strerror}): computed again.")
        return None
    array, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if digest != _digest(array, entry):
        notes.append(f"Damaged cache entry {entry}: computed again.")
        return None
    return np.load(io.BytesIO(array), allow_pickle=False)
