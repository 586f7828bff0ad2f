"""The eight colours: told apart on white, by every kind of colour vision."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest

from sercore.labels import COLORS, EMOTIONS

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(color):
    rgb = np.array(mpl.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* of linear sRGB at D65."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = np.cbrt(np.maximum(to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089], 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISIONS)
def test_every_two_emotions_are_two_colours(vision):
    seen = {emotion: lab(VISIONS[vision] @ linear(COLORS[emotion])) for emotion in EMOTIONS}
    for one, other in combinations(EMOTIONS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 12, (one, other)


def test_every_emotion_is_seen_on_white():
    for emotion in EMOTIONS:
        luminance = linear(COLORS[emotion]) @ [0.2126, 0.7152, 0.0722]
        assert 1.05 / (luminance + 0.05) > 2, emotion
