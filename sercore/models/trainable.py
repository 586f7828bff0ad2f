"""models.trainable: what a training run may ask of every network, with the answers of a plain one."""

from typing import Protocol

import numpy as np


class Trainable(Protocol):
    """A network that can be trained, scored and kept; every design inherits these answers and says where it differs."""

    #: What it reads: a key of `sercore.features.KINDS`, or "words".
    kind: str = "log_mel"
    #: It is solved at once by `fit_closed`, without epochs.
    closed: bool = False

    def warm_start(self) -> bool:
        """Take pretrained weights before the first epoch, if its options ask for them; tell whether it did."""
        return False

    def set_stage(self, progress: float) -> None:
        """Choose the parts that learn after this share of the epochs; called where `warm_start` took weights."""

    def fit_closed(self, X: np.ndarray, targets: np.ndarray, *, seed: int) -> None:
        """Solve it for features (n, k) and targets (n,)."""
        raise NotImplementedError
