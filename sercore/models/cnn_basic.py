"""models.cnn_basic: the CNN of the tutorials, on log-mel or on MFCC."""

from itertools import pairwise

import librosa
import numpy as np
import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


class BasicCNN(nn.Module, Trainable):
    """Convolution and pooling once for each of `widths`, then two dense layers, as most tutorials have it.

    Claimed: 80 % validation accuracy. Their dense layer fits 176 frames: maps of another length are averaged onto its grid.
    """

    def __init__(self, *, n_mels=64, input="log_mel", n_mfcc=40, widths=(16, 32, 64), hidden=64, dropout=0.5):
        super().__init__()
        if input not in ("log_mel", "mfcc"):
            raise ConfigError(f"Bad input {input!r}: expected one of ['log_mel', 'mfcc'].")
        rows = n_mfcc if input == "mfcc" else n_mels
        dct = librosa.feature.mfcc(S=np.eye(n_mels), n_mfcc=n_mfcc)  # a matrix that makes MFCC of log-mel rows
        self.register_buffer("dct", torch.from_numpy(dct).float() if input == "mfcc" else None, persistent=False)
        pairs = pairwise((1, *widths))
        blocks = [nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)) for a, b in pairs]
        self.blocks = nn.Sequential(*blocks)
        grid = (rows // 2 ** len(widths), 176 // 2 ** len(widths))
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.dense = nn.Linear(widths[-1] * grid[0] * grid[1], hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, len(EMOTIONS))

    def forward(self, X):
        x = X if self.dct is None else self.dct @ X  # (n, 1, 64, 176), or (n, 1, 40, 176) of MFCC
        x = self.blocks(x)  # (n, 64, 8, 22), or (n, 64, 5, 22)
        x = self.pool(x).flatten(1)  # (n, 11264), or (n, 7040)
        x = torch.relu(self.dense(x))  # (n, 64)
        return self.head(self.dropout(x))  # (n, 8)
