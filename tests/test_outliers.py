"""outliers: what sounds like the training clips passes, whatever its level; what does not is told."""

import numpy as np
import pytest

from sercore.corpora import synthetic
from sercore.features import compute
from sercore.labels import EMOTIONS
from sercore.outliers import fit_outliers, sound_of

SR = 16_000
T = np.arange(2 * SR) / SR


def spoken(speaker, *, gain=1.0, statements=(1, 2)):
    voices = [synthetic.synthesize(e, speaker=speaker, statement=k, sr=SR) for e in EMOTIONS for k in statements]
    return [compute((gain * y).astype(np.float32)) for y in voices]


@pytest.fixture(scope="module")
def outliers():
    clips = [(S_db, speaker) for speaker in range(1, 11) for S_db in spoken(speaker)]
    return fit_outliers(*zip(*clips, strict=True))


def other_sound(name):
    if name == "hum":
        return 0.1 * sum(np.sin(2 * np.pi * 50 * k * T) / k for k in range(1, 20))
    if name == "hiss":
        return 0.1 * np.random.default_rng(0).normal(size=len(T))
    hz = 440 if name == "tone" else 600 + 300 * np.sin(2 * np.pi * T)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(hz + 0 * T) / SR)


def test_unseen_speakers_are_no_outliers(outliers):
    assert np.mean([outliers(S_db) > 1 for speaker in (11, 12) for S_db in spoken(speaker)]) < 0.2


@pytest.mark.parametrize("name", ["tone", "hum", "hiss", "siren"])
def test_what_is_no_voice_is_an_outlier(outliers, name):
    assert outliers(compute(other_sound(name).astype(np.float32))) > 1.5


def test_the_limit_is_that_of_speakers_who_were_left_out():
    sounds, rng = [], np.random.default_rng(0)
    for place in rng.normal(0, 9, (5, 4, 1)):  # speakers differ more than their clips do
        sounds += [place + rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 2, (4, 50)) for _ in range(20)]
    by_speaker = fit_outliers(sounds, np.repeat(range(5), 20))
    by_clip = fit_outliers(sounds, range(100))
    assert by_speaker.limit > 1.1 * by_clip.limit
    assert np.array_equal(by_speaker.mean, by_clip.mean)
    alone = fit_outliers(sounds[:20], ["one"] * 20)
    assert max(alone(S_db) for S_db in sounds[:20]) == pytest.approx(1, abs=0.1)


def test_the_level_of_a_recording_does_not_matter():
    loud, soft = spoken(1, statements=[1])[0], spoken(1, gain=0.5, statements=[1])[0]
    assert np.abs(loud - soft).max() == pytest.approx(6.02, abs=0.05)
    np.testing.assert_allclose(sound_of(loud), sound_of(soft), atol=0.6)


def test_a_single_frame_has_a_sound():
    assert np.isfinite(sound_of(np.full((64, 1), -30.0))).all()
