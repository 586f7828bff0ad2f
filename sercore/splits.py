"""splits: named protocols, each a list of folds that keep their promise about speakers."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from sercore import settings
from sercore.errors import ConfigError

#: Actors of each test fold in published five-fold results on RAVDESS, as in
#: Luna-Jiménez et al. (2021), Sensors 21(22):7665, doi:10.3390/s21227665.
FIVE_FOLDS = (
    (2, 5, 14, 15, 16),
    (3, 6, 7, 13, 18),
    (10, 11, 12, 19, 20),
    (8, 17, 21, 23, 24),
    (1, 4, 9, 22),
)
#: Four neighbouring actors a fold: two women and two men each.
SIX_FOLDS = tuple(tuple(range(start, start + 4)) for start in range(1, 25, 4))

PROTOCOLS = ("speaker_5fold", "speaker_6fold", "leave_one_speaker_out", "random_5fold")
#: Those that divide several corpora at once.
ACROSS_CORPORA = ("corpora_5fold", "leave_one_corpus_out")
#: The only protocol whose test speakers are in training too: its scores are shown for comparison alone.
LEAKY = "random_5fold"


@dataclass(frozen=True)
class Fold:
    """Row positions of one division of a clip table; its name is a number, from "0", or the corpus it tests."""

    name: str
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def make_folds(clips: pd.DataFrame, protocol: str, *, seed: int = settings.SEED, n_val_speakers: int = 2) -> list[Fold]:
    """Divide a clip table by a named protocol.

    Parameters
    ----------
    clips : pd.DataFrame
        A clip table.
    protocol : str
        One of `PROTOCOLS` or `ACROSS_CORPORA`. `speaker_5fold` and `speaker_6fold` take RAVDESS's actor numbers;
        "random_5fold" is stratified by emotion and **leaky**: the same speakers are in every part.
        "corpora_5fold" deals the speakers of every corpus into five folds, RAVDESS's as `speaker_5fold` does.
        "leave_one_corpus_out" tests on a corpus, and validates on the one of fewest speakers among the others: what
        a model is worth on an unseen corpus must not be learned from one that it trains on.
    seed : int
        Draws the validation speakers, or the random division.
    n_val_speakers : int
        Validation speakers, drawn from the training side, women and men in turn; not for whole corpora.

    Returns
    -------
    folds : list of Fold
        Folds without a test clip (a corpus of few speakers) are left out.

    Raises
    ------
    ConfigError
        If the protocol is not known, or there are too few speakers for it.

    Examples
    --------
    >>> folds = make_folds(clips, "speaker_5fold")
    >>> clips.iloc[folds[0].test]["speaker"].unique()
    """
    if protocol not in (*PROTOCOLS, *ACROSS_CORPORA):
        raise ConfigError(f"Bad protocol {protocol!r}: expected one of {[*PROTOCOLS, *ACROSS_CORPORA]}.")
    if protocol == LEAKY:
        return _random_folds(clips, seed)
    if protocol == "leave_one_corpus_out":
        return _corpus_folds(clips)
    speakers = clips["speaker"].to_numpy()
    folds = []
    for number, group in enumerate(_speaker_groups(clips, protocol)):
        test_speakers = set(group) & set(speakers)
        if not test_speakers:
            continue
        val_speakers = _draw_speakers(clips[~clips["speaker"].isin(test_speakers)], n_val_speakers, seed + number)
        test, val = np.isin(speakers, list(test_speakers)), np.isin(speakers, list(val_speakers))
        fold = Fold(str(number), np.flatnonzero(~test & ~val), np.flatnonzero(val), np.flatnonzero(test))
        check_disjoint(clips, fold)
        folds.append(fold)
    if len(folds) < 2:
        raise ConfigError(
            f"Too few speakers for {protocol}: {sorted(set(speakers))} fill {len(folds)} fold; expected at least two."
        )
    return folds


def hold_out_validation(clips: pd.DataFrame, *, n_val_speakers: int = 2, seed: int = settings.SEED) -> Fold:
    """Divide a clip table into training and validation speakers, with nobody left to test on."""
    val = clips["speaker"].isin(_draw_speakers(clips, n_val_speakers, seed)).to_numpy()
    if val.all():
        raise ConfigError(
            f"No speaker left to train on: expected more than {n_val_speakers}, got {clips['speaker'].nunique()}."
        )
    return Fold("all", np.flatnonzero(~val), np.flatnonzero(val), np.array([], dtype=int))


def check_disjoint(clips: pd.DataFrame, fold: Fold) -> None:
    """Prove that no speaker is in two parts of a fold and that no part is empty; ConfigError otherwise."""
    parts = {part: set(clips["speaker"].iloc[getattr(fold, part)]) for part in ("train", "val", "test")}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        if shared := parts[one] & parts[other]:
            raise ConfigError(f"Speakers {sorted(shared)} are in both {one} and {other} of fold {fold.name}.")
    if empty := [part for part, members in parts.items() if not members]:
        raise ConfigError(f"No speaker left for {' and '.join(empty)} in fold {fold.name}: expected more speakers.")


def _speaker_groups(clips, protocol):
    if protocol == "leave_one_speaker_out":
        return [[speaker] for speaker in sorted(clips["speaker"].unique())]
    if protocol == "corpora_5fold":
        return _dealt_speakers(clips)
    numbers = {speaker: speaker.rpartition("-")[2] for speaker in clips["speaker"].unique()}
    groups = FIVE_FOLDS if protocol == "speaker_5fold" else SIX_FOLDS
    if bad := [speaker for speaker, number in numbers.items() if not number.isdigit() or not 1 <= int(number) <= 24]:
        raise ConfigError(
            f"Bad speakers {bad[:3]} for {protocol}: expected RAVDESS's actors 1 to 24; try leave_one_speaker_out."
        )
    return [[speaker for speaker, number in numbers.items() if int(number) in group] for group in groups]


def _dealt_speakers(clips):
    groups = [[] for _ in FIVE_FOLDS]
    for corpus, part in clips.groupby("corpus"):
        if corpus == "ravdess":
            dealt = _speaker_groups(part, "speaker_5fold")
        else:
            order = part.groupby("speaker")["sex"].first().reset_index().sort_values(["sex", "speaker"])["speaker"]
            dealt = [list(order[k :: len(groups)]) for k in range(len(groups))]
        for group, speakers in zip(groups, dealt, strict=True):
            group += speakers
    return groups


def _corpus_folds(clips):
    n_speakers = clips.groupby("corpus")["speaker"].nunique().sort_values(kind="stable")
    if len(n_speakers) < 3:
        raise ConfigError(
            f"Too few corpora for leave_one_corpus_out: {sorted(n_speakers.index)}; expected three or more, "
            "as one is for testing and one for validation."
        )
    folds, corpora = [], clips["corpus"].to_numpy()
    for tested in sorted(n_speakers.index):
        validated = n_speakers.index.drop(tested)[0]
        test, val = corpora == tested, corpora == validated
        folds.append(Fold(tested, np.flatnonzero(~test & ~val), np.flatnonzero(val), np.flatnonzero(test)))
    return folds


def _draw_speakers(clips, n_speakers, seed):
    """Draw speakers, women and men in turn."""
    rng = np.random.default_rng(seed)
    by_sex = clips.groupby("sex", dropna=False)["speaker"].unique()
    queues = [list(rng.permutation(sorted(speakers))) for speakers in by_sex]
    first = int(rng.integers(max(len(queues), 1)))
    drawn = []
    while len(drawn) < n_speakers and any(queues):
        queue = queues[(first + len(drawn)) % len(queues)] or max(queues, key=len)
        drawn.append(queue.pop())
    return drawn


def _random_folds(clips, seed):
    emotions = clips["emotion"].to_numpy()
    outer = StratifiedKFold(5, shuffle=True, random_state=seed)
    folds = []
    for number, (rest, test) in enumerate(outer.split(emotions, emotions)):
        inner = StratifiedKFold(8, shuffle=True, random_state=seed)
        train, val = next(inner.split(rest, emotions[rest]))
        folds.append(Fold(str(number), rest[train], rest[val], np.sort(test)))
    return folds
