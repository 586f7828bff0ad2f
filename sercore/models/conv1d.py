"""models.conv1d: a one-dimensional convolution along the vector of functionals."""

from torch import nn

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


def _convolve(c_in, c_out):
    # Padded by hand as Keras' 'same' does: torch's own copies, and warns of it, where the kernel is even.
    return [nn.ZeroPad1d((3, 4)), nn.Conv1d(c_in, c_out, 8, bias=False), nn.BatchNorm1d(c_out), nn.ReLU()]


class Conv1d(nn.Module, Trainable):
    """Four convolutions along the vector of functionals, as if its neighbours were neighbours in time.

    A widely copied Keras design. Claimed: 70 % on RAVDESS, CREMA-D, TESS and SAVEE together, on a random split.
    """

    kind = "functionals"

    def __init__(self, *, n_features=196, dropout=0.25):
        super().__init__()
        if n_features < 64:
            raise ConfigError(f"Bad n_features {n_features}: expected 64 or more, as the vector is pooled by 8 twice.")
        # A scaler. Without momentum it need not forget the 0 ± 1 it starts from; raw dB lie far from that.
        self.standardize = nn.BatchNorm1d(n_features, affine=False, momentum=None)
        self.blocks = nn.Sequential(
            nn.Sequential(*_convolve(1, 256)),
            nn.Sequential(*_convolve(256, 256), nn.Dropout(dropout), nn.MaxPool1d(8)),
            nn.Sequential(*_convolve(256, 128), nn.Dropout(dropout), nn.MaxPool1d(8)),
            nn.Sequential(*_convolve(128, 64)),
        )
        self.head = nn.Linear(64 * (n_features // 8 // 8), len(EMOTIONS))

    def forward(self, X):
        x = self.standardize(X[:, 0])  # (n, 196)
        x = self.blocks(x[:, None])  # (n, 64, 3)
        return self.head(x.flatten(1))  # (n, 8)
