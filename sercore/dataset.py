"""dataset: features and labels as torch sees them; training clips, and they alone, are varied here."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import Dataset, Sampler

from sercore.augment import mask_spectrogram
from sercore.features import FeatureConfig, to_windows


class TrainingSet(Dataset):
    """Clips as the network trains on them: one window each, drawn, warped and masked anew every epoch.

    What an item looks like depends on `seed`, the epoch and the number of its draw alone, so that a resumed run sees
    what an uninterrupted one would have seen. `copies` are lists of augmented features of each clip, one of which
    stands in for the clip as often as `augmented_share` says; `warp` is a `sercore.augment.SpectrogramWarp`;
    `groups` are the clips' corpora, for the balance of `EpochSampler`; `goals` (n, 8) are probabilities to learn in place
    of the targets, as a teacher gives them; `voices` gives a vector another voice.
    """

    def __init__(
        self,
        features: list[np.ndarray],
        targets: Sequence[int],
        *,
        copies: list[list[np.ndarray]] | None = None,
        config: FeatureConfig = FeatureConfig(),
        augmented_share: float = 0.5,
        warp: Callable | None = None,
        max_bands: int = 8,
        max_frames: int = 20,
        groups: Sequence[int] | None = None,
        goals: np.ndarray | None = None,
        voices: "Voices | None" = None,
        seed: int = 0,
    ):
        self.windows = [to_windows(S_db, config=config) for S_db in features]
        self.copies = [[to_windows(S_db, config=config) for S_db in row] for row in copies] if copies else None
        self.targets = np.asarray(targets)
        self.goals = None if goals is None else torch.from_numpy(np.asarray(goals, dtype=np.float32))
        self.groups = None if groups is None else np.asarray(groups)
        self.config, self.augmented_share, self.warp = config, augmented_share, warp
        self.max_bands, self.max_frames, self.voices = max_bands, max_frames, voices
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Give draw ``i[1]`` of clip ``i[0]``: X [shape=(1, n_mels, n_frames)], or (1, k) of a vector, its target, its goal."""
        position, draw = i
        rng = np.random.default_rng([self.seed, self.epoch, draw])
        windows = self.windows[position]
        if self.copies and rng.random() < self.augmented_share:
            windows = self.copies[position][rng.integers(len(self.copies[position]))]
        X = windows[rng.integers(len(windows))]
        if X.ndim == 2:
            if self.warp:
                X = self._warped(X, rng)
            X = mask_spectrogram(X, rng=rng, max_bands=self.max_bands, max_frames=self.max_frames)
        elif self.voices:
            X = self.voices.swap(X, position, rng=rng)
        item = torch.from_numpy(X)[None], torch.tensor(int(self.targets[position]))
        return item if self.goals is None else (*item, self.goals[position])

    def _warped(self, X, rng):
        center, scale = self.config.db_center, self.config.db_scale
        hop_s = self.config.hop_length / self.config.sr
        S_db = self.warp(X * scale + center, rng=rng, floor_db=self.config.db_floor, hop_s=hop_s)
        return (S_db - center) / scale


class Voices:
    """What is constant in the vectors of each speaker: voice, microphone, room and corpus, as the mean over emotions.

    A vector less its speaker's constant, plus that of other people, keeps what the emotion did and loses who it was.
    """

    def __init__(self, vectors: np.ndarray, targets: np.ndarray, speakers: np.ndarray, corpora: np.ndarray):
        table = pd.DataFrame(vectors).groupby([corpora, speakers, targets]).mean()
        means = table.groupby(level=[0, 1]).mean()
        corpus = means.index.get_level_values(0)
        self.shares = 1 / corpus.map(corpus.value_counts()).to_numpy(float) / corpus.nunique()  # corpora weigh the same
        self.offsets = (means - self.shares @ means.to_numpy()).to_numpy(np.float32)
        self.own = means.index.droplevel(0).get_indexer(speakers)

    def swap(self, x: np.ndarray, position: int, *, rng: np.random.Generator) -> np.ndarray:
        """Give clip `position` the voice between two others, drawn by chance, and stronger or weaker than these."""
        one, two = self.offsets[rng.choice(len(self.offsets), 2, p=self.shares)]
        share, strength = rng.random(dtype=np.float32), np.float32(rng.normal(1.0, 0.5))
        return x - self.offsets[self.own[position]] + strength * (share * one + (1 - share) * two)


class EpochSampler(Sampler):
    """Order of the clips in an epoch: every clip comes, and with `balance` every emotion equally often.

    Clips of rarer emotions are drawn again until all emotions are as frequent as the most frequent one. Yields the
    clip's position and the number of the draw, so that a clip drawn twice in one epoch is varied twice.

    With `groups` and `balance` an epoch is as many clips as there are, drawn by chance, so that every group has the
    same share of it, and every emotion of a group the same share of the group.
    """

    def __init__(self, dataset: TrainingSet, *, balance: bool = True):
        self.dataset, self.shares = dataset, None
        counts = np.bincount(dataset.targets)
        self.n_extra = np.zeros_like(counts)
        if balance and dataset.groups is None:
            self.n_extra = (counts.max() - counts) * (counts > 0)
        elif balance:
            self.shares = _even_shares(dataset.groups, dataset.targets)

    def __len__(self) -> int:
        return len(self.dataset) + int(self.n_extra.sum())

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng([self.dataset.seed, self.dataset.epoch])
        if self.shares is not None:
            # Not by torch's weighted sampler: it draws otherwise, and no grouped run on record would repeat.
            order = rng.choice(len(self.dataset), size=len(self.dataset), p=self.shares)
        else:
            parts = [np.arange(len(self.dataset))]
            for target, n_extra in enumerate(self.n_extra):
                clips = np.flatnonzero(self.dataset.targets == target)
                repeats, rest = divmod(int(n_extra), max(1, len(clips)))
                parts += [np.tile(clips, repeats), rng.choice(clips, rest, replace=False)]
            order = rng.permutation(np.concatenate(parts))
        return iter([(int(position), draw) for draw, position in enumerate(order)])


def _even_shares(groups, targets):
    table = pd.DataFrame({"group": groups, "target": targets})
    n_clips = table.groupby(["group", "target"])["target"].transform("size")
    n_emotions = table.groupby("group")["target"].transform("nunique")
    shares = (1 / (n_clips * n_emotions)).to_numpy()
    return shares / shares.sum()
