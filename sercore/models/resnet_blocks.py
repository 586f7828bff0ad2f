"""models.resnet_blocks: plain residual blocks over log-mel, with nothing added."""

from itertools import pairwise

import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


class PreActivationBlock(nn.Module):
    """Two 3×3 convolutions, each behind its batch norm and ReLU, beside a clean shortcut (arXiv:1603.05027)."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        same = c_in == c_out and stride == 1
        self.project = None if same else nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)

    def forward(self, x):
        y = torch.relu(self.bn1(x))  # (n, c_in, mels, frames)
        shortcut = x if self.project is None else self.project(y)  # (n, c_out, mels/stride, frames/stride)
        y = self.conv1(y)  # (n, c_out, mels/stride, frames/stride)
        return shortcut + self.conv2(torch.relu(self.bn2(y)))


class ResNetBlocks(nn.Module, Trainable):
    """Stages of `depth` pre-activation blocks, each halving mels and frames, then global average pooling.

    After He et al. 2015 (arXiv:1512.03385) and 2016 (arXiv:1603.05027). Claimed for such networks: about 75 to 80 %.
    """

    def __init__(self, *, widths=(16, 32, 64, 128), depth=1, dropout=0.3):
        super().__init__()
        self.stem = nn.Conv2d(1, widths[0], 3, padding=1, bias=False)
        self.blocks = nn.Sequential()
        for a, b in pairwise((widths[0], *widths)):
            self.blocks.append(PreActivationBlock(a, b, 2))
            self.blocks.extend(PreActivationBlock(b, b, 1) for _ in range(depth - 1))
        self.bn = nn.BatchNorm2d(widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], len(EMOTIONS))

    def forward(self, X):
        x = self.stem(X)  # (n, 16, 64, 176)   for X (n, 1, 64, 176)
        x = self.blocks(x)  # (n, 128, 4, 11)
        x = torch.relu(self.bn(x)).mean(dim=(2, 3))  # (n, 128)
        return self.head(self.dropout(x))  # (n, 8)
