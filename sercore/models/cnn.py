"""models.cnn: the house CNN, a small residual network over log-mel with attentive statistics pooling."""

from itertools import pairwise

import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


class SqueezeExcite(nn.Module):
    """Let every channel be turned up or down by a look at all of them (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction=8):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3))))))  # (n, c), each in (0, 1)
        return x * scale[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions, with or without squeeze-excitation, beside a shortcut (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, c_in, c_out, excite=True):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.excite = SqueezeExcite(c_out) if excite else nn.Identity()
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)
        )

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))  # (n, c_out, mels/2, frames/2)
        y = self.excite(self.bn2(self.conv2(y)))  # (n, c_out, mels/2, frames/2)
        return torch.relu(y + self.shortcut(x))


class AttentiveStatistics(nn.Module):
    """Weigh the frames, then keep weighted mean and deviation (Okabe et al. 2018, arXiv:1803.10963)."""

    def __init__(self, channels, hidden=64):
        super().__init__()
        self.score = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.Tanh(), nn.Conv1d(hidden, 1, 1))

    def forward(self, x):
        weight = torch.softmax(self.score(x), dim=2)  # (n, 1, frames), adds up to 1
        mean = (weight * x).sum(dim=2)  # (n, c)
        variance = (weight * x.square()).sum(dim=2) - mean.square()  # (n, c)
        return torch.cat([mean, variance.clamp(min=1e-4).sqrt()], dim=1)  # (n, 2 c)


class CNN(nn.Module, Trainable):
    """The house CNN: a stem, residual blocks, attentive statistics over time, one linear layer.

    `widths` are the channels of the stem and of each block, every one of which halves mels and frames.
    """

    def __init__(self, *, widths=(16, 32, 64, 128), dropout=0.3, excite=True):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(*[ResidualBlock(a, b, excite) for a, b in pairwise(widths)])
        self.pool = AttentiveStatistics(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * widths[-1], len(EMOTIONS))

    def forward(self, X):
        x = self.stem(X)  # (n, 16, 32, 88)   for X (n, 1, 64, 176)
        x = self.blocks(x)  # (n, 128, 4, 11)
        x = self.pool(x.mean(dim=2))  # (n, 256)     mean over mels, then statistics over frames
        return self.head(self.dropout(x))  # (n, 8)
