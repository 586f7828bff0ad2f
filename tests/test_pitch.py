"""features.pitch and features.prosody: known tones give known numbers."""

import numpy as np
import pytest

from sercore.errors import AudioError
from sercore.features import KINDS, PROSODY, FeatureConfig, compute, functionals, log_mel, pitch, prosody

SR = 16_000


def tone(hz, *, seconds=1.0, amplitude=0.3):
    """A voice-like tone: ten harmonics, falling by 1/k."""
    t = np.arange(int(seconds * SR)) / SR
    y = sum(np.sin(2 * np.pi * k * hz * t) / k for k in range(1, 11) if k * hz < SR / 2)
    return (amplitude * y / np.abs(y).max()).astype(np.float32)


@pytest.mark.parametrize("hz", [90, 150, 220, 440])
def test_pitch_of_a_tone(hz):
    f0_hz = pitch(tone(hz), sr=SR)
    assert f0_hz.shape == (1, log_mel(tone(hz), sr=SR).shape[1])
    assert np.nanmedian(f0_hz) == pytest.approx(hz, rel=0.01)


def test_noise_has_no_pitch():
    noise = 0.1 * np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    assert np.isnan(pitch(noise, sr=SR)).all()


def test_prosody_of_two_tones():
    y = np.concatenate([tone(100), tone(200)])
    values = dict(zip(PROSODY, prosody(y, sr=SR), strict=True))
    assert values["duration_s"] == 2.0
    assert values["level_dbfs"] == pytest.approx(10 * np.log10(np.mean(y**2)), abs=0.01)
    assert 99 < values["pitch_hz"] < 202
    assert values["pitch_range_semitones"] == pytest.approx(12, abs=0.5)


def test_prosody_of_an_unvoiced_clip_has_no_pitch(monkeypatch):
    silent_track = np.full((1, 63), np.nan)
    monkeypatch.setattr("sercore.features.pitch", lambda *args, **kwargs: silent_track)
    values = prosody(tone(100), sr=SR)
    assert np.isfinite(values[:2]).all() and np.isnan(values[2:]).all()


def test_kinds_are_reached_by_compute_after_trimming():
    quiet = np.zeros(SR, dtype=np.float32)
    y = np.concatenate([quiet, tone(150), quiet])
    assert compute(y, kind="prosody")[0] == pytest.approx(1.0, abs=0.2)
    assert compute(y, kind="pitch").shape[0] == 1
    assert {"pitch", "prosody"} <= set(KINDS)


def test_a_quiet_end_has_no_pitch():
    y = np.concatenate([tone(150), tone(150, amplitude=0.003)])
    f0_hz = pitch(y, sr=SR)[0]
    assert np.isfinite(f0_hz[5:55]).all() and np.isnan(f0_hz[70:]).all()


def test_functionals_stay_as_they_were():
    config = FeatureConfig()
    assert functionals(tone(150), sr=SR).shape == (2 * (2 + 12 + config.n_mfcc + config.n_mels),)


def test_wrong_rate_is_refused():
    with pytest.raises(AudioError, match="Bad rate 8000"):
        pitch(tone(150), sr=8_000)
