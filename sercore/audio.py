"""audio: any recording to a mono float32 waveform at one rate, or an AudioError that says why not."""

from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soundfile as sf
import soxr

from sercore.errors import AudioError, SilenceError

#: Longest stretch that is decoded at once: ten minutes at 16 kHz are 38 MB of float32.
MAX_DURATION_S = 600.0
#: Sampling rates that are taken for a recording; others are a damaged or lying header.
MIN_SR, MAX_SR = 4_000, 384_000
#: More channels than 7.1 are a damaged header too.
MAX_CHANNELS = 16
#: Below this level [dBFS, RMS] a whole recording is silence: 16-bit dither lies near -96.
SILENCE_DBFS = -80.0

_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes
    ----------
    sr : int [Hz]
    n_channels : int
    duration_s : float
    subtype : str
        libsndfile's name of the sample format, such as "PCM_24".
    """

    sr: int
    n_channels: int
    duration_s: float
    subtype: str


def _name(file):
    return Path(getattr(file, "name", file)).name if isinstance(getattr(file, "name", file), str | Path) else "upload"


def _open(file):
    name = _name(file)
    try:
        sound = sf.SoundFile(file)
    except FileNotFoundError as error:
        raise AudioError(f"No file at {file}: expected an audio file.") from error
    except (sf.LibsndfileError, OSError, TypeError) as error:
        if isinstance(file, str | Path) and not Path(file).exists():
            raise AudioError(f"No file at {file}: expected an audio file.") from error
        raise AudioError(
            f"Cannot read {name}: expected audio that libsndfile decodes (WAV, FLAC, OGG, MP3, AIFF…). "
            f"Convert it, for example with `ffmpeg -i {name} clip.wav`. ({error})"
        ) from error
    if not (MIN_SR <= sound.samplerate <= MAX_SR and sound.channels <= MAX_CHANNELS):
        sr, n_channels = sound.samplerate, sound.channels
        sound.close()
        raise AudioError(
            f"Bad header of {name}: {sr} Hz and {n_channels} channels; expected {MIN_SR} to {MAX_SR} Hz "
            f"and at most {MAX_CHANNELS} channels."
        )
    return sound


def describe_audio(file):
    """Read a recording's header, without decoding it.

    Parameters
    ----------
    file : str, Path or binary file object

    Returns
    -------
    info : AudioInfo

    Raises
    ------
    AudioError
        If there is no such file, or it is not audio.
    """
    with _open(file) as sound:
        return AudioInfo(sound.samplerate, sound.channels, sound.frames / sound.samplerate, sound.subtype)


def load_audio(file, *, sr=16_000, offset_s=0.0, duration_s=None, max_duration_s=MAX_DURATION_S):
    """Decode a recording to a mono waveform at one sampling rate.

    The channels are averaged block by block while decoding, and no more than `max_duration_s` is ever
    decoded, whatever the header claims: memory stays below about 4 bytes × `max_duration_s` × (rate of
    the file + 2 `sr`).

    Parameters
    ----------
    file : str, Path or binary file object
    sr : int > 0 [Hz]
        Rate of the result; resampled by soxr in its highest quality.
    offset_s, duration_s : float [s]
        The part to decode; by default all of it.
    max_duration_s : float [s]
        A longer part is refused.

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
        Mono, float32, full scale ±1. Values beyond full scale in a float file are clipped to it.

    Raises
    ------
    AudioError
        If the file is missing, not audio, empty, longer than `max_duration_s`, not finite, silent
        throughout, or holds fewer samples than its header promises.
    """
    name = _name(file)
    with _open(file) as sound:
        n_wanted = _frames_to_read(sound, name, offset_s, duration_s, max_duration_s)
        mono = np.empty(n_wanted, dtype=np.float32)
        n_read = 0
        try:
            if offset_s:
                sound.seek(round(offset_s * sound.samplerate))
            while n_read < n_wanted:
                block = sound.read(min(_BLOCK_FRAMES, n_wanted - n_read), dtype="float32", always_2d=True)
                if not len(block):
                    break
                mono[n_read : n_read + len(block)] = block.mean(axis=1)
                n_read += len(block)
        except (sf.LibsndfileError, OSError) as error:
            raise AudioError(
                f"Cannot decode {name} after {n_read / sound.samplerate:.2f} s: the file is damaged. ({error})"
            ) from error
        file_sr = sound.samplerate
    if n_read < n_wanted:
        raise AudioError(
            f"Truncated file {name}: holds {n_read / file_sr:.2f} s of the {n_wanted / file_sr:.2f} s its header promises."
        )
    return resample(check_waveform(mono, name=name), file_sr, sr)


def _frames_to_read(sound, name, offset_s, duration_s, max_duration_s):
    if sound.frames <= 0:
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    start = round(offset_s * sound.samplerate)
    if not 0 <= start < sound.frames:
        raise AudioError(f"Bad offset_s {offset_s} for {name}: expected 0 to {sound.frames / sound.samplerate:.2f} s.")
    n_frames = sound.frames - start
    if duration_s is not None:
        n_frames = min(n_frames, max(1, round(duration_s * sound.samplerate)))
    if n_frames > max_duration_s * sound.samplerate:
        raise AudioError(
            f"Too long: {name} lasts {n_frames / sound.samplerate:.0f} s, expected at most {max_duration_s:.0f} s. "
            f"Cut it, or follow it over time with `Predictor.timeline`."
        )
    return n_frames


def resample(y, sr_in, sr_out):
    """Change the sampling rate by soxr, in high quality.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
    sr_in, sr_out : int > 0 [Hz]

    Returns
    -------
    y : np.ndarray [shape=(n_samples * sr_out / sr_in,)]
        Clipped to ±1, at least one sample.
    """
    if sr_in == sr_out:
        return y
    resampled = soxr.resample(y, sr_in, sr_out, quality="HQ")
    # One sample at 192 kHz rounds to none at 16 kHz.
    return np.clip(resampled, -1.0, 1.0) if len(resampled) else y[:1]


def check_waveform(y, *, name="waveform"):
    """Make sure that an array is a usable mono waveform.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
        Floating point, full scale ±1.
    name : str
        What to call it in a message.

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
        float32, clipped to ±1.

    Raises
    ------
    AudioError
        If it is empty, not mono, not floating point, not finite, or silent throughout.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise AudioError(f"Bad shape {y.shape} of {name}: expected mono, shape (n_samples,).")
    if not np.issubdtype(y.dtype, np.floating):
        raise AudioError(f"Bad type {y.dtype} of {name}: expected floating point with full scale ±1.")
    if not len(y):
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    if not np.isfinite(y).all():
        n_bad = int((~np.isfinite(y)).sum())
        raise AudioError(
            f"Bad samples in {name}: {n_bad} of {len(y)} are NaN or infinite; expected finite values in [-1, 1]."
        )
    y = np.clip(y, -1.0, 1.0).astype(np.float32, copy=False)
    if (level := level_dbfs(y)) < SILENCE_DBFS:
        raise SilenceError(
            f"Silence in {name}: its level is {level:.0f} dBFS, expected speech above {SILENCE_DBFS:.0f} dBFS."
        )
    return y


def level_dbfs(y):
    """Measure the RMS level.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]

    Returns
    -------
    level : float [dBFS]
        0 for a full-scale square wave; -inf for digital silence.
    """
    mean_square = float(np.mean(np.square(y, dtype=np.float64)))
    return 10.0 * np.log10(mean_square) if mean_square > 0 else -np.inf


def trim_silence(y, *, top_db=35.0):
    """Cut the quiet from both ends.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
    top_db : float > 0 [dB]
        Frames this far below the loudest one count as quiet (`librosa.effects.trim`).

    Returns
    -------
    y : np.ndarray [shape=(n_kept,)]
    """
    trimmed, _ = librosa.effects.trim(y, top_db=top_db)
    return trimmed if len(trimmed) else y


def bandpass(y, *, sr, low_hz=80.0, high_hz=7_600.0):
    """Keep the band of the voice: removes hum and rumble below, hiss above.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
    sr : int > 0 [Hz]
    low_hz, high_hz : float [Hz]
        Edges of a fourth-order Butterworth filter run forwards and backwards, so that nothing moves in time.

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]

    Raises
    ------
    AudioError
        If the edges are not 0 < `low_hz` < `high_hz` < `sr` / 2.
    """
    if not 0 < low_hz < high_hz < sr / 2:
        raise AudioError(
            f"Bad band {low_hz} to {high_hz} Hz: expected 0 < low_hz < high_hz < {sr / 2:.0f} (half of sr)."
        )
    sos = scipy.signal.butter(4, (low_hz, high_hz), btype="bandpass", fs=sr, output="sos")
    return scipy.signal.sosfiltfilt(sos, y, padlen=min(len(y) - 1, 3 * 9)).astype(np.float32)


def normalize_level(y, *, target_dbfs=-23.0):
    """Bring a recording to a given RMS level, without clipping it.

    Parameters
    ----------
    y : np.ndarray [shape=(n_samples,)]
    target_dbfs : float [dBFS]
        The default follows EBU R 128's programme level.

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
        At `target_dbfs`, or lower where its peaks would pass full scale.
    """
    y = check_waveform(y)
    gain = 10.0 ** ((target_dbfs - level_dbfs(y)) / 20.0)
    return (y * min(gain, 1.0 / np.abs(y).max())).astype(np.float32)


def fix_length(y, *, n_samples):
    """Cut or pad with zeros, alike at both ends, to a given length.

    Parameters
    ----------
    y : np.ndarray [shape=(n,)]
    n_samples : int > 0

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
    """
    if len(y) >= n_samples:
        start = (len(y) - n_samples) // 2
        return y[start : start + n_samples]
    return librosa.util.pad_center(y, size=n_samples)
