"""dataset: features and labels as torch sees them; training clips, and they alone, are varied here."""

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from sercore.augment import mask_spectrogram
from sercore.features import FeatureConfig, to_windows


class TrainingSet(Dataset):
    """Clips as the network trains on them: one window each, drawn and masked anew every epoch.

    What an item looks like depends on `seed`, the epoch and its position alone, so that a resumed run
    sees what an uninterrupted one would have seen.

    Parameters
    ----------
    features : list of np.ndarray [shape=(n_mels, n)]
    targets : sequence of int [shape=(n_clips,)]
    copies : list of list of np.ndarray, optional
        Augmented copies of each clip.
    config : FeatureConfig
    augmented_share : float in [0, 1]
        How often a copy stands in for the clip.
    warp : callable ``warp(S_db, *, rng, floor_db, hop_s) -> S_db``, optional
        A `sercore.augment.SpectrogramWarp`, for every window, anew each time.
    max_bands, max_frames : int
        Of `sercore.augment.mask_spectrogram`.
    groups : sequence of int [shape=(n_clips,)], optional
        Corpus of each clip, for the balance of `EpochSampler`.
    asides : np.ndarray of int [shape=(n_clips, n_asides)], optional
        What else is to be told of each clip, such as the sex of the speaker.
    seed : int
    """

    def __init__(self, features, targets, *, copies=None, config=FeatureConfig(), augmented_share=0.5,
                 warp=None, max_bands=8, max_frames=20, groups=None, asides=None, seed=0):  # fmt: skip
        self.windows = [to_windows(S_db, config=config) for S_db in features]
        self.copies = [[to_windows(S_db, config=config) for S_db in row] for row in copies] if copies else None
        self.targets = np.asarray(targets)
        self.augmented_share = augmented_share
        self.groups = None if groups is None else np.asarray(groups)
        self.asides = np.zeros((len(self.targets), 0), dtype=int) if asides is None else asides
        self.config, self.warp = config, warp
        self.max_bands, self.max_frames = max_bands, max_frames
        self.seed, self.epoch = seed, 0

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, i):
        """Give ``X`` [shape=(1, n_mels, n_frames)], or (1, k) for a vector, and its target with its asides after it."""
        position, draw = i
        rng = np.random.default_rng([self.seed, self.epoch, draw])
        windows = self.windows[position]
        if self.copies and rng.random() < self.augmented_share:
            windows = self.copies[position][rng.integers(len(self.copies[position]))]
        X = windows[rng.integers(len(windows))]
        if X.ndim == 2:
            if self.warp:
                center, scale = self.config.db_center, self.config.db_scale
                hop_s = self.config.hop_length / self.config.sr
                S_db = self.warp(X * scale + center, rng=rng, floor_db=self.config.db_floor, hop_s=hop_s)
                X = (S_db - center) / scale
            X = mask_spectrogram(X, rng=rng, max_bands=self.max_bands, max_frames=self.max_frames)
        return torch.from_numpy(X)[None], torch.tensor([self.targets[position], *self.asides[position]])


class EpochSampler(Sampler):
    """Order of the clips in an epoch: every clip comes, and with `balance` every emotion equally often.

    Clips of rarer emotions are drawn again until all emotions are as frequent as the most frequent one: in
    RAVDESS the neutral clips come twice. Yields pairs of the clip's position and the number of the draw, so
    that a clip drawn twice in one epoch is varied twice.

    With several `groups` and `balance`, an epoch is as many clips as there are, drawn by chance, so that every
    group has the same share of it, and every emotion the same share of its group.

    Parameters
    ----------
    dataset : TrainingSet
    balance : bool
    """

    def __init__(self, dataset, *, balance=True):
        self.dataset = dataset
        counts = np.bincount(dataset.targets)
        self.shares = _even_shares(dataset) if balance and dataset.groups is not None else None
        even = balance and self.shares is None
        self.n_extra = (counts.max() - counts) * (counts > 0) if even else np.zeros_like(counts)

    def __len__(self):
        return len(self.dataset) + int(self.n_extra.sum())

    def __iter__(self):
        rng = np.random.default_rng([self.dataset.seed, self.dataset.epoch])
        if self.shares is not None:
            order = rng.choice(len(self.dataset), size=len(self.dataset), p=self.shares)
            return iter([(int(position), draw) for draw, position in enumerate(order)])
        parts = [np.arange(len(self.dataset))]
        for target, n_extra in enumerate(self.n_extra):
            clips = np.flatnonzero(self.dataset.targets == target)
            repeats, rest = divmod(int(n_extra), max(1, len(clips)))
            parts += [np.tile(clips, repeats), rng.choice(clips, rest, replace=False)]
        order = rng.permutation(np.concatenate(parts))
        return iter([(int(position), draw) for draw, position in enumerate(order)])


def _even_shares(dataset):
    """Chance of each clip: even over groups, and within a group over its emotions."""
    groups, targets = dataset.groups, dataset.targets
    shares = np.zeros(len(targets))
    for group in np.unique(groups):
        present = np.unique(targets[groups == group])
        for target in present:
            clips = (groups == group) & (targets == target)
            shares[clips] = 1 / (len(present) * clips.sum())
    return shares / shares.sum()
