"""features: log-mel, MFCC, chroma, zero-crossing rate, RMS and pitch, by librosa; windows for the network."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import librosa
import numpy as np
from threadpoolctl import ThreadpoolController

from sercore.audio import MAX_SR, MIN_SR, check_waveform, level_dbfs, trim_silence
from sercore.errors import AudioError, ConfigError

LEVELS = ("fixed", "clip")
#: Range searched for the pitch of a voice: low men to screaming women.
PITCH_HZ = (60.0, 700.0)
#: What `prosody` measures, in its order.
PROSODY = ("duration_s", "level_dbfs", "pitch_hz", "pitch_range_semitones")
_PART_FRAMES = 4_096
#: Raised whenever this room, audio or augment computes other numbers: cached features of old are then not read.
FEATURES_VERSION = 4

#: What a configuration from a file may hold: whole numbers where both ends are whole.
_RANGES = {
    "sr": (MIN_SR, MAX_SR),
    "n_fft": (2, 65_536),
    "win_length": (1, 65_536),
    "hop_length": (1, 65_536),
    "n_mels": (1, 1_024),
    "fmin_hz": (0.0, MAX_SR / 2),
    "fmax_hz": (0.0, MAX_SR / 2),
    "n_mfcc": (1, 1_024),
    "trim_db": (1.0, 200.0),
    "db_floor": (-200.0, 0.0),
    "db_center": (-200.0, 200.0),
    "db_scale": (0.001, 1_000.0),
    "n_frames": (1, 20_000),
}


@dataclass(frozen=True)
class FeatureConfig:
    """How a waveform becomes features; kept inside every checkpoint."""

    sr: int = 16_000
    n_fft: int = 1024
    #: A window of 40 ms every 16 ms.
    win_length: int = 640
    hop_length: int = 256
    n_mels: int = 64
    fmin_hz: float = 50.0
    fmax_hz: float = 8_000.0
    n_mfcc: int = 20
    #: Quiet ends further below the loudest frame are cut; None keeps them.
    trim_db: float | None = 35.0
    #: "fixed": dB relative to full scale, so loudness is kept; "clip": relative to the clip's loudest bin.
    level: str = "fixed"
    #: Lowest value of a spectrogram, and the value of padding.
    db_floor: float = -80.0
    #: The network sees ``(S_db - db_center) / db_scale``.
    db_center: float = -50.0
    db_scale: float = 20.0
    #: Frames the network sees at once: 2.8 s, longer than most trimmed RAVDESS clips.
    n_frames: int = 176

    def __post_init__(self):
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if name == "trim_db" and value is None:
                continue
            kinds = int if isinstance(low, int) else int | float
            if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
                number = "a whole number" if kinds is int else "a number"
                raise ConfigError(f"Bad {name} {value!r}: expected {number} from {low} to {high}.")
        if self.level not in LEVELS:
            raise ConfigError(f"Bad level {self.level!r}: expected one of {list(LEVELS)}.")
        if not self.fmin_hz < self.fmax_hz <= self.sr / 2:
            raise ConfigError(
                f"Bad mel band {self.fmin_hz} to {self.fmax_hz} Hz: "
                f"expected 0 <= fmin_hz < fmax_hz <= {self.sr / 2:.0f}."
            )
        if not self.hop_length <= self.win_length <= self.n_fft:
            raise ConfigError(
                f"Bad frames: hop_length {self.hop_length}, win_length {self.win_length}, n_fft {self.n_fft}; "
                "expected 0 < hop_length <= win_length <= n_fft."
            )

    @property
    def window_s(self) -> float:
        """Seconds the network sees at once."""
        return self.n_frames * self.hop_length / self.sr


def _check(y, sr, config):
    if sr != config.sr:
        raise AudioError(f"Bad rate {sr} Hz: expected {config.sr} Hz, at which the features are set; load it at that.")
    return check_waveform(y)


def log_mel(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Compute a log-mel spectrogram in dB.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
        Mono waveform, full scale ±1.
    sr : int > 0 [Hz]
        Must be `config.sr`.
    config : FeatureConfig

    Returns
    -------
    S_db : np.ndarray [shape=(config.n_mels, n_frames)]
        float32, level handled as `config.level` says, no lower than `config.db_floor`.

    Raises
    ------
    AudioError
        If `y` is empty, silent, not mono or not finite, or `sr` is not the configured rate.

    Examples
    --------
    >>> y = load_audio("clip.wav", sr=16_000)
    >>> S_db = log_mel(y, sr=16_000)
    """
    # Long recordings part by part: the complex spectrum of five minutes takes 75 MB.
    y, half, step = _check(y, sr, config), config.n_fft // 2, _PART_FRAMES * config.hop_length
    padded = np.pad(y, half)
    parts = [padded[k : k + step - config.hop_length + config.n_fft] for k in range(0, max(1, len(y) + 1), step)]
    S = np.concatenate([_mel_power(part, config) for part in parts if len(part) >= config.n_fft], axis=1)
    S_db = 10 * np.log10(np.maximum(S, 1e-10))
    return np.maximum(S_db if config.level == "fixed" else S_db - S_db.max(), config.db_floor)


def _mel_power(padded, config):
    # As librosa does, but without numba, which takes longer to load than all else: a test holds its values.
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]
    return mel_filters(config) @ np.square(np.abs(np.fft.rfft(frames * hann(config)))).astype(np.float32).T


def hann(config: FeatureConfig) -> np.ndarray:
    """Give the Hann window of a frame, in the middle of zeros [shape=(n_fft,)]."""
    left, n = (config.n_fft - config.win_length) // 2, config.win_length
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    return np.pad(window, (left, config.n_fft - n - left))


@lru_cache(maxsize=8)
def mel_filters(config: FeatureConfig) -> np.ndarray:
    """Give the triangles of Slaney's Auditory Toolbox (1998), as `librosa.filters.mel` [shape=(n_mels, n_fft / 2 + 1)]."""
    step = np.log(6.4) / 27  # 15 mel to 1000 Hz, from there on logarithmic
    ends = [f * 3 / 200 if f < 1000 else 15 + np.log(f / 1000) / step for f in (config.fmin_hz, config.fmax_hz)]
    mels = np.linspace(*ends, config.n_mels + 2)
    hz = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp(step * (mels - 15)))[:, None]
    ramps = hz - np.fft.rfftfreq(config.n_fft, 1 / config.sr)
    rise, fall = -ramps[:-2] / np.diff(hz, axis=0)[:-1], ramps[2:] / np.diff(hz, axis=0)[1:]
    return (np.maximum(0, np.minimum(rise, fall)) * 2 / (hz[2:] - hz[:-2])).astype(np.float32)


def mfcc(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Compute mel-frequency cepstral coefficients, the DCT of `log_mel` [shape=(config.n_mfcc, n_frames)]."""
    return _cepstrum(log_mel(y, sr=sr, config=config), config)


def _cepstrum(S_db, config):
    return librosa.feature.mfcc(S=S_db, n_mfcc=config.n_mfcc).astype(np.float32)


def chroma(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Compute the energy of the twelve pitch classes, as `log_mel` [shape=(12, n_frames)].

    Each frame is scaled to a maximum of one. Tuning is taken as A440: estimating it on speech is noise.
    """
    y = _check(y, sr, config)
    C = librosa.feature.chroma_stft(
        y=y, sr=sr, n_fft=config.n_fft, win_length=config.win_length, hop_length=config.hop_length, tuning=0.0
    )
    return C.astype(np.float32)


def zero_crossing_rate(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Compute the share of samples at which the sign changes, as `log_mel` [shape=(1, n_frames)]."""
    y = _check(y, sr, config)
    rate = librosa.feature.zero_crossing_rate(y, frame_length=config.n_fft, hop_length=config.hop_length)
    return rate.astype(np.float32)


def rms(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Compute the root-mean-square amplitude, full scale 1, as `log_mel` [shape=(1, n_frames)]."""
    y = _check(y, sr, config)
    return librosa.feature.rms(y=y, frame_length=config.n_fft, hop_length=config.hop_length).astype(np.float32)


def pitch(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Follow the fundamental frequency by YIN (de Cheveigné & Kawahara 2002, JASA 111(4), doi:10.1121/1.1458024).

    A frame is voiced if it is within 30 dB of the loudest one and repeats itself: its autocorrelation at the
    period found is above 0.6. Medians over a clip come within about a semitone of `librosa.pyin`, ten times as fast.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    f0_hz : np.ndarray [shape=(1, n_frames)]
        In Hz, within `PITCH_HZ`; NaN where the voice does not sound.

    Examples
    --------
    >>> f0_hz = pitch(y, sr=16_000)[0]
    >>> np.nanmedian(f0_hz)
    """
    y, n = _check(y, sr, config), config.n_fft
    f0_hz = librosa.yin(y, sr=sr, fmin=PITCH_HZ[0], fmax=PITCH_HZ[1], frame_length=n, hop_length=config.hop_length)
    frames = librosa.util.frame(np.pad(y, n // 2), frame_length=n, hop_length=config.hop_length).T
    level_db = librosa.power_to_db(np.square(frames).mean(axis=1), amin=1e-10, top_db=None)
    for k, (frame, period) in enumerate(zip(frames, np.round(sr / f0_hz).astype(int), strict=True)):
        early, late = frame[:-period], frame[period:]
        repeats = early @ late > 0.6 * np.sqrt((early @ early) * (late @ late))
        if not repeats or level_db[k] <= level_db.max() - 30:
            f0_hz[k] = np.nan
    return f0_hz[None].astype(np.float32)


def prosody(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Sum up how a clip is spoken, in the order of `PROSODY` [shape=(4,)]: how long, loud, high and lively.

    Pitch is the median, its range the distance of the 10th and 90th percentile; both are NaN if nothing is voiced.
    """
    y = _check(y, sr, config)
    f0_hz = pitch(y, sr=sr, config=config)
    voiced = f0_hz[np.isfinite(f0_hz)]
    low, median, high = np.percentile(voiced, (10, 50, 90)) if len(voiced) else (np.nan,) * 3
    return np.array([len(y) / sr, level_dbfs(y), median, 12 * np.log2(high / low)], dtype=np.float32)


def functionals(y: np.ndarray, *, sr: int, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Stack the means over time of zero crossings, RMS, chroma, MFCC and log-mel, then their deviations, in a vector."""
    S_db = log_mel(y, sr=sr, config=config)
    others = [track(y, sr=sr, config=config) for track in (zero_crossing_rate, rms, chroma)]
    tracks = np.concatenate([*others, _cepstrum(S_db, config), S_db])
    return np.concatenate([tracks.mean(axis=1), tracks.std(axis=1)]).astype(np.float32)


KINDS: dict[str, Callable] = {
    "zero_crossing_rate": zero_crossing_rate, "rms": rms, "chroma": chroma, "mfcc": mfcc, "log_mel": log_mel,
    "functionals": functionals, "pitch": pitch, "prosody": prosody,
}  # fmt: skip


def one_thread():
    """Keep numpy's matrix products on one thread, as a context.

    For a clip more threads only wait, for each other and for torch's: an answer takes twice as long. They also add up in
    another order, which gives other last bits.
    """
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries():
    return ThreadpoolController()  # to look for them takes 2 ms


def compute(y: np.ndarray, *, config: FeatureConfig = FeatureConfig(), kind: str = "log_mel") -> np.ndarray:
    """Trim a waveform at `config.sr` and compute one of `KINDS`: the one path of training and prediction."""
    if kind not in KINDS:
        raise ConfigError(f"Bad feature {kind!r}: expected one of {list(KINDS)}.")
    return KINDS[kind](trim(y, config=config), sr=config.sr, config=config)


def trim(y: np.ndarray, *, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Cut the quiet ends off a waveform, as `config.trim_db` says."""
    return y if config.trim_db is None else trim_silence(check_waveform(y), top_db=config.trim_db)


def to_windows(S_db: np.ndarray, *, config: FeatureConfig = FeatureConfig()) -> np.ndarray:
    """Cut a log-mel spectrogram into what the network sees at once [shape=(n_windows, n_mels, n_frames)], scaled.

    A clip that fits is one window, padded at its end with `config.db_floor`; neighbouring windows of a longer one
    have at least half in common. A vector has no frames and is one window as it stands.
    """
    if S_db.ndim == 1:
        return S_db[None]
    n_frames, n = config.n_frames, S_db.shape[1]
    if n <= n_frames:
        windows = [np.pad(S_db, ((0, 0), (0, n_frames - n)), constant_values=config.db_floor)]
    else:
        n_windows = 1 + int(np.ceil((n - n_frames) / (n_frames / 2)))
        starts = np.linspace(0, n - n_frames, n_windows).round().astype(int)
        windows = [S_db[:, start : start + n_frames] for start in starts]
    return ((np.stack(windows) - config.db_center) / config.db_scale).astype(np.float32)
