"""features: librosa's numbers, known tones give known numbers, and windows cover the clip."""

from dataclasses import asdict

import librosa
import numpy as np
import pytest

from sercore import features
from sercore.errors import AudioError, ConfigError
from sercore.features import KINDS, PROSODY, FeatureConfig, compute, functionals, log_mel, pitch, prosody, to_windows
from sercore.models import load_checkpoint
from sercore.predict import VARIANTS

SR = 16_000


def tone(hz, *, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


def voiced(hz, *, amplitude=0.3):
    """A voice-like tone: ten harmonics, falling by 1/k."""
    y = sum(tone(k * hz, amplitude=1 / k) for k in range(1, 11))
    return (amplitude * y / np.abs(y).max()).astype(np.float32)


def test_log_mel_is_that_of_librosa(voice):
    S = librosa.feature.melspectrogram(
        y=voice, sr=16_000, n_fft=1024, win_length=640, hop_length=256, n_mels=64, fmin=50, fmax=8_000
    )
    S_db = log_mel(voice, sr=SR)
    assert S_db.dtype == np.float32 and S_db.shape == (64, 1 + len(voice) // 256)
    np.testing.assert_allclose(S_db, np.maximum(librosa.power_to_db(S, ref=1.0, top_db=None), -80), atol=1e-3)
    cepstrum = librosa.feature.mfcc(S=S_db, n_mfcc=20)
    np.testing.assert_allclose(features.mfcc(voice, sr=SR), cepstrum, atol=1e-2)


def test_level_clip_forgets_the_gain_and_level_fixed_keeps_it(voice):
    clip = FeatureConfig(level="clip")
    assert log_mel(voice, sr=SR, config=clip).max() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(log_mel(voice / 4, sr=SR, config=clip), log_mel(voice, sr=SR, config=clip), atol=1e-3)
    loud, soft = log_mel(voice, sr=SR), log_mel(voice / 4, sr=SR)
    np.testing.assert_allclose((loud - soft)[soft > -80], 12.04, atol=0.01)
    assert soft.min() == -80


@pytest.mark.parametrize(
    ("kind", "n_rows"),
    [("log_mel", 64), ("mfcc", 20), ("chroma", 12), ("zero_crossing_rate", 1), ("rms", 1), ("pitch", 1)],
)
def test_every_track_has_the_same_frames_and_refuses_what_is_no_sound(kind, n_rows, voice):
    track = KINDS[kind](voice, sr=SR)
    assert track.shape == (n_rows, 1 + len(voice) // 256) and track.dtype == np.float32
    assert np.isfinite(track).all() or kind == "pitch"
    with pytest.raises(AudioError, match="Bad rate 44100 Hz: expected 16000 Hz"):
        KINDS[kind](voice, sr=44_100)
    with pytest.raises(AudioError, match="Silence"):
        KINDS[kind](np.zeros(SR), sr=SR)


def test_a_tone_is_found_where_it_is():
    middle = slice(5, -5)
    band = log_mel(tone(1_000), sr=SR)[:, middle].argmax(axis=0)
    edges_hz = librosa.mel_frequencies(66, fmin=50, fmax=8_000)
    assert (band == 20).all() and edges_hz[20] < 1_000 < edges_hz[22]
    assert (features.chroma(tone(440), sr=SR)[:, middle].argmax(axis=0) == 9).all()  # C is 0, A is 9
    np.testing.assert_allclose(features.zero_crossing_rate(tone(1_000), sr=SR)[:, middle], 2_000 / SR, atol=2e-3)
    np.testing.assert_allclose(features.rms(tone(1_000), sr=SR)[:, middle], 0.5 / np.sqrt(2), atol=1e-3)


@pytest.mark.parametrize("hz", [90, 150, 220, 440])
def test_pitch_of_a_tone(hz):
    assert np.nanmedian(pitch(voiced(hz), sr=SR)) == pytest.approx(hz, rel=0.01)


def test_pitch_of_a_voice_is_within_a_semitone_of_the_slower_pyin(voice):
    expected_hz, *_ = librosa.pyin(voice, sr=SR, fmin=60, fmax=700, frame_length=1024, hop_length=256)
    ratio = np.nanmedian(pitch(voice, sr=SR)) / np.nanmedian(expected_hz)
    assert abs(12 * np.log2(ratio)) < 1


def test_noise_and_quiet_ends_have_no_pitch():
    noise = 0.1 * np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    assert np.isnan(pitch(noise, sr=SR)).all()
    f0_hz = pitch(np.concatenate([voiced(150), voiced(150, amplitude=0.003)]), sr=SR)[0]
    assert np.isfinite(f0_hz[5:55]).all() and np.isnan(f0_hz[70:]).all()


def test_prosody_is_duration_level_and_pitch():
    y = np.concatenate([voiced(100), voiced(200)])
    values = dict(zip(PROSODY, prosody(y, sr=SR), strict=True))
    assert values["duration_s"] == 2.0
    assert values["level_dbfs"] == pytest.approx(10 * np.log10(np.mean(y**2)), abs=0.01)
    assert 99 < values["pitch_hz"] < 202
    assert values["pitch_range_semitones"] == pytest.approx(12, abs=0.5)
    noise = 0.1 * np.random.default_rng(0).standard_normal(SR).astype(np.float32)
    unvoiced = prosody(noise, sr=SR)
    assert np.isfinite(unvoiced[:2]).all() and np.isnan(unvoiced[2:]).all()


def test_functionals_are_means_and_deviations_of_the_tracks(voice):
    vector = functionals(voice, sr=SR)
    assert vector.shape == (2 * (1 + 1 + 12 + 20 + 64),)
    for place, track in ((0, "zero_crossing_rate"), (1, "rms"), (2, "chroma"), (14, "mfcc"), (34, "log_mel")):
        values = KINDS[track](voice, sr=SR)[0]
        assert vector[place] == pytest.approx(values.mean(), rel=1e-3, abs=1e-4), track
        assert vector[98 + place] == pytest.approx(values.std(), rel=1e-3, abs=1e-4), track


def test_compute_trims_the_quiet_ends_unless_told_not_to(voice):
    y = np.concatenate([np.zeros(SR), voice, np.zeros(SR)])
    assert compute(y, config=FeatureConfig(trim_db=None)).shape[1] == 1 + len(y) // 256
    assert compute(y).shape[1] <= 1 + len(voice) // 256 + 16
    assert compute(y, kind="prosody")[0] == pytest.approx(len(voice) / SR, abs=0.25)
    with pytest.raises(ConfigError, match=r"Bad feature 'mel': expected one of \['zero_crossing_rate'"):
        compute(y, kind="mel")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "loud"}, r"Bad level 'loud': expected one of \['fixed', 'clip'\]"),
        ({"fmin_hz": -1.0}, r"Bad fmin_hz -1\.0: expected a number from 0"),
        ({"fmin_hz": 4_000.0, "fmax_hz": 4_000.0}, r"Bad mel band 4000\.0 to 4000\.0 Hz"),
        ({"sr": 8_000}, "Bad mel band 50.0 to 8000.0 Hz: expected .* <= 4000"),
        ({"hop_length": 641}, "Bad frames: hop_length 641"),
        ({"win_length": 1_025}, "Bad frames"),
        ({"hop_length": 0}, "Bad hop_length 0: expected a whole number from 1"),
        ({"n_fft": 2**40}, "Bad n_fft 1099511627776"),
        ({"n_mels": 64.0}, "Bad n_mels 64.0: expected a whole number"),
        ({"n_frames": True}, "Bad n_frames True"),
        ({"n_mfcc": "20"}, "Bad n_mfcc '20'"),
        ({"db_scale": 0.0}, "Bad db_scale 0.0"),
        ({"db_floor": float("nan")}, "Bad db_floor nan"),
        ({"trim_db": float("inf")}, "Bad trim_db inf"),
    ],
)
def test_a_config_that_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        FeatureConfig(**options)


def test_a_short_clip_is_one_window_padded_with_the_scaled_floor():
    X = to_windows(np.full((64, 100), -30.0))
    assert X.shape == (1, 64, 176) and X.dtype == np.float32
    assert (X[:, :, :100] == 1.0).all() and (X[:, :, 100:] == -1.5).all()  # (-30 + 50) / 20 and (-80 + 50) / 20
    assert to_windows(np.full((64, 176), -30.0)).tolist() == np.ones((1, 64, 176)).tolist()
    vector = np.linspace(-80, 300, 500)
    np.testing.assert_array_equal(to_windows(vector), [vector])


@pytest.mark.parametrize("n", [177, 264, 265, 500, 1_000])
def test_the_windows_of_a_long_clip_cover_it_and_overlap_by_half(n):
    config = FeatureConfig(db_center=0.0, db_scale=1.0)
    X = to_windows(np.tile(np.arange(n, dtype=float), (64, 1)), config=config)
    assert set(X[:, 0].ravel().astype(int)) == set(range(n))
    assert (np.diff(X[:, 0], axis=1) == 1).all()
    assert (np.diff(X[:, 0, 0]) <= 176 / 2 + 1).all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_mels": 80, "win_length": 400, "n_fft": 400, "hop_length": 160, "fmin_hz": 0.0, "level": "clip"},
        {"sr": 22_050, "n_fft": 2048, "win_length": 2048, "hop_length": 512, "n_mels": 128, "fmax_hz": 11_025.0},
        {"sr": 8_000, "n_fft": 512, "win_length": 401, "hop_length": 100, "n_mels": 20, "fmin_hz": 9e2, "fmax_hz": 4e3},
        *[asdict(load_checkpoint(path)[1]["feature_config"]) for path in VARIANTS.values()],
    ],
)
@pytest.mark.parametrize("n", [2, 700, 32_001])
def test_log_mel_without_numba_is_that_of_librosa_in_every_setting(options, n):
    config = FeatureConfig(**options)
    y = (np.random.default_rng(n).standard_normal(n) * np.geomspace(1e-4, 0.2, n)).astype(np.float32)
    y[0] = 0.1
    keys = {"n_fft": config.n_fft, "win_length": config.win_length, "hop_length": config.hop_length}
    mel = {"n_mels": config.n_mels, "fmin": config.fmin_hz, "fmax": config.fmax_hz}
    S = librosa.feature.melspectrogram(y=y, sr=config.sr, **keys, **mel)
    S_db = librosa.power_to_db(S, ref=np.max if config.level == "clip" else 1.0, top_db=None)
    filters = librosa.filters.mel(sr=config.sr, n_fft=config.n_fft, **mel)
    np.testing.assert_allclose(features.mel_filters(config), filters, atol=1e-7)
    got = log_mel(y, sr=config.sr, config=config)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, np.maximum(S_db, config.db_floor), atol=1e-3)
