"""models.cnn_transformer: two convolutional branches beside a Transformer encoder, joined by one dense layer."""

import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


def _block(c_in, c_out, pool, dropout):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(),
        nn.MaxPool2d(pool),
        nn.Dropout(dropout),
    )


class CNNTransformer(nn.Module, Trainable):
    """Two equal CNN branches look at the picture, a Transformer encoder at the sequence of its frames.

    After a widely copied notebook on RAVDESS (github.com/IliaZenkov/transformer-cnn-emotion-recognition); the
    encoder is that of Vaswani et al. 2017 (arXiv:1706.03762), without their position code, as there. Claimed:
    80.4 % accuracy on a random split. It read 40 MFCC: this one reads log-mel, `n_mels` (a multiple of `heads`) wide.
    It flattened the maps of its branches: here they are averaged onto a fixed grid first, which at 176 frames changes
    nothing. `hidden` is the size of the encoder's feed-forward part.
    """

    def __init__(
        self, *, n_mels=64, widths=(16, 32, 64), dropout=0.3, layers=4, heads=4, hidden=512, encoder_dropout=0.4
    ):
        super().__init__()
        a, b, c = widths
        self.branch1, self.branch2 = (
            nn.Sequential(_block(1, a, 2, dropout), _block(a, b, 4, dropout), _block(b, c, 4, dropout))
            for _ in range(2)
        )
        grid = (n_mels // 32, 176 // 32)
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.shorten = nn.MaxPool2d((1, 4))
        self.encoder = nn.Sequential(
            *[
                nn.TransformerEncoderLayer(n_mels, heads, hidden, encoder_dropout, batch_first=True)
                for _ in range(layers)
            ]
        )
        self.head = nn.Linear(2 * c * grid[0] * grid[1] + n_mels, len(EMOTIONS))
        self.to(memory_format=torch.channels_last)

    def forward(self, X):
        x = X.contiguous(memory_format=torch.channels_last)
        first = self.pool(self.branch1(x)).flatten(1)  # (n, 640): (n, 64, 2, 5)   for X (n, 1, 64, 176)
        second = self.pool(self.branch2(x)).flatten(1)  # (n, 640)
        frames = self.shorten(X)[:, 0].transpose(1, 2)  # (n, 44, 64): a sequence of frames
        third = self.encoder(frames).mean(dim=1)  # (n, 64)
        return self.head(torch.cat([first, second, third], dim=1))  # (n, 8)
