"""augment: each variation does by measurement what its name says, and nothing else."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sercore import augment
from sercore.audio import level_dbfs
from sercore.errors import ConfigError, SilenceError

SR = 16_000


def vowel(f0_hz=200.0, duration_s=1.5):
    """Ten harmonics that fall by 6 dB an octave: the lowest is the strongest."""
    t = np.arange(round(duration_s * SR)) / SR
    y = sum(np.sin(2 * np.pi * k * f0_hz * t + k) / k for k in range(1, 11))
    return (0.2 * y).astype(np.float32)


def f0_hz(y):
    """Frequency of the strongest partial, from the middle of the clip."""
    middle = y[len(y) // 6 : -len(y) // 6]
    power = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), n=1 << 18))
    return power.argmax() * SR / (1 << 18)


Y = vowel()
Y.flags.writeable = False
WAVEFORM = {
    "add_noise": lambda rng: augment.add_noise(Y, snr_db=10, rng=rng),
    "add_babble": lambda rng: augment.add_babble(Y, sr=SR, snr_db=10, rng=rng, n_talkers=2),
    "pitch_shift": lambda rng: augment.pitch_shift(Y, sr=SR, semitones=2),
    "time_stretch": lambda rng: augment.time_stretch(Y, sr=SR, rate=1.2),
    "time_shift": lambda rng: augment.time_shift(Y, sr=SR, shift_s=0.1),
    "change_speed": lambda rng: augment.change_speed(Y, sr=SR, factor=1.1),
    "change_gain": lambda rng: augment.change_gain(Y, gain_db=-3),
    "WaveformAugment": lambda rng: augment.WaveformAugment()(Y, sr=SR, rng=rng),
}


@pytest.mark.parametrize("snr_db", [-5, 0, 10, 30])
def test_the_noise_has_the_ratio_asked_for(snr_db):
    noise = augment.add_noise(Y, snr_db=snr_db, rng=np.random.default_rng(0)) - Y
    assert 10 * np.log10(np.mean(Y**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.5)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05  # white


@pytest.mark.parametrize("snr_db", [-5, 0, 20])
def test_the_talk_has_the_ratio_asked_for_also_past_full_scale(snr_db):
    talk = augment.add_babble(Y, sr=SR, snr_db=snr_db, rng=np.random.default_rng(0), n_talkers=2) - Y
    assert len(talk) == len(Y)
    assert 10 * np.log10(np.mean(Y**2) / np.mean(talk**2)) == pytest.approx(snr_db, abs=0.01)
    assert np.corrcoef(talk[1:], talk[:-1])[0, 1] > 0.5  # voices, no hiss


@pytest.mark.parametrize(
    ("varied", "n_expected", "hz"),
    [
        (augment.pitch_shift(Y, sr=SR, semitones=-4.0), 24_000, 200 * 2 ** (-4 / 12)),
        (augment.pitch_shift(Y, sr=SR, semitones=3.0), 24_000, 200 * 2 ** (3 / 12)),
        (augment.time_stretch(Y, sr=SR, rate=0.8), 30_000, 200),
        (augment.time_stretch(Y, sr=SR, rate=1.25), 19_200, 200),
        (augment.change_speed(Y, sr=SR, factor=0.8), 30_000, 160),
        (augment.change_speed(Y, sr=SR, factor=1.25), 19_200, 250),
    ],
)
def test_pitch_tempo_and_speed_change_what_they_name_and_nothing_else(varied, n_expected, hz):
    assert len(varied) == pytest.approx(n_expected, rel=0.01)
    assert f0_hz(varied) == pytest.approx(hz, rel=0.01)


def test_shifting_moves_the_clip_and_fills_with_silence():
    n, edge = SR // 4, SR // 50  # cut ends are faded for a few milliseconds
    later, earlier = (augment.time_shift(Y, sr=SR, shift_s=shift_s) for shift_s in (0.25, -0.25))
    assert len(later) == len(earlier) == len(Y)
    assert not later[:n].any() and not earlier[-n:].any()
    np.testing.assert_array_equal(later[n + edge :], Y[edge:-n])
    np.testing.assert_array_equal(earlier[: -n - edge], Y[n:-edge])


def test_the_band_keeps_the_voice_where_it_is_and_removes_hum():
    def gain_db(hz):
        y = np.sin(2 * np.pi * hz * np.arange(SR) / SR)
        return level_dbfs(augment.bandpass(y, sr=SR, low_hz=100, high_hz=7_000)) - level_dbfs(y)

    assert gain_db(50) < -20 and gain_db(7_900) < -20 and abs(gain_db(1_000)) < 1
    click = np.zeros(SR)
    click[5_000] = 1
    assert np.argmax(augment.bandpass(click, sr=SR)) == 5_000
    assert augment.bandpass(np.array([0.5]), sr=SR).shape == (1,)
    for band in ((0, 1_000), (1_000, 500), (100, 8_000)):
        with pytest.raises(ConfigError, match="Bad band"):
            augment.bandpass(click, sr=SR, low_hz=band[0], high_hz=band[1])


def test_the_level_is_normalised_up_to_full_scale():
    assert level_dbfs(augment.normalize_level(Y)) == pytest.approx(-23, abs=0.01)
    loudest = augment.normalize_level(Y, target_dbfs=0)
    assert np.abs(loudest).max() == pytest.approx(1) and level_dbfs(loudest) < -3
    with pytest.raises(SilenceError):
        augment.normalize_level(np.zeros(100))


def test_gain_changes_the_level_and_clips_at_full_scale():
    np.testing.assert_allclose(augment.change_gain(Y, gain_db=-20), 0.1 * Y, rtol=1e-5)
    louder = augment.change_gain(Y, gain_db=20)
    assert louder.max() == 1.0 and louder.min() == -1.0


@pytest.mark.parametrize("name", WAVEFORM)
def test_global_random_state_is_untouched(name):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    varied = WAVEFORM[name](np.random.default_rng(0))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before  # noqa: NPY002
    assert varied.dtype == np.float32 and varied.ndim == 1 and np.isfinite(varied).all()


@pytest.mark.parametrize("name", ["add_noise", "add_babble", "WaveformAugment"])
def test_the_same_seed_gives_the_same_variation(name):
    first, again, other = (WAVEFORM[name](np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert len(first) != len(other) or not np.allclose(first, other)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: augment.pitch_shift(Y, sr=SR, semitones=13), "Bad semitones 13: expected -12 to 12"),
        (lambda: augment.time_stretch(Y, sr=SR, rate=0), r"Bad rate 0: expected 0.25 to 4"),
        (lambda: augment.change_speed(Y, sr=SR, factor=5), r"Bad factor 5: expected 0.25 to 4"),
        (lambda: augment.time_shift(Y, sr=SR, shift_s=-2.0), r"Bad shift_s 2.0: expected 0 to 1.5"),
        (lambda: augment.mixup(Y, Y, rng=np.random.default_rng(0), alpha=0), "Bad alpha 0: expected a number above 0"),
    ],
)
def test_out_of_range_is_an_error(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


@given(seed=st.integers(0, 2**32), max_bands=st.integers(0, 20), max_frames=st.integers(0, 40))
def test_a_mask_hides_one_band_and_one_stretch_of_a_copy(seed, max_bands, max_frames):
    X = np.ones((16, 30), np.float32)
    masked = augment.mask_spectrogram(X, rng=np.random.default_rng(seed), max_bands=max_bands, max_frames=max_frames)
    assert (X == 1).all() and masked.shape == X.shape and set(np.unique(masked)) <= {1, 0}
    hidden = masked == 0
    bands, frames = hidden.all(axis=1), hidden.all(axis=0)
    if not (bands.all() or frames.all()):
        np.testing.assert_array_equal(hidden, bands[:, None] | frames[None])
        assert bands.sum() <= max_bands and frames.sum() <= max_frames
        assert np.abs(np.diff(bands.astype(int), prepend=0, append=0)).sum() <= 2
        assert np.abs(np.diff(frames.astype(int), prepend=0, append=0)).sum() <= 2


def test_masks_do_reach_their_widest():
    masks = [augment.mask_spectrogram(np.ones((64, 176)), rng=np.random.default_rng(seed)) == 0 for seed in range(300)]
    assert max(mask.all(axis=1).sum() for mask in masks) == 8
    assert max(mask.all(axis=0).sum() for mask in masks) == 20


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_mixup_blends_examples_and_targets_alike(kind):
    X, targets = kind(7.0 * np.eye(8)[:5, None]), kind(np.eye(8)[:5])
    X_mixed, mixed = augment.mixup(X, targets, rng=np.random.default_rng(2), alpha=1.0)
    assert type(X_mixed) is type(X) and type(mixed) is type(targets) and X_mixed.shape == X.shape
    X_mixed, mixed = np.asarray(X_mixed), np.asarray(mixed)
    np.testing.assert_allclose(X_mixed[:, 0], 7 * mixed)
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    share = np.random.default_rng(2).beta(1.0, 1.0)
    assert all(np.isclose(own, (share, 1)).any() for own in mixed.diagonal())
    assert (mixed.max(axis=1) < 1).any()


def ridge(frame=60, band=20, shape=(64, 120)):
    """Silence, and in it one loud spot with slopes of 2 dB a band and frame."""
    bands, frames = np.ogrid[: shape[0], : shape[1]]
    return np.maximum(-80.0, -20.0 - 2 * np.abs(bands - band) - 2 * np.abs(frames - frame)).astype(np.float32)


def spot(S_db):
    return np.unravel_index(S_db.argmax(), S_db.shape)


STILL = {"max_shift_bands": 0.0, "max_stretch": 0.0, "max_gain_db": 0.0, "equalizer_db": 0.0}


def warped(S_db, seed, **options):
    return augment.SpectrogramWarp(**(STILL | options))(S_db, rng=np.random.default_rng(seed))


def test_a_warp_of_nothing_changes_nothing():
    S_db = ridge()
    np.testing.assert_allclose(warped(S_db, 0), S_db, atol=1e-5)
    assert S_db.max() == -20.0  # and leaves what it was given alone


def test_a_warp_moves_the_voice_within_its_range_and_up_as_often_as_down():
    moves = [spot(warped(ridge(), seed, max_shift_bands=3.0))[0] - 20 for seed in range(200)]
    assert {min(moves), max(moves)} == {-3, 3}
    assert abs(np.mean(moves)) < 0.5
    tempos = [60 / spot(warped(ridge(), seed, max_stretch=0.1))[1] for seed in range(200)]
    assert np.exp(-0.12) < min(tempos) < 0.93 and 1.08 < max(tempos) < np.exp(0.12)


def test_a_warp_changes_level_and_colour_of_what_is_heard_but_leaves_silence_silent():
    S_db = ridge()
    for options in ({"max_gain_db": 6.0}, {"equalizer_db": 4.0}):
        changed = warped(S_db, 3, **options)
        assert (changed[S_db == -80.0] == -80.0).all()
        assert changed.min() == -80.0
        differences = (changed - S_db)[(S_db > -60) & (changed > -79)]
        assert 0.1 < np.abs(differences).max() < 15
        assert (np.ptp(differences) < 1e-3) == ("max_gain_db" in options)  # a gain is the same everywhere


def test_a_quicker_clip_ends_in_silence_not_in_a_repetition():
    S_db = np.full((64, 120), -30.0, np.float32)
    quick = next(X for seed in range(20) if (X := warped(S_db, seed, max_stretch=0.2))[0, -1] == -80.0)
    n_heard = int((quick[0] > -80.0).sum())
    assert 98 <= n_heard < 120 and (quick[:, :n_heard] == -30.0).all()


def test_a_warp_repeats_itself_for_a_seed_alone():
    one, again, other = (augment.SpectrogramWarp()(ridge(), rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    assert one.dtype == np.float32


def in_channel(S_db, n=60, **options):
    """What a warp with a channel, and nothing else, makes of a spectrogram, from many draws."""
    off = {"max_reverb_s": 0.1, "max_cut_bands": 0, "max_noise_db": -200.0}
    return [warped(S_db, seed, channel_share=1.0, **(off | options)) for seed in range(n)]


def test_an_echo_follows_the_voice_and_does_not_go_before_it():
    S_db = np.full((64, 120), -80.0, np.float32)
    S_db[:, 40:50] = -20.0
    for echoed in in_channel(S_db, n=5, max_reverb_s=0.8):
        assert (echoed[:, :40] == -80.0).all()
        assert (np.diff(echoed[10, 49:80]) <= 0).all() and echoed[10, 51] > -80.0


def test_a_narrow_channel_loses_the_top_and_never_more_than_it_may():
    S_db = np.full((64, 120), -30.0, np.float32)
    lost = [int((cut[:, 60] < -60.0).sum()) for cut in in_channel(S_db, max_cut_bands=10)]
    assert (min(lost), max(lost)) == (0, 10)
    assert all((cut[:-10] > -31.0).all() for cut in in_channel(S_db, max_cut_bands=10))


def test_noise_fills_the_gaps_of_speech_but_not_what_comes_after_it():
    S_db = np.full((64, 120), -80.0, np.float32)
    S_db[20:30, :60] = -10.0
    for noisy in in_channel(S_db, n=20, max_noise_db=-25.0):
        assert (noisy[:, 70:] == -80.0).all()  # the shortest echo lasts 0.1 s, six frames
        level_db = 10 * np.log10(np.mean(10 ** (noisy[40:, :60] / 10)))
        assert -80.0 < level_db < -10.0 - 25.0 + 20.0  # its colour may lift a band by some 6 dB
        assert noisy[20:30, :60].min() > -13.0
