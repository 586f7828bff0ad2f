"""models.cnn_basic: the CNN of the tutorials, on log-mel or on MFCC."""

from itertools import pairwise

import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.models.dct import dct_matrix

INPUTS = ("log_mel", "mfcc")


class BasicCNN(nn.Module):
    """Convolution and pooling three times, then flattened into two dense layers, as most tutorials have it.

    Claimed: 80 % validation accuracy. A map of another length than that of 176 frames, which the tutorials cannot
    take, is averaged onto the grid the dense layer was made for.

    Parameters
    ----------
    n_mels : int
        Mel bands of the input.
    n_classes : int
    input : {"log_mel", "mfcc"}
        What the first convolution sees; MFCC are computed inside, from the log-mel rows.
    n_mfcc : int
        Coefficients kept with ``input="mfcc"``.
    widths : sequence of int
        Channels of each convolution; a max-pooling after it halves rows and frames.
    hidden : int
        Size of the first dense layer.
    dropout : float in [0, 1)
        Before the last layer.

    Raises
    ------
    ConfigError
        If `input` is not known.
    """

    kind = "log_mel"

    def __init__(self, *, n_mels=64, n_classes=8, input="log_mel", n_mfcc=40, widths=(16, 32, 64), hidden=64,
                 dropout=0.5):  # fmt: skip
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
        self.head = nn.Linear(hidden, n_classes)
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
        x = X if self.dct is None else self.dct @ X  # (n, 1, 64, 176), or (n, 1, 40, 176) of MFCC
        x = self.blocks(x.contiguous(memory_format=torch.channels_last))  # (n, 64, 8, 22), or (n, 64, 5, 22)
        x = self.pool(x).flatten(1)  # (n, 11264), or (n, 7040)
        x = torch.relu(self.dense(x))  # (n, 64)
        return self.head(self.dropout(x))  # (n, 8)
