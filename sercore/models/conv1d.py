"""models.conv1d: a one-dimensional convolution along the vector of functionals."""

from torch import nn

from sercore.errors import ConfigError


def _convolve(c_in, c_out):
    # Padded by hand as Keras' 'same' does: torch's own copies, and warns of it, where the kernel is even.
    return [
        nn.ZeroPad1d((3, 4)), nn.Conv1d(c_in, c_out, 8, bias=False), nn.BatchNorm1d(c_out), nn.ReLU(),
    ]  # fmt: skip


class Conv1d(nn.Module):
    """Four convolutions along the vector of functionals, as if its neighbours were neighbours in time.

    The widely copied Keras design over zero crossings, chroma, MFCC, RMS and mel; its softmax is in the loss here,
    and its runs of equal layers are one layer each. Claimed: 70 % accuracy on RAVDESS, CREMA-D, TESS and SAVEE
    together, on a random split, with every speaker on both sides of it.

    Parameters
    ----------
    n_features : int >= 64
        Length of `sercore.features.functionals`: 196 for the default FeatureConfig.
    n_classes : int
    dropout : float in [0, 1)
        Before each max-pooling.

    Raises
    ------
    ConfigError
        If nothing of the vector would be left after pooling twice by 8.
    """

    kind = "functionals"

    def __init__(self, *, n_features=196, n_classes=8, dropout=0.25):
        super().__init__()
        if n_features < 64:
            raise ConfigError(f"Bad n_features {n_features}: expected 64 or more, as the vector is pooled by 8 twice.")
        # A scaler that is part of the network. Without momentum its statistics are right from the first batch on:
        # raw dB lie far from the 0 ± 1 that it would otherwise have to forget.
        self.standardize = nn.BatchNorm1d(n_features, affine=False, momentum=None)
        self.blocks = nn.Sequential(
            nn.Sequential(*_convolve(1, 256)),
            nn.Sequential(*_convolve(256, 256), nn.Dropout(dropout), nn.MaxPool1d(8)),
            nn.Sequential(*_convolve(256, 128), nn.Dropout(dropout), nn.MaxPool1d(8)),
            nn.Sequential(*_convolve(128, 64)),
        )
        self.head = nn.Linear(64 * (n_features // 8 // 8), n_classes)

    def forward(self, X):
        """Score the emotions.

        Parameters
        ----------
        X : torch.Tensor [shape=(n, 1, n_features)]
            Functionals as they are, not standardised.

        Returns
        -------
        logits : torch.Tensor [shape=(n, n_classes)]
        """
        x = self.standardize(X[:, 0])  # (n, 196)
        x = self.blocks(x[:, None])  # (n, 64, 3)
        return self.head(x.flatten(1))  # (n, 8)
