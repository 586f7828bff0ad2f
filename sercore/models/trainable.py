"""models.trainable: what a training run may ask of every network, with the answers of a plain one."""

from typing import Protocol


class Trainable(Protocol):
    """A network that can be trained, scored and kept; every design says where its answers differ."""

    #: What it reads: a key of `sercore.features.KINDS`, "words", or "whisper", what Whisper's layers made of log-mel.
    kind: str = "log_mel"
    #: It is solved at once, without epochs, by ``fit_closed(X, targets, seed=…)`` for features (n, k) and targets (n,).
    closed: bool = False

    def warm_start(self) -> bool:
        """Take pretrained weights before the first epoch, if its options ask for them; tell whether it did."""
        return False

    def set_stage(self, progress: float) -> None:
        """Choose the parts that learn after this share of the epochs; called where `warm_start` took weights."""
