"""models.cnn_basic: the CNN of the tutorials, on log-mel or on MFCC."""

from itertools import pairwise

import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models.dct import dct_matrix
from sercore.models.trainable import Trainable

INPUTS = ("log_mel", "mfcc")


class BasicCNN(nn.Module, Trainable):
    """Convolution and pooling once for each of `widths`, then two dense layers, as most tutorials have it.

    With ``input="mfcc"`` the first convolution sees `n_mfcc` coefficients, computed inside from the log-mel rows.
    Claimed: 80 % validation accuracy. A map of another length than that of 176 frames, which the tutorials cannot
    take, is averaged onto the grid the dense layer was made for.
    """

    def __init__(self, *, n_mels=64, input="log_mel", n_mfcc=40, widths=(16, 32, 64), hidden=64, dropout=0.5):
        super().__init__()
        if input not in INPUTS:
            raise ConfigError(f"Bad input {input!r}: expected one of {list(INPUTS)}.")
        rows = n_mfcc if input == "mfcc" else n_mels
        # Fixed, so it stays out of checkpoints.
        self.register_buffer("dct", dct_matrix(n_mfcc, n_mels) if input == "mfcc" else None, persistent=False)
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
                for a, b in pairwise((1, *widths))
            ]
        )
        grid = (rows // 2 ** len(widths), 176 // 2 ** len(widths))
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dense = nn.Linear(widths[-1] * grid[0] * grid[1], hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, len(EMOTIONS))
        self.to(memory_format=torch.channels_last)

    def forward(self, X):
        x = X if self.dct is None else self.dct @ X  # (n, 1, 64, 176), or (n, 1, 40, 176) of MFCC
        x = self.blocks(x.contiguous(memory_format=torch.channels_last))  # (n, 64, 8, 22), or (n, 64, 5, 22)
        x = self.pool(x).flatten(1)  # (n, 11264), or (n, 7040)
        x = torch.relu(self.dense(x))  # (n, 64)
        return self.head(self.dropout(x))  # (n, 8)
