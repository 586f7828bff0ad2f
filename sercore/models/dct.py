"""models.dct: the matrix that turns a log-mel spectrogram into its MFCC inside a network."""

import numpy as np
import scipy.fft
import torch


def dct_matrix(n_mfcc: int, n_mels: int) -> torch.Tensor:
    """Build the orthonormal DCT-II as a matrix: ``D @ S_db`` is ``librosa.feature.mfcc(S=S_db, n_mfcc=n_mfcc)``.

    Of a scaled spectrogram ``(S_db - center) / scale`` it is that divided by `scale`, and `center` moves row 0 alone.
    """
    D = scipy.fft.dct(np.eye(n_mels), type=2, axis=0, norm="ortho")[:n_mfcc]
    return torch.from_numpy(D.astype(np.float32))  # (n_mfcc, n_mels)
