"""models.dct: the matrix that turns a log-mel spectrogram into its MFCC inside a network."""

import numpy as np
import scipy.fft
import torch


def dct_matrix(n_mfcc, n_mels):
    """Build the orthonormal DCT-II as a matrix, the transform `librosa.feature.mfcc` applies to each frame.

    Parameters
    ----------
    n_mfcc : int
        Coefficients kept, the lowest ones.
    n_mels : int

    Returns
    -------
    D : torch.Tensor [shape=(n_mfcc, n_mels)]
        float32. ``D @ S_db`` is ``librosa.feature.mfcc(S=S_db, n_mfcc=n_mfcc)``. Of a scaled spectrogram
        ``(S_db - center) / scale`` it is that divided by `scale`, and the constant ``center`` moves row 0 alone.
    """
    D = scipy.fft.dct(np.eye(n_mels), type=2, axis=0, norm="ortho")[:n_mfcc]
    return torch.from_numpy(D.astype(np.float32))
