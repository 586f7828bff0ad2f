"""models.functionals_svm: the classical linear support vector machine, kept as a network."""

import numpy as np
import torch
from torch import nn

from sercore.errors import ConfigError
from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable

#: Decision value of an emotion without clips, as calm in TESS: far below those of machines that were fitted.
ABSENT = -10.0


class FunctionalsSVM(nn.Module, Trainable):
    """Standardised functionals and a linear SVM, one emotion against the rest: fitted at once, no epochs.

    The baseline of the INTERSPEECH 2009 Emotion Challenge (doi:10.21437/Interspeech.2009-103). `C` weighs the errors;
    its logits are decision values, above 0 on an emotion's own side.
    """

    kind = "functionals"
    closed = True

    def __init__(self, *, n_features=196, C=0.01):
        super().__init__()
        self.C = C
        self.register_buffer("fitted", torch.tensor(False))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))
        self.head = nn.Linear(n_features, len(EMOTIONS))

    def fit_closed(self, X, targets, *, seed):
        """Fit scaler and SVM, with rare emotions weighing as much as frequent ones."""
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import LinearSVC

        n_classes, n_features = self.head.weight.shape
        present = np.unique(targets)
        if X.ndim != 2 or X.shape[1] != n_features:
            raise ConfigError(f"Bad functionals of shape {X.shape}: expected (n, {n_features}).")
        if len(present) < 3 or present[0] < 0 or present[-1] >= n_classes:
            raise ConfigError(f"Bad targets {present.tolist()}: expected three or more of 0 to {n_classes - 1}.")
        scaler = StandardScaler().fit(X.astype(np.float64))
        svm = LinearSVC(C=self.C, class_weight="balanced", random_state=seed, max_iter=20_000)
        svm.fit(scaler.transform(X.astype(np.float64)), targets)
        weight, bias = np.zeros((n_classes, n_features)), np.full(n_classes, ABSENT)
        weight[present], bias[present] = svm.coef_, svm.intercept_
        learned = {"mean": scaler.mean_, "scale": scaler.scale_, "head.weight": weight, "head.bias": bias}
        self.load_state_dict({"fitted": torch.tensor(True)} | {key: torch.from_numpy(x) for key, x in learned.items()})

    def forward(self, X):
        if not self.fitted:
            raise ConfigError("The support vector machine is not fitted: expected training before scoring.")
        return self.head((X[:, 0] - self.mean) / self.scale)  # (n, 8) from (n, 196)
