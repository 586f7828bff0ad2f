"""models.two_channel: a CNN that sees the log-mel spectrogram and its MFCC as two channels of one image."""

from itertools import pairwise

import librosa
import numpy as np
import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


def conv_block(c_in, c_out, pool=2):
    convolution = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(c_out), nn.ReLU(), nn.MaxPool2d(pool))


class TwoChannel(nn.Module, Trainable):
    """A convolution block for each of `widths` over log-mel and MFCC, laid on each other like colours of a picture.

    Claimed: about 70 %. Public projects flatten the last map: here it is averaged onto a `grid` first, for any length.
    """

    def __init__(self, *, n_mels=64, widths=(16, 32, 64), grid=(4, 4), dropout=0.5):
        super().__init__()
        dct = librosa.feature.mfcc(S=np.eye(n_mels), n_mfcc=n_mels)  # a matrix that makes MFCC of log-mel rows
        self.register_buffer("dct", torch.from_numpy(dct).float(), persistent=False)
        self.normalize = nn.BatchNorm2d(2)
        self.blocks = nn.Sequential(*[conv_block(a, b) for a, b in pairwise((2, *widths))])
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1] * grid[0] * grid[1], len(EMOTIONS))

    def forward(self, X):
        x = torch.cat([X, self.dct @ X], dim=1)  # (n, 2, 64, 176)   for X (n, 1, 64, 176)
        x = self.normalize(x.contiguous(memory_format=torch.channels_last))  # (n, 2, 64, 176)
        x = self.pool(self.blocks(x))  # (n, 64, 8, 22), then (n, 64, 4, 4)
        return self.head(self.dropout(x.flatten(1)))  # (n, 8)
