"""models.two_channel: a CNN that sees the log-mel spectrogram and its MFCC as two channels of one image."""

from itertools import pairwise

import torch
from torch import nn

from sercore.models.dct import dct_matrix


def _block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)
    )


class TwoChannel(nn.Module):
    """Three convolution blocks over log-mel and MFCC, laid on each other like the colours of a picture.

    The design of many public projects; the MFCC are computed inside, from the log-mel rows. It flattened the last
    map: here that is averaged onto a fixed grid first, so that any number of frames will do. Claimed: about 70 %.

    Parameters
    ----------
    n_mels : int
        Mel bands of the input, and coefficients of its MFCC.
    n_classes : int
    widths : sequence of int
        Channels of each block; every one of them halves rows and frames.
    grid : (int, int)
        Rows and frames of the last map, as the dense layer sees it.
    dropout : float in [0, 1)
        Before the dense layer.
    """

    kind = "log_mel"

    def __init__(self, *, n_mels=64, n_classes=8, widths=(16, 32, 64), grid=(4, 4), dropout=0.5):
        super().__init__()
        # Fixed, so it stays out of checkpoints.
        self.register_buffer("dct", dct_matrix(n_mels, n_mels), persistent=False)
        self.normalize = nn.BatchNorm2d(2)
        self.blocks = nn.Sequential(*[_block(a, b) for a, b in pairwise((2, *widths))])
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * grid[0] * grid[1], n_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, X):
        """Score the emotions.

        Parameters
        ----------
        X : torch.Tensor [shape=(n, 1, n_mels, n_frames)]
            Scaled log-mel windows, from `sercore.features.to_windows`.

        Returns
        -------
        logits : torch.Tensor [shape=(n, n_classes)]
        """
        x = torch.cat([X, self.dct @ X], dim=1)  # (n, 2, 64, 176)   for X (n, 1, 64, 176)
        x = self.normalize(x.contiguous(memory_format=torch.channels_last))  # (n, 2, 64, 176)
        x = self.pool(self.blocks(x))  # (n, 64, 8, 22), then (n, 64, 4, 4)
        return self.head(self.dropout(x.flatten(1)))  # (n, 8)
