"""novelty: how far a recording lies from those that a network was trained on."""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.model_selection import GroupKFold

#: Share of a speaker's clips, unheard and from the corpora trained on, that lie within the limit.
WITHIN = 0.99
#: Lower bands and frames, relative to the loudest [dB], count as this: below is the noise of the recorder.
FLOOR_DB = -60.0


@dataclass(frozen=True)
class Novelty:
    """The sound of the training clips as a Gaussian.

    Attributes
    ----------
    mean : np.ndarray [shape=(k,)]
        Of `sound_of` the training clips.
    precision : np.ndarray [shape=(k, k)]
        Inverse covariance.
    limit : float
        Distance within which `WITHIN` of a speaker's clips lie when the speaker is left out; the median over speakers.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    def __call__(self, S_db):
        """Measure a recording.

        Parameters
        ----------
        S_db : np.ndarray [shape=(n_mels, n_frames)]
            Log-mel spectrogram, as the network's features are computed.

        Returns
        -------
        novelty : float
            Mahalanobis distance from the mean of the training clips, as a share of the limit: of a new speaker of
            the same corpora, about one clip in a hundred is above 1.
        """
        return float(_distances(sound_of(S_db)[None], self.mean, self.precision)[0]) / self.limit


def sound_of(S_db):
    """Sum up how a clip sounds, whatever its level: mean, deviation and movement of each band.

    Parameters
    ----------
    S_db : np.ndarray [shape=(n_mels, n_frames)]

    Returns
    -------
    vector : np.ndarray [shape=(3 * n_mels,)]
        In dB: of every band the mean and the standard deviation over time, and the mean step from frame to frame.
    """
    S_db = np.maximum(np.asarray(S_db, dtype=float) - np.max(S_db), FLOOR_DB)
    steps_db = np.abs(np.diff(S_db, axis=1, append=S_db[:, -1:]))
    return np.concatenate([S_db.mean(axis=1), S_db.std(axis=1), steps_db.mean(axis=1)])


def fit_novelty(features, speakers):
    """Learn the sound of the training clips.

    Parameters
    ----------
    features : list of np.ndarray [shape=(n_mels, n_frames)]
        Log-mel spectrograms.
    speakers : sequence of str [shape=(n_clips,)]
        Who is left out together when the limit is found; one speaker alone makes a limit that is too narrow.

    Returns
    -------
    novelty : Novelty

    References
    ----------
    Lee et al. (2018), "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks",
    NeurIPS, arXiv:1807.03888, with the spectrum in place of a network's layers; covariance as in Ledoit & Wolf (2004),
    doi:10.1016/S0047-259X(03)00096-4.
    """
    sounds, speakers = np.stack([sound_of(S_db) for S_db in features]), np.asarray(speakers)
    mean, precision = _gaussian(sounds)
    n_parts = min(5, len(np.unique(speakers)))
    parts = GroupKFold(n_parts).split(sounds, groups=speakers) if n_parts > 1 else [(slice(None), slice(None))]
    distances = np.empty(len(sounds))
    for rest, out in parts:
        distances[out] = _distances(sounds[out], *_gaussian(sounds[rest]))
    # By speaker, or a corpus of few speakers with many clips, all of them far away, would set the limit alone.
    limits = [np.quantile(distances[speakers == speaker], WITHIN) for speaker in np.unique(speakers)]
    return Novelty(mean, precision, float(np.median(limits)))


def _gaussian(sounds):
    scale = sounds.std(axis=0) + 1e-6  # so that the shrinkage treats steps and levels alike
    return sounds.mean(axis=0), LedoitWolf().fit(sounds / scale).precision_ / np.outer(scale, scale)


def _distances(sounds, mean, precision):
    return np.sqrt(np.einsum("ij,jk,ik->i", sounds - mean, precision, sounds - mean))
