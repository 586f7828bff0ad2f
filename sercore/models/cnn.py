"""models.cnn: the house CNN, a small residual network over log-mel with attentive statistics pooling."""

from itertools import pairwise

import torch
from torch import nn

from sercore.errors import ConfigError

#: Channels of the stem and of each block.
WIDTHS = (16, 32, 64, 128)


class SqueezeExcite(nn.Module):
    """Let every channel be turned up or down by a look at all of them (Hu et al. 2018, arXiv:1709.01507)."""

    def __init__(self, channels, reduction=8):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        scale = x.mean(dim=(2, 3))  # (n, c)
        scale = torch.sigmoid(self.fc2(torch.relu(self.fc1(scale))))  # (n, c), each in (0, 1)
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


class Statistics(nn.Module):
    """Keep mean and deviation over the frames, every frame weighing the same."""

    def forward(self, x):
        return torch.cat([x.mean(dim=2), x.var(dim=2, unbiased=False).clamp(min=1e-4).sqrt()], dim=1)  # (n, 2 c)


class Mean(nn.Module):
    """Keep the mean over the frames."""

    def forward(self, x):
        return x.mean(dim=2)  # (n, c)


POOLS = {"attentive": AttentiveStatistics, "statistics": lambda channels: Statistics(), "mean": lambda channels: Mean()}


class Recurrent(nn.Module):
    """Read the frames both ways with a GRU (Cho et al. 2014, arXiv:1406.1078)."""

    def __init__(self, channels):
        super().__init__()
        self.gru = nn.GRU(channels, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.gru(x.transpose(1, 2))[0].transpose(1, 2)  # (n, c, frames)


class SelfAttention(nn.Module):
    """Let every frame look at all others, once (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, channels):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(channels, 4, 2 * channels, batch_first=True, norm_first=True)

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)  # (n, c, frames)


CONTEXTS = {"none": lambda channels: nn.Identity(), "gru": Recurrent, "attention": SelfAttention}


class CNN(nn.Module):
    """The house CNN: a stem, residual blocks, attentive statistics over time, one linear layer.

    Parameters
    ----------
    n_mels : int
        Mel bands of the input; the network itself takes any number of frames.
    n_classes : int
    widths : sequence of int
        Channels of the stem and of each block; every one of them halves mels and frames.
    dropout : float in [0, 1)
        Before the last layer.
    excite : bool
        Squeeze-excitation in the blocks.
    context : {"none", "gru", "attention"}
        What reads the frames in their order before they are pooled.
    pool : {"attentive", "statistics", "mean"}
        How frames become one vector.

    Raises
    ------
    ConfigError
        If `context` or `pool` is not known.
    """

    kind = "log_mel"

    def __init__(self, *, n_mels=64, n_classes=8, widths=WIDTHS, dropout=0.3,
                 excite=True, context="none", pool="attentive"):  # fmt: skip
        super().__init__()
        for option, value, known in (("context", context, CONTEXTS), ("pool", pool, POOLS)):
            if value not in known:
                raise ConfigError(f"Bad {option} {value!r}: expected one of {list(known)}.")
        self.stem = nn.Sequential(
            nn.Conv2d(1, widths[0], 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()
        )
        self.blocks = nn.Sequential(*[ResidualBlock(a, b, excite) for a, b in pairwise(widths)])
        self.context = CONTEXTS[context](widths[-1])
        self.pool = POOLS[pool](widths[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear((1 if pool == "mean" else 2) * widths[-1], n_classes)
        # A third faster on a CPU: its convolutions want the channels side by side in memory.
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
        x = self.pool(self.frames(X))  # (n, 256)
        return self.head(self.dropout(x))  # (n, 8)

    def frames(self, X):
        """Describe every sixteen frames of `X` (as in `forward`) by a vector: (n, 128, 11)."""
        x = self.stem(X.contiguous(memory_format=torch.channels_last))  # (n, 16, 32, 88)   for X (n, 1, 64, 176)
        x = self.blocks(x)  # (n, 128, 4, 11)
        return self.context(x.mean(dim=2))  # (n, 128, 11)     mean over mels
