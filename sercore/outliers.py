"""outliers: how far a recording lies from those that a network was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: Share of the clips of an unseen speaker, from the training corpora, that lie within the limit.
WITHIN = 0.99
#: Lower bands and frames, relative to the loudest [dB], count as this: below is the noise of the recorder.
FLOOR_DB = -60.0


@dataclass(frozen=True)
class Outliers:
    """A Gaussian over `sound_of` the training clips, and the distance within which `WITHIN` of unseen clips lie."""

    mean: np.ndarray  # (k,)
    precision: np.ndarray  # (k, k), the inverse covariance
    limit: float

    def __call__(self, S_db: np.ndarray) -> float:
        """Give the Mahalanobis distance of a log-mel spectrogram, as a share of the limit.

        Of an unseen speaker of the training corpora about one clip in a hundred is above 1.
        """
        return float(_distances(sound_of(S_db)[None], self.mean, self.precision)[0]) / self.limit


def sound_of(S_db: np.ndarray) -> np.ndarray:
    """Sum up how a clip sounds, whatever its level: mean, deviation and mean step over time of each band [dB]."""
    S_db = np.maximum(np.asarray(S_db, dtype=float) - np.max(S_db), FLOOR_DB)
    steps_db = np.abs(np.diff(S_db, axis=1, append=S_db[:, -1:]))
    return np.concatenate([S_db.mean(axis=1), S_db.std(axis=1), steps_db.mean(axis=1)])


def fit_outliers(features: list[np.ndarray], groups: Sequence) -> Outliers:
    """Learn the sound of training clips, given as log-mel spectrograms, from speakers or from corpora.

    The limit is found on groups that are left out in turn; with one alone it is too narrow. After Lee et al.
    (2018), arXiv:1807.03888, with the spectrum in place of a network's layers, and Ledoit & Wolf (2004),
    doi:10.1016/S0047-259X(03)00096-4.
    """
    from sklearn.model_selection import GroupKFold  # an answer needs none of it

    sounds = np.stack([sound_of(S_db) for S_db in features])
    groups = np.asarray(groups)
    mean, precision = _gaussian(sounds)
    n_parts = min(5, len(np.unique(groups)))
    parts = GroupKFold(n_parts).split(sounds, groups=groups) if n_parts > 1 else [(slice(None), slice(None))]
    distances = np.empty(len(sounds))
    for rest, out in parts:
        distances[out] = _distances(sounds[out], *_gaussian(sounds[rest]))
    # By group, or one of many clips, all of them far away, would set the limit alone.
    limits = [np.quantile(distances[groups == group], WITHIN) for group in np.unique(groups)]
    return Outliers(mean, precision, float(np.median(limits)))


def _gaussian(sounds):
    from sklearn.covariance import LedoitWolf

    scale = sounds.std(axis=0) + 1e-6  # so that the shrinkage treats steps and levels alike
    return sounds.mean(axis=0), LedoitWolf().fit(sounds / scale).precision_ / np.outer(scale, scale)


def _distances(sounds, mean, precision):
    return np.sqrt(np.einsum("ij,jk,ik->i", sounds - mean, precision, sounds - mean))
