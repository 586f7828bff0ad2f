"""augment: change a waveform, a spectrogram or a batch; by chance for training clips only, or to clean a recording."""

import random
from dataclasses import dataclass
from functools import lru_cache

import audiomentations
import librosa
import numpy as np
import scipy.signal
import soxr

from sercore.audio import check_waveform, level_dbfs
from sercore.corpora.synthetic import synthesize
from sercore.errors import ConfigError
from sercore.labels import EMOTIONS

#: Decibels of power to natural logarithms.
_NEPER = np.log(10) / 10


def _transformed(transform, y, *, sr, rng=None):
    """Apply one of audiomentations, which draws from the global generators, and leave those as they were."""
    y = check_waveform(y)
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    if rng is not None:
        seed = int(rng.integers(2**32))
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
    try:
        return transform(y, sample_rate=sr)
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


def _check_range(name, value, low, high):
    if not low <= value <= high:
        raise ConfigError(f"Bad {name} {value!r}: expected {low} to {high}.")


def add_noise(y: np.ndarray, *, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise; `snr_db` is the ratio of the powers of `y` and of the noise, over the whole clip."""
    transform = audiomentations.AddGaussianSNR(min_snr_db=snr_db, max_snr_db=snr_db, p=1.0)
    return _transformed(transform, y, sr=16_000, rng=rng)


def add_babble(y: np.ndarray, *, sr: int, snr_db: float, rng: np.random.Generator, n_talkers: int = 8) -> np.ndarray:
    """Add the talk of a crowd, spoken by the synthesiser: other people's voices, but nobody's recording.

    `snr_db` is as in `add_noise`. Not clipped: at a low ratio the result may pass full scale.
    """
    y = check_waveform(y)
    crowd = np.zeros(len(y), dtype=np.float32)
    for _ in range(n_talkers):
        voice = _talk(int(rng.integers(1, 25)), sr)
        crowd += np.resize(np.roll(voice, int(rng.integers(len(voice)))), len(y))
    return y + crowd * np.sqrt(np.mean(y**2) / np.mean(crowd**2)) * np.float32(10 ** (-snr_db / 20))


@lru_cache(maxsize=24)
def _talk(speaker, sr):
    """What one talker of a crowd says, over and over: both sentences, in every emotion, equally loud."""
    parts = [synthesize(emotion, speaker=speaker, statement=k, sr=sr) for emotion in EMOTIONS for k in (1, 2)]
    return np.concatenate([part / np.std(part) for part in parts])


def pitch_shift(y: np.ndarray, *, sr: int, semitones: float) -> np.ndarray:
    """Move the pitch, and the formants with it, by -12 to 12 semitones; the duration stays."""
    _check_range("semitones", semitones, -12, 12)
    transform = audiomentations.PitchShift(min_semitones=semitones, max_semitones=semitones, p=1.0)
    return _transformed(transform, y, sr=sr)


def time_stretch(y: np.ndarray, *, sr: int, rate: float) -> np.ndarray:
    """Change the tempo, 0.25 to 4 times, above 1 faster; the pitch stays."""
    _check_range("rate", rate, 0.25, 4)
    transform = audiomentations.TimeStretch(min_rate=rate, max_rate=rate, leave_length_unchanged=False, p=1.0)
    return _transformed(transform, y, sr=sr)


def time_shift(y: np.ndarray, *, sr: int, shift_s: float) -> np.ndarray:
    """Move the clip later, or earlier if negative, and fill with silence: nothing wraps around."""
    _check_range("shift_s", abs(shift_s), 0, len(y) / sr)
    transform = audiomentations.Shift(min_shift=shift_s, max_shift=shift_s, shift_unit="seconds", rollover=False, p=1.0)
    return _transformed(transform, y, sr=sr)


def change_speed(y: np.ndarray, *, sr: int, factor: float) -> np.ndarray:
    """Play 0.25 to 4 times as fast, as a tape would: tempo, pitch and formants move together."""
    _check_range("factor", factor, 0.25, 4)
    return np.clip(soxr.resample(check_waveform(y), sr, sr / factor, quality="HQ"), -1.0, 1.0)


def change_gain(y: np.ndarray, *, gain_db: float) -> np.ndarray:
    """Change the level; what passes full scale is clipped, as a recorder would."""
    return np.clip(check_waveform(y) * 10.0 ** (gain_db / 20.0), -1.0, 1.0).astype(np.float32)


def bandpass(y: np.ndarray, *, sr: int, low_hz: float = 80.0, high_hz: float = 7_600.0) -> np.ndarray:
    """Keep the band of the voice, without hum and rumble below and hiss above; ConfigError for an impossible band.

    A fourth-order Butterworth filter is run forwards and backwards, so that nothing moves in time.

    >>> clean = bandpass(load_audio("noisy.wav", sr=16_000), sr=16_000, low_hz=100, high_hz=7_000)
    """
    if not 0 < low_hz < high_hz < sr / 2:
        raise ConfigError(
            f"Bad band {low_hz} to {high_hz} Hz: expected 0 < low_hz < high_hz < {sr / 2:.0f} (half of sr)."
        )
    sos = scipy.signal.butter(4, (low_hz, high_hz), btype="bandpass", fs=sr, output="sos")
    return scipy.signal.sosfiltfilt(sos, y, padlen=min(len(y) - 1, 3 * 9)).astype(np.float32)


def normalize_level(y: np.ndarray, *, target_dbfs: float = -23.0) -> np.ndarray:
    """Bring a recording to an RMS level [dBFS], or to a lower one where its peaks would pass full scale.

    The default is EBU R 128's programme level.

    >>> level_dbfs(normalize_level(load_audio("quiet.wav")))
    -23.0
    """
    y = check_waveform(y)
    gain = 10.0 ** ((target_dbfs - level_dbfs(y)) / 20.0)
    return (y * min(gain, 1.0 / np.abs(y).max())).astype(np.float32)


@dataclass(frozen=True)
class WaveformAugment:
    """Draw one variation of a waveform: stretch, pitch, gain and noise, each uniformly within its range.

    Rates are those of `time_stretch`, semitones of `pitch_shift` and the gain of `change_gain` (both either way), and
    the ratio is that of `add_noise`.

    >>> vary = WaveformAugment(max_semitones=1.0)
    >>> varied = vary(y, sr=16_000, rng=np.random.default_rng(0))
    """

    min_rate: float = 0.85
    max_rate: float = 1.2
    max_semitones: float = 2.5
    max_gain_db: float = 6.0
    min_snr_db: float = 10.0
    max_snr_db: float = 30.0

    def __call__(self, y: np.ndarray, *, sr: int, rng: np.random.Generator) -> np.ndarray:
        """Vary a waveform; its length changes with the tempo."""
        rate = rng.uniform(self.min_rate, self.max_rate)
        semitones = rng.uniform(-self.max_semitones, self.max_semitones)
        gain_db = rng.uniform(-self.max_gain_db, self.max_gain_db)
        snr_db = rng.uniform(self.min_snr_db, self.max_snr_db)
        y = time_stretch(y, sr=sr, rate=rate)
        y = pitch_shift(y, sr=sr, semitones=semitones)
        y = change_gain(y, gain_db=gain_db)
        return add_noise(y, snr_db=snr_db, rng=rng)


def mask_spectrogram(
    X: np.ndarray, *, rng: np.random.Generator, max_bands: int = 8, max_frames: int = 20
) -> np.ndarray:
    """Hide one band of frequencies and one stretch of time of a copy by zeros, each of a width from 0 to the largest.

    Park et al. (2019), "SpecAugment", Interspeech, doi:10.21437/Interspeech.2019-2680.
    """
    X = X.copy()
    for axis, widest in ((0, max_bands), (1, max_frames)):
        width = int(rng.integers(0, min(widest, X.shape[axis]) + 1))
        start = int(rng.integers(0, X.shape[axis] - width + 1))
        X[(slice(None),) * axis + (slice(start, start + width),)] = 0.0
    return X


@dataclass(frozen=True)
class SpectrogramWarp:
    """Draw one variation of a log-mel spectrogram: another tempo, pitch, level, room and microphone.

    Coarser than the same change of the waveform, and so cheap that every clip can be changed anew every epoch.
    """

    #: Voice and formants move up or down by as many mel bands.
    max_shift_bands: float = 2.0
    #: Tempo, either way, as a share.
    max_stretch: float = 0.1
    max_gain_db: float = 5.0
    #: Twice the deviation of the gain at five points of the mel axis, with straight lines between them.
    equalizer_db: float = 3.0
    #: How often each of the following happens.
    channel_share: float = 0.0
    #: Longest time in which the echo of a room falls by 60 dB.
    max_reverb_s: float = 0.6
    #: Most bands that a narrow channel, such as a telephone, leaves out at the top.
    max_cut_bands: int = 24
    #: Loudest noise, relative to the loudest band and frame; the softest is 40 dB below that.
    max_noise_db: float = -25.0

    def __call__(
        self, S_db: np.ndarray, *, rng: np.random.Generator, floor_db: float = -80.0, hop_s: float = 0.016
    ) -> np.ndarray:
        """Vary a spectrogram, keeping its shape: what becomes longer is cut, what becomes shorter ends in silence.

        `floor_db` stands for silence, which stays silent; `hop_s` is the time from frame to frame.
        """
        n_mels, n_frames = S_db.shape
        tempo = np.exp(rng.uniform(-self.max_stretch, self.max_stretch))
        shift = rng.uniform(-self.max_shift_bands, self.max_shift_bands)
        gain_db = rng.uniform(-self.max_gain_db, self.max_gain_db)
        points_db = rng.normal(0.0, self.equalizer_db / 2, 5)
        S_db = _between(S_db, tempo * np.arange(n_frames), axis=1, fill=floor_db)
        # The lowest and highest band stand for what lies beyond them: a voice has no edge there.
        S_db = _between(S_db, np.clip(np.arange(n_mels) - shift, 0, n_mels - 1), axis=0, fill=floor_db)
        reverb, cut, noise = rng.random(3) < self.channel_share
        if reverb:
            reverb_s = rng.uniform(0.1, self.max_reverb_s)
            S_db = _echo(S_db, reverb_s, hop_s, wet_db=rng.uniform(-20.0, -5.0), floor_db=floor_db)
        curve_db = gain_db + np.interp(np.linspace(0, 4, n_mels), np.arange(5), points_db)
        S_db = np.where(S_db > floor_db + 0.5, S_db + curve_db[:, None], S_db)
        if cut:
            S_db[n_mels - int(rng.integers(self.max_cut_bands + 1)) :] -= 40.0
        if noise:
            level_db = S_db.max() + self.max_noise_db - rng.uniform(0.0, 40.0)
            hiss_db = level_db + np.interp(np.linspace(0, 4, n_mels), np.arange(5), rng.normal(0.0, 6.0, 5))[:, None]
            hiss_db = hiss_db + librosa.power_to_db(rng.exponential(1.0, S_db.shape), top_db=None)
            lasts = (S_db > floor_db + 0.5).any(axis=0)
            S_db[:, lasts] = np.logaddexp(S_db * _NEPER, hiss_db * _NEPER)[:, lasts] / _NEPER
        return np.maximum(S_db, floor_db).astype(np.float32)


def _echo(S_db, reverb_s, hop_s, wet_db, floor_db):
    """Let the energy of every band die away, and mix that with what came directly (Polack's model of a room)."""
    fall = 10 ** (-6 * hop_s / reverb_s)
    power = np.where(S_db > floor_db + 0.5, librosa.db_to_power(S_db), 0.0)
    tail = scipy.signal.lfilter([0.0, fall], [1.0, -fall], power, axis=1)
    return librosa.power_to_db(power + 10 ** (wet_db / 10) * tail, amin=10 ** (floor_db / 10), top_db=None)


def _between(S, positions, *, axis, fill):
    """Read `S` between its rows or columns; past the last one there is `fill`."""
    last = S.shape[axis] - 1
    below = np.minimum(np.floor(positions).astype(int), last)
    above, share = np.minimum(below + 1, last), positions - below
    share, beyond = (np.expand_dims(part, 1 - axis) for part in (share, positions > last))
    mixed = (1 - share) * np.take(S, below, axis=axis) + share * np.take(S, above, axis=axis)
    return np.where(beyond, fill, mixed)


def mixup(X, targets, *, rng: np.random.Generator, alpha: float = 0.2):
    """Blend each example of a batch, array or tensor, and its target (probabilities) with another one.

    The share is drawn from Beta(alpha, alpha). Zhang et al. (2018), ICLR, arXiv:1710.09412.
    """
    if alpha <= 0:
        raise ConfigError(f"Bad alpha {alpha!r}: expected a number above 0.")
    share = float(rng.beta(alpha, alpha))
    other = rng.permutation(len(X))
    return share * X + (1 - share) * X[other], share * targets + (1 - share) * targets[other]
