"""models.resnet18: ResNet-18 with torchvision's names, so that its ImageNet weights fit, fine-tuned by stages."""

import logging

import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable

logger = logging.getLogger(__name__)

#: torchvision's ResNet18_Weights.IMAGENET1K_V1; the name ends with the start of the file's SHA-256.
IMAGENET_URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
#: Share of the training after which parts begin to learn: what is new at once, what is general last.
STAGES = ((0.0, ("conv1", "bn1", "fc")), (0.1, ("layer3", "layer4")), (0.3, ("layer1", "layer2")))


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, named as in torchvision."""

    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))  # (n, c_out, mels/stride, frames/stride)
        y = self.bn2(self.conv2(y))  # (n, c_out, mels/stride, frames/stride)
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module, Trainable):
    """ResNet-18 (He et al. 2015, arXiv:1512.03385) on log-mel as a picture of one colour.

    Claimed, fine-tuned from ImageNet: 80 %. With `pretrained`, training starts there; building it downloads nothing.
    """

    def __init__(self, *, pretrained=False):
        super().__init__()
        self.pretrained = pretrained
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, len(EMOTIONS))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, X):
        x = torch.relu(self.bn1(self.conv1(X)))  # (n, 64, 32, 88)   for X (n, 1, 64, 176)
        x = self.layer1(self.maxpool(x))  # (n, 64, 16, 44)
        x = self.layer2(x)  # (n, 128, 8, 22)
        x = self.layer3(x)  # (n, 256, 4, 11)
        x = self.layer4(x)  # (n, 512, 2, 6)
        return self.fc(x.mean(dim=(2, 3)))  # (n, 8)

    def warm_start(self):
        """Load ImageNet weights, if `pretrained`, by torch's cache; offline, a warning says that there are none.

        The colours of conv1 are added up into one, as a grey picture meets them; fc stays untrained.
        """
        if not self.pretrained:
            return False
        try:
            weights = torch.hub.load_state_dict_from_url(
                IMAGENET_URL, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except OSError as error:  # URLError is one
            logger.warning("ResNet18 is trained from scratch, NOT from ImageNet: no %s (%s).", IMAGENET_URL, error)
            return False
        grey = weights["conv1.weight"].sum(dim=1, keepdim=True)  # (64, 1, 7, 7)
        own = {"conv1.weight": grey, "fc.weight": self.fc.weight, "fc.bias": self.fc.bias}
        self.load_state_dict(weights | own)
        return True

    def set_stage(self, progress):
        for start, parts in STAGES:
            for part in parts:
                getattr(self, part).requires_grad_(progress >= start)
