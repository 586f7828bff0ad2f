"""audio: any recording to a mono float32 waveform at one rate, or an AudioError that says why not."""

import re
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soundfile as sf
import soxr

from sercore.decoder import open_recording
from sercore.errors import AudioError, SilenceError

#: Longest stretch that is decoded at once: ten minutes at 16 kHz are 38 MB of float32.
MAX_DURATION_S = 600.0
#: Sampling rates that are taken for a recording; others are a damaged or lying header.
MIN_SR, MAX_SR = 4_000, 384_000
#: More channels than 7.1 are a damaged header too.
MAX_CHANNELS = 16
#: Below this level [dBFS, RMS] a whole recording is silence: 16-bit dither lies near -96.
SILENCE_DBFS = -80.0
#: No header is believed to promise more than a week; libsndfile says 2**63 - 1 frames where it does not know.
MAX_HEADER_S = 7 * 86_400
#: So much may be missing at the end of a file: encoders and taggers are seldom exact.
MAX_MISSING_S = 0.1

_BLOCK_FRAMES = 1 << 16
#: What libsndfile notes of a file that ends before its header says: WAV and CAF, AIFF, AU, RF64, Wave64.
_CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
#: From here on a size stands for "unknown": programs that write WAV to a pipe put 0x7ffff000 or 0xffffffff.
_STREAM_BYTES = 0x7FFF_0000


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes
    ----------
    sr : int [Hz]
    n_channels : int
    duration_s : float
    subtype : str
        libsndfile's name of the sample format, such as "PCM_24", or FFmpeg's of the codec, such as "aac".
    """

    sr: int
    n_channels: int
    duration_s: float
    subtype: str


def _name(file):
    return Path(getattr(file, "name", file)).name if isinstance(getattr(file, "name", file), str | Path) else "upload"


def _open(file):
    name, is_path = _name(file), isinstance(file, str | Path)
    if is_path and not Path(file).is_file():
        what = "file, this is a folder" if Path(file).is_dir() else "file"
        raise AudioError(f"No file at {file}: expected an audio {what}.")
    try:
        n_bytes = Path(file).stat().st_size if is_path else file.seek(0, 2)
        if not is_path:
            file.seek(0)  # an upload may have been read before, say by describe_audio
        sound = _decoder(file, name) if n_bytes else None
    except AudioError:  # a ValueError as well, but already in words
        raise
    except (sf.LibsndfileError, OSError, TypeError, AttributeError, ValueError) as error:
        raise AudioError(
            f"Cannot read {name}: expected audio that libsndfile decodes (WAV, FLAC, OGG, MP3, AIFF…), or PyAV (M4A, "
            f"MP4, WebM, AAC). Convert it, for example with `ffmpeg -i {name} converted.wav`. "
            f"({getattr(error, 'error_string', error)})"
        ) from error
    if sound is None:
        raise AudioError(f"Empty file {name}: it has 0 bytes, expected audio.")
    if fault := _header_fault(sound):
        sound.close()
        raise AudioError(f"Bad header of {name}: {fault}.")
    return sound


def _decoder(file, name):
    try:
        return sf.SoundFile(file)
    except sf.LibsndfileError:
        sound = open_recording(file, name=name)
        if sound is None:
            raise
        return sound


def _header_fault(sound):
    sr, n_channels = sound.samplerate, sound.channels
    if not (MIN_SR <= sr <= MAX_SR and n_channels <= MAX_CHANNELS):
        return (
            f"{sr} Hz and {n_channels} channels; expected {MIN_SR} to {MAX_SR} Hz and at most {MAX_CHANNELS} channels"
        )
    if sound.frames > MAX_HEADER_S * sr:
        return (
            f"length unknown or beyond belief ({sound.frames} samples), as in a stream that was saved; "
            "expected the number of samples. Writing it anew, for example with ffmpeg, puts it in"
        )
    return None


def describe_audio(file):
    """Read a recording's header, without decoding it; where that tells no length, its packets are counted.

    Parameters
    ----------
    file : str, Path or binary file object

    Returns
    -------
    info : AudioInfo

    Raises
    ------
    AudioError
        If there is no such file, or it is not audio, or its header cannot be right.
    """
    with _open(file) as sound:
        return AudioInfo(sound.samplerate, sound.channels, sound.frames / sound.samplerate, sound.subtype)


def load_audio(file, *, sr=16_000, offset_s=0.0, duration_s=None, max_duration_s=MAX_DURATION_S):
    """Decode a recording to a mono waveform at one sampling rate.

    The channels are averaged block by block while decoding, and nothing is decoded of a part longer than
    `max_duration_s`, whatever the header claims: memory stays below 8 bytes × duration × (rate of the file
    + `sr`), and some 10 MB.

    A file cut short is refused where it can be told: its header promises more than it holds (WAV, AIFF, AU,
    CAF, RF64, Wave64, MP3, M4A, MP4, WebM), or it stops decoding (FLAC, AAC). Ogg promises nothing and is decoded as
    far as it goes, and so are a WebM that was written while it was recorded, and a WAV whose size is the 2 or 4 GB that
    stand for an unknown length.

    M4A, MP4, WebM and AAC are decoded by PyAV, of a film the first sound track; see `sercore.decoder`.

    Parameters
    ----------
    file : str, Path or binary file object
        A file object is read from its start.
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
        If the file is missing, not audio, empty, longer than `max_duration_s`, not finite, cut short by
        more than `MAX_MISSING_S`, or silent throughout; also if its channels cancel each other, as those of
        a balanced line taken for stereo do: which of them to keep is not ours to guess.
    """
    name = _name(file)
    with _open(file) as sound:
        start, n_wanted = _frames_to_read(sound, name, offset_s, duration_s, max_duration_s)
        mono, channels_dbfs = _decode(sound, name, start, n_wanted)
        file_sr = sound.samplerate
    try:
        mono = check_waveform(mono, name=name)
    except SilenceError as error:
        if channels_dbfs > SILENCE_DBFS + 20:
            raise AudioError(
                f"Channels of {name} cancel each other: they have {channels_dbfs:.0f} dBFS, and their average is "
                "silence; expected channels in phase. Keep one of them, for example by "
                f"`ffmpeg -i {name} -af pan='mono|c0=c0' converted.wav`."
            ) from error
        raise
    return resample(mono, file_sr, sr)


def _frames_to_read(sound, name, offset_s, duration_s, max_duration_s):
    if sound.frames <= 0:
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    held_s = sound.frames / sound.samplerate
    for promised, held in ((int(a), int(b)) for a, b in _CUT_SHORT.findall(sound.extra_info)):
        promised_s = held_s * promised / max(held, 1)
        if promised < _STREAM_BYTES and promised_s - held_s > MAX_MISSING_S:
            raise _truncated(name, held_s, promised_s)
    start = round(offset_s * sound.samplerate) if np.isfinite(offset_s) else -1
    if not 0 <= start < sound.frames:
        raise AudioError(f"Bad offset_s {offset_s} for {name}: expected 0 to {held_s:.2f} s.")
    n_frames = sound.frames - start
    if duration_s is not None:
        if not duration_s > 0:
            raise AudioError(f"Bad duration_s {duration_s} for {name}: expected seconds above 0.")
        n_frames = max(1, round(min(n_frames, duration_s * sound.samplerate)))
    if n_frames > max_duration_s * sound.samplerate:
        raise AudioError(
            f"Too long: {name} lasts {n_frames / sound.samplerate:.0f} s, expected at most {max_duration_s:.0f} s. "
            f"Cut it, or follow it over time with `Predictor.timeline`."
        )
    return start, n_frames


def _decode(sound, name, start, n_wanted):
    """The average of the channels, and the level of the loudest one apart from its offset [dBFS]."""
    mono, n_read = np.empty(n_wanted, dtype=np.float32), 0
    total, power = np.zeros((2, sound.channels))
    try:
        if start:
            sound.seek(start)
        while n_read < n_wanted:
            block = sound.read(min(_BLOCK_FRAMES, n_wanted - n_read), dtype="float32", always_2d=True)
            if not len(block):
                break
            mono[n_read : n_read + len(block)] = block.mean(axis=1)
            total += block.sum(axis=0, dtype=np.float64)
            power += np.square(block, dtype=np.float64).sum(axis=0)
            n_read += len(block)
    except (sf.LibsndfileError, OSError) as error:
        raise AudioError(
            f"Cannot decode {name} beyond {(start + n_read) / sound.samplerate:.2f} s: "
            f"expected a whole file, this one is damaged or cut short. ({getattr(error, 'error_string', error)})"
        ) from error
    if n_wanted - n_read > MAX_MISSING_S * sound.samplerate:
        raise _truncated(name, (start + n_read) / sound.samplerate, (start + n_wanted) / sound.samplerate)
    n = max(n_read, 1)
    with np.errstate(invalid="ignore"):  # infinite samples are check_waveform's to refuse
        return mono[:n_read], _to_db((power / n - (total / n) ** 2).max())


def _truncated(name, held_s, promised_s):
    return AudioError(f"Truncated file {name}: holds {held_s:.2f} s of the {promised_s:.2f} s its header promises.")


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

    Raises
    ------
    AudioError
        If a rate is none of a recording.
    """
    if sr_in == sr_out:
        return y
    if not (MIN_SR <= sr_in <= MAX_SR and MIN_SR <= sr_out <= MAX_SR):
        raise AudioError(f"Bad rates {sr_in} and {sr_out} Hz: expected {MIN_SR} to {MAX_SR} Hz.")
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
        If it is empty, not mono, not floating point, not finite, or silent throughout: a constant offset
        (DC) is no sound.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise AudioError(f"Bad shape {y.shape} of {name}: expected mono, shape (n_samples,).")
    if not np.issubdtype(y.dtype, np.floating):
        raise AudioError(f"Bad type {y.dtype} of {name}: expected floating point with full scale ±1.")
    if not len(y):
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    if n_bad := sum(int((~np.isfinite(block)).sum()) for block in _blocks(y)):
        raise AudioError(
            f"Bad samples in {name}: {n_bad} of {len(y)} are NaN or infinite; expected finite values in [-1, 1]."
        )
    y = np.clip(y, -1.0, 1.0).astype(np.float32, copy=False)
    offset = float(y.mean(dtype=np.float64))
    if (level := _to_db(_mean_square(y) - offset**2)) < SILENCE_DBFS:
        apart = f", apart from a constant offset of {offset:.3f}" if abs(offset) > 1e-4 else ""
        raise SilenceError(
            f"Silence in {name}: its level is {level:.0f} dBFS{apart}, expected speech above {SILENCE_DBFS:.0f} dBFS."
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
    return _to_db(_mean_square(y))


def _blocks(y):
    # A whole recording in float64, or its mask, would be the largest thing in memory.
    return (y[start : start + _BLOCK_FRAMES] for start in range(0, len(y), _BLOCK_FRAMES))


def _mean_square(y):
    return sum(float(np.square(block, dtype=np.float64).sum()) for block in _blocks(y)) / max(len(y), 1)


def _to_db(power):
    return 10.0 * np.log10(power) if power > 0 else -np.inf


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

    Raises
    ------
    AudioError
        If `n_samples` is not above 0.
    """
    if n_samples <= 0:
        raise AudioError(f"Bad n_samples {n_samples}: expected a number above 0.")
    if len(y) >= n_samples:
        start = (len(y) - n_samples) // 2
        return y[start : start + n_samples]
    return librosa.util.pad_center(y, size=n_samples)
