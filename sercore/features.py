"""features: log-mel, MFCC, chroma, zero-crossing rate and RMS by librosa, and the cache that keeps them."""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np
import soxr
from joblib import Parallel, delayed
from tqdm.auto import tqdm

from sercore import settings
from sercore.audio import check_waveform, level_dbfs, load_audio, trim_silence
from sercore.errors import AudioError, ConfigError

logger = logging.getLogger(__name__)

LEVELS = ("fixed", "clip")
#: Range searched for the pitch of a voice: low men to screaming women.
PITCH_HZ = (60.0, 700.0)
#: What `prosody` measures, in its order.
PROSODY = ("duration_s", "level_dbfs", "pitch_hz", "pitch_range_semitones")
#: Raised whenever the code below computes other numbers than before: cached features of old are then never read.
FEATURES_VERSION = 2


@dataclass(frozen=True)
class FeatureConfig:
    """How a waveform becomes features; kept inside every checkpoint.

    Attributes
    ----------
    sr : int [Hz]
    n_fft, win_length, hop_length : int [samples]
        At 16 kHz: a 40 ms window every 16 ms.
    n_mels : int
    fmin_hz, fmax_hz : float [Hz]
        Edges of the mel filter bank.
    n_mfcc : int
    trim_db : float [dB] or None
        Quiet ends further below the loudest frame are cut; None keeps them.
    level : {"fixed", "clip"}
        "fixed": dB relative to full scale, so loudness is kept; "clip": relative to the clip's loudest bin.
    db_floor : float [dB]
        Lowest value of a spectrogram, and the value of padding.
    db_center, db_scale : float [dB]
        The network sees ``(S_db - db_center) / db_scale``.
    n_frames : int
        Frames the network sees at once: 176 are 2.8 s, longer than most trimmed RAVDESS clips.
    """

    sr: int = 16_000
    n_fft: int = 1024
    win_length: int = 640
    hop_length: int = 256
    n_mels: int = 64
    fmin_hz: float = 50.0
    fmax_hz: float = 8_000.0
    n_mfcc: int = 20
    trim_db: float | None = 35.0
    level: str = "fixed"
    db_floor: float = -80.0
    db_center: float = -50.0
    db_scale: float = 20.0
    n_frames: int = 176

    def __post_init__(self):
        if self.level not in LEVELS:
            raise ConfigError(f"Bad level {self.level!r}: expected one of {list(LEVELS)}.")
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sr / 2:
            raise ConfigError(
                f"Bad mel band {self.fmin_hz} to {self.fmax_hz} Hz: expected 0 <= fmin_hz < fmax_hz <= {self.sr / 2:.0f}."
            )
        if not 0 < self.hop_length <= self.win_length <= self.n_fft:
            raise ConfigError(
                f"Bad frames: hop_length {self.hop_length}, win_length {self.win_length}, n_fft {self.n_fft}; "
                "expected 0 < hop_length <= win_length <= n_fft."
            )

    @property
    def window_s(self):
        """Seconds the network sees at once."""
        return self.n_frames * self.hop_length / self.sr


def _check(y, sr, config):
    if sr != config.sr:
        raise AudioError(
            f"Bad rate {sr} Hz: expected config.sr = {config.sr} Hz; load_audio(…, sr={config.sr}) resamples."
        )
    return check_waveform(y)


def _mel_power(y, config):
    return librosa.feature.melspectrogram(
        y=y,
        sr=config.sr,
        n_fft=config.n_fft,
        win_length=config.win_length,
        hop_length=config.hop_length,
        n_mels=config.n_mels,
        fmin=config.fmin_hz,
        fmax=config.fmax_hz,
    )


def log_mel(y, *, sr, config=FeatureConfig()):
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
    """
    S = _mel_power(_check(y, sr, config), config)
    reference = 1.0 if config.level == "fixed" else max(float(S.max()), 1e-10)
    S_db = librosa.power_to_db(S, ref=reference, amin=1e-10, top_db=None)
    return np.maximum(S_db, config.db_floor).astype(np.float32)


def mfcc(y, *, sr, config=FeatureConfig()):
    """Compute mel-frequency cepstral coefficients: the DCT of the log-mel spectrogram.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    M : np.ndarray [shape=(config.n_mfcc, n_frames)]
    """
    return librosa.feature.mfcc(S=log_mel(y, sr=sr, config=config), n_mfcc=config.n_mfcc).astype(np.float32)


def chroma(y, *, sr, config=FeatureConfig()):
    """Compute the energy of the twelve pitch classes from the short-time spectrum.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    C : np.ndarray [shape=(12, n_frames)]
        Each frame scaled to a maximum of one. Tuning is taken as A440: estimating it on speech is noise.
    """
    y = _check(y, sr, config)
    C = librosa.feature.chroma_stft(
        y=y, sr=sr, n_fft=config.n_fft, win_length=config.win_length, hop_length=config.hop_length, tuning=0.0
    )
    return C.astype(np.float32)


def zero_crossing_rate(y, *, sr, config=FeatureConfig()):
    """Compute the share of samples at which the waveform changes sign.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    rate : np.ndarray [shape=(1, n_frames)]
        In [0, 1].
    """
    y = _check(y, sr, config)
    rate = librosa.feature.zero_crossing_rate(y, frame_length=config.n_fft, hop_length=config.hop_length)
    return rate.astype(np.float32)


def rms(y, *, sr, config=FeatureConfig()):
    """Compute the root-mean-square amplitude.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    amplitude : np.ndarray [shape=(1, n_frames)]
        Full scale 1.
    """
    y = _check(y, sr, config)
    return librosa.feature.rms(y=y, frame_length=config.n_fft, hop_length=config.hop_length).astype(np.float32)


def pitch(y, *, sr, config=FeatureConfig()):
    """Follow the fundamental frequency of the voice by YIN.

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

    References
    ----------
    de Cheveigné & Kawahara (2002), "YIN", JASA 111(4), doi:10.1121/1.1458024.
    """
    y, n = _check(y, sr, config), config.n_fft
    f0_hz = librosa.yin(y, sr=sr, fmin=PITCH_HZ[0], fmax=PITCH_HZ[1], frame_length=n, hop_length=config.hop_length)
    frames = librosa.util.frame(np.pad(y, n // 2), frame_length=n, hop_length=config.hop_length).T
    level_db = librosa.power_to_db(np.square(frames).mean(axis=1), amin=1e-10, top_db=None)
    for k, (frame, period) in enumerate(zip(frames, np.round(sr / f0_hz).astype(int), strict=True)):
        early, late = frame[:-period], frame[period:]
        repeats = early @ late > 0.6 * np.sqrt((early @ early) * (late @ late))
        f0_hz[k] = f0_hz[k] if repeats and level_db[k] > level_db.max() - 30 else np.nan
    return f0_hz[None].astype(np.float32)


def prosody(y, *, sr, config=FeatureConfig()):
    """Sum up how a clip is spoken: how long, how loud, how high, how lively.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    vector : np.ndarray [shape=(4,)]
        In the order of `PROSODY`: duration, RMS level, median of `pitch`, and the distance between its 10th and
        90th percentile. Both of pitch are NaN if no frame is voiced.
    """
    y = _check(y, sr, config)
    f0_hz = pitch(y, sr=sr, config=config)
    voiced = f0_hz[np.isfinite(f0_hz)]
    low, median, high = np.percentile(voiced, (10, 50, 90)) if len(voiced) else (np.nan,) * 3
    return np.array([len(y) / sr, level_dbfs(y), median, 12 * np.log2(high / low)], dtype=np.float32)


def functionals(y, *, sr, config=FeatureConfig()):
    """Stack mean and standard deviation over time of every feature into one vector.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    vector : np.ndarray [shape=(2 * (2 + 12 + config.n_mfcc + config.n_mels),)]
        `functional_names` names its entries.
    """
    tracks = np.concatenate([track(y, sr=sr, config=config) for track in _TRACKS.values()])
    return np.concatenate([tracks.mean(axis=1), tracks.std(axis=1)]).astype(np.float32)


def functional_names(config=FeatureConfig()):
    """Name the entries of `functionals`.

    Parameters
    ----------
    config : FeatureConfig

    Returns
    -------
    names : list of str
        Such as "mfcc_3_mean".
    """
    sizes = {"zero_crossing_rate": 1, "rms": 1, "chroma": 12, "mfcc": config.n_mfcc, "log_mel": config.n_mels}
    return [f"{kind}_{k}_{s}" for s in ("mean", "std") for kind in _TRACKS for k in range(sizes[kind])]


def egemaps(y, *, sr, config=FeatureConfig()):
    """Compute openSMILE's 88 functionals of eGeMAPSv02; an optional extra.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    vector : np.ndarray [shape=(88,)]

    Raises
    ------
    ConfigError
        If the extra is not installed.

    References
    ----------
    Eyben et al. (2016), "The Geneva Minimalistic Acoustic Parameter Set", doi:10.1109/TAFFC.2015.2457417.
    """
    return _smile("eGeMAPSv02").process_signal(_check(y, sr, config), sr).to_numpy(np.float32)[0]


def compare(y, *, sr, config=FeatureConfig()):
    """Compute openSMILE's 6373 functionals of ComParE 2016; an optional extra.

    Parameters
    ----------
    y, sr, config
        As in `log_mel`.

    Returns
    -------
    vector : np.ndarray [shape=(6373,)]

    Raises
    ------
    ConfigError
        If the extra is not installed.

    References
    ----------
    Schuller et al. (2016), "The INTERSPEECH 2016 Computational Paralinguistics Challenge",
    doi:10.21437/Interspeech.2016-129.
    """
    return _smile("ComParE_2016").process_signal(_check(y, sr, config), sr).to_numpy(np.float32)[0]


@lru_cache
def _smile(feature_set):
    try:
        import opensmile
    except ImportError as error:
        raise ConfigError("No opensmile: these functionals need `pip install 'sercore[opensmile]'`.") from error
    return opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)


_TRACKS = {"zero_crossing_rate": zero_crossing_rate, "rms": rms, "chroma": chroma, "mfcc": mfcc, "log_mel": log_mel}
KINDS = _TRACKS | {
    "functionals": functionals, "pitch": pitch, "prosody": prosody, "egemaps": egemaps, "compare": compare,
}  # fmt: skip


def compute(y, *, config=FeatureConfig(), kind="log_mel"):
    """Trim a waveform and compute one kind of feature: the one path of training and prediction.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
        At `config.sr`.
    config : FeatureConfig
    kind : str
        A key of `KINDS`.

    Returns
    -------
    feature : np.ndarray [shape=(k, n_frames)], or (k,) for "functionals" and "prosody"

    Raises
    ------
    ConfigError
        If `kind` is not known.
    AudioError
        As `log_mel`.
    """
    if kind not in KINDS:
        raise ConfigError(f"Bad feature {kind!r}: expected one of {list(KINDS)}.")
    return KINDS[kind](_trim(y, config), sr=config.sr, config=config)


def _trim(y, config):
    return y if config.trim_db is None else trim_silence(check_waveform(y), top_db=config.trim_db)


def to_windows(S_db, *, config=FeatureConfig(), overlap=0.5):
    """Cut a log-mel spectrogram into what the network sees at once, scaled for it.

    Parameters
    ----------
    S_db : np.ndarray [shape=(config.n_mels, n)]
        Or a vector, such as `functionals`, which has no frames: it is one window as it stands.
    config : FeatureConfig
    overlap : float in [0, 1)
        Share that neighbouring windows of a long clip have in common, at least.

    Returns
    -------
    X : np.ndarray [shape=(n_windows, config.n_mels, config.n_frames)]
        A clip that fits is padded at its end with `config.db_floor`, and is one window.
    """
    if S_db.ndim == 1:
        return S_db[None]
    n_frames, n = config.n_frames, S_db.shape[1]
    if n <= n_frames:
        windows = [np.pad(S_db, ((0, 0), (0, n_frames - n)), constant_values=config.db_floor)]
    else:
        n_windows = 1 + int(np.ceil((n - n_frames) / (n_frames * (1 - overlap))))
        starts = np.linspace(0, n - n_frames, n_windows).round().astype(int)
        windows = [S_db[:, start : start + n_frames] for start in starts]
    return ((np.stack(windows) - config.db_center) / config.db_scale).astype(np.float32)


def extract(clips, *, config=FeatureConfig(), kind="log_mel", augment=None, copies=0, seed=settings.SEED,
            n_jobs=-1, cache=True, on_error="raise", progress=True):  # fmt: skip
    """Compute a feature of every clip, in parallel, into a cache on disk.

    The cache is keyed by the bytes of the audio file, `config`, `kind`, the augmentation and the versions
    of what computes it, so it is never stale; each entry is written whole or not at all, so a run that
    was killed goes on where it was.

    Parameters
    ----------
    clips : pd.DataFrame
        A clip table; only ``path`` is read.
    config : FeatureConfig
    kind : str
        A key of `KINDS`.
    augment : callable ``augment(y, *, sr, rng) -> y``, optional
        A frozen dataclass such as `sercore.augment.WaveformAugment`, whose ``repr`` is part of the key.
    copies : int
        With `augment`: augmented copies of each clip, each with draws of its own.
    seed : int
    n_jobs : int
        Processes; -1 is all cores. `joblib.parallel_config` can send the work to a cluster.
    cache : bool or Path
        True: `settings.cache_dir()`. False: no cache.
    on_error : {"raise", "warn"}
        What to do, once all other clips are done, about clips that cannot be used.
    progress : bool

    Returns
    -------
    features : list of np.ndarray
        One a clip; with `copies`, a list of lists: ``features[i][k]`` is copy k of clip i. With
        ``on_error="warn"``, None stands for a clip that cannot be used.

    Raises
    ------
    AudioError
        If clips cannot be used; the message names the first.
    """
    folder = None if cache is False else Path(settings.cache_dir() if cache is True else cache) / "features"
    variants = list(range(copies)) if augment is not None else [None]
    tasks = (delayed(_extract_one)(path, config, kind, augment, variants, seed, folder) for path in clips["path"])
    results = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
    bar = tqdm(
        results,
        total=len(clips),
        desc=kind if augment is None else f"{kind}, {copies} copies",
        unit="clip",
        disable=not progress,
    )
    rows = list(bar)
    errors = [row for row in rows if isinstance(row, AudioError)]
    if errors and on_error == "raise":
        raise AudioError(f"{len(errors)} of {len(clips)} clips cannot be used. The first: {errors[0]}") from errors[0]
    for error in errors:
        logger.warning("Left out: %s", error)
    rows = [[None] * len(variants) if isinstance(row, AudioError) else row for row in rows]
    return rows if augment is not None else [row[0] for row in rows]


def _extract_one(path, config, kind, augment, variants, seed, folder):
    try:
        return _variants_of(path, config, kind, augment, variants, seed, folder)
    except (AudioError, OSError) as error:
        return AudioError(f"{path}: {error}")


def _variants_of(path, config, kind, augment, variants, seed, folder):
    identity = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    y, features = None, []
    for variant in variants:
        recipe = {
            "audio": identity, "config": asdict(config), "kind": kind,
            "versions": [FEATURES_VERSION, librosa.__version__, soxr.__version__],
            "augment": None if variant is None else [repr(augment), version("audiomentations"), variant, seed],
        }  # fmt: skip
        key = hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=16).hexdigest()
        entry = folder / key[:2] / f"{key}.npy" if folder else None
        feature = _read(entry)
        if feature is None:
            y = load_audio(path, sr=config.sr) if y is None else y
            rng = None if variant is None else np.random.default_rng([seed, variant, int(identity[:8], 16)])
            # Trimmed before it is varied: added noise would hide the quiet ends from the trimming after it.
            varied = y if variant is None else augment(_trim(y, config), sr=config.sr, rng=rng)
            feature = compute(varied, config=config, kind=kind)
            if entry:
                buffer = io.BytesIO()
                np.save(buffer, feature, allow_pickle=False)
                settings.write_atomic(entry, buffer.getvalue())
        features.append(feature)
    return features


def _read(entry):
    if entry is None or not entry.exists():
        return None
    try:
        return np.load(entry, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("Damaged cache entry %s (%s): computed again.", entry, error)
        return None
