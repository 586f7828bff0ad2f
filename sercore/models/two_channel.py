"""models.two_channel: a CNN that sees the log-mel spectrogram and its MFCC as two channels of one image."""

from itertools import pairwise

import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.dct import dct_matrix
from sercore.models.trainable import Trainable


def _block(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(2)
    )


class TwoChannel(nn.Module, Trainable):
    """A convolution block for each of `widths` over log-mel and MFCC, laid on each other like colours of a picture.

    The design of many public projects; the MFCC are computed inside, from the log-mel rows. It flattened the last
    map: here that is averaged onto a fixed `grid` first, so that any number of frames will do. Claimed: about 70 %.
    """

    def __init__(self, *, n_mels=64, widths=(16, 32, 64), grid=(4, 4), dropout=0.5):
        super().__init__()
        # Fixed, so it stays out of checkpoints.
        self.register_buffer("dct", dct_matrix(n_mels, n_mels), persistent=False)
        self.normalize = nn.BatchNorm2d(2)
        self.blocks = nn.Sequential(*[_block(a, b) for a, b in pairwise((2, *widths))])
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * grid[0] * grid[1], len(EMOTIONS))
        self.to(memory_format=torch.channels_last)

    def forward(self, X):
        x = torch.cat([X, self.dct @ X], dim=1)  # (n, 2, 64, 176)   for X (n, 1, 64, 176)
        x = self.normalize(x.contiguous(memory_format=torch.channels_last))  # (n, 2, 64, 176)
        x = self.pool(self.blocks(x))  # (n, 64, 8, 22), then (n, 64, 4, 4)
        return self.head(self.dropout(x.flatten(1)))  # (n, 8)
