"""audio: any recording, phones' too, to a mono float32 waveform at one rate; or an AudioError that says why not."""

import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from sercore.decoder import converted, open_sound
from sercore.errors import OF_THE_PATH, AudioError, SilenceError

#: Longest stretch that is decoded at once: an answer about five minutes takes 170 to 210 MB, and a timeline tells more.
MAX_DURATION_S = 300.0
#: Most samples of all channels that are decoded at once: five minutes of stereo at 192 kHz.
MAX_SAMPLES = 300 * 192_000 * 2
#: Longest recording that is followed over time: a day.
MAX_STREAM_S = 86_400.0
#: Sampling rates and channels that are taken for a recording; others are a damaged or lying header.
MIN_SR, MAX_SR, MAX_CHANNELS = 4_000, 384_000, 16
#: Below this level [dBFS, RMS] a whole recording is silence: 16-bit dither lies near -96.
SILENCE_DBFS = -80.0
#: No header is believed to promise more than a week; libsndfile says 2**63 - 1 frames where it does not know.
MAX_HEADER_S = 7 * 86_400
#: So much may be missing at the end of a file: encoders and taggers are seldom exact.
MAX_MISSING_S = 0.1
#: So many samples of all channels are decoded at a time; from 2^14 to 2^20 it makes no difference to the time.
_BLOCK_SAMPLES = 1 << 15
#: What libsndfile notes of a file that ends before its header says: WAV and CAF, AIFF, AU, RF64, Wave64.
_CUT_SHORT = re.compile(r"^ *(?:data|SSND|Data Size|Riff size|riff) *: (\d+) \(should be (\d+)\)", re.MULTILINE)
#: From here on a size stands for "unknown": programs that write WAV to a pipe put 0x7ffff000 or 0xffffffff.
_STREAM_BYTES = 0x7FFF_0000


@dataclass(frozen=True)
class AudioInfo:
    """What a header says; `subtype` is libsndfile's name of the format ("PCM_24") or FFmpeg's of the codec ("aac")."""

    sr: int
    n_channels: int
    duration_s: float
    subtype: str


def describe_audio(file: str | Path | BinaryIO) -> AudioInfo:
    """Read a recording's header, without decoding it; where that tells no length, its packets are counted."""
    with closing(_open(file)) as sound:
        return AudioInfo(sound.samplerate, sound.channels, sound.frames / sound.samplerate, sound.subtype)


def load_audio(file: str | Path | BinaryIO, *, sr: int = 16_000, max_missing_s: float = MAX_MISSING_S) -> np.ndarray:
    """Decode a recording of up to `MAX_DURATION_S` to a mono waveform at one sampling rate, averaging its channels.

    All of it is heard: chained Ogg and joined MP3 too, and streams whose header tells no length. A file that is damaged
    or cut short is refused where it can be told. Memory stays below 8 bytes for each sample of the result, and 20 MB.

    Parameters
    ----------
    file : str, Path or binary file object
        Read from its start. What libsndfile does not read (M4A, MP4, WebM, AAC, AMR, WMA …) is decoded by PyAV, of a
        film the first track.
    sr : int > 0 [Hz]
        Rate of the result; resampled by soxr.
    max_missing_s : float [s]
        So much less than the header promises may be there.

    Returns
    -------
    y : np.ndarray [shape=(n_samples,)]
        Mono, float32, clipped to ±1.

    Raises
    ------
    AudioError
        If the file is missing, not audio, empty, too long, not finite, cut short, or silent throughout; also if its
        channels cancel each other, as those of a balanced line taken for stereo do: which to keep is not ours to guess.

    Examples
    --------
    >>> load_audio("three_seconds.m4a").shape
    (48000,)
    """
    name = _name(file)
    with closing(_open(file)) as sound:
        _check_whole(sound, name, max_missing_s)
        if (seconds := sound.frames / sound.samplerate) > MAX_DURATION_S:
            raise AudioError(
                f"Too long: {name} lasts {seconds:.0f} s, expected at most {MAX_DURATION_S:.0f} s. "
                "Cut it, or follow it over time with a timeline."
            )
        if sound.frames * sound.channels > MAX_SAMPLES:
            raise AudioError(
                f"Too much: {name} has {sound.channels} channels at {sound.samplerate} Hz, expected at most "
                f"{MAX_SAMPLES} samples; make it mono, or 48 kHz{converted(name)}."
            )
        y = np.concatenate(list(_blocks(sound, name, sr)))
    # One sample at 192 kHz rounds to none at 16 kHz.
    y = y if len(y) else np.zeros(1, np.float32)
    try:
        return check_waveform(y, name=name)
    except SilenceError as error:
        mono_dbfs, channels_dbfs = _levels_dbfs(file)
        if mono_dbfs >= SILENCE_DBFS:  # it sounds, if only above what `sr` can hold
            return y
        if channels_dbfs > SILENCE_DBFS + 20:
            raise AudioError(
                f"Channels of {name} cancel each other: they have {channels_dbfs:.0f} dBFS, and their average is "
                "silence; expected channels in phase. Keep one of them, for example by "
                f"`ffmpeg -i {shlex.quote(name)} -af pan='mono|c0=c0' converted.wav`."
            ) from error
        raise


def stream_audio(file: str | Path | BinaryIO, *, sr: int = 16_000) -> Iterator[np.ndarray]:
    """Decode a recording of hours block after block; `AudioError` as in `load_audio`, but for silence."""
    name = _name(file)
    with closing(_open(file)) as sound:
        _check_whole(sound, name, MAX_MISSING_S)
        if sound.frames > MAX_STREAM_S * sound.samplerate:
            hours = sound.frames / sound.samplerate / 3600
            raise AudioError(f"Too long: {name} lasts {hours:.0f} hours, expected at most {MAX_STREAM_S / 3600:.0f}.")
        yield from _blocks(sound, name, sr)


def windows_of(
    blocks: Iterable[np.ndarray], *, sr: int, window_s: float, hop_s: float
) -> Iterator[tuple[float, np.ndarray]]:
    """Cut blocks of a waveform into windows that may overlap: start [s] and waveform; the last one reaches the end."""
    size, kept, first, n = max(1, round(window_s * sr)), np.empty(0, np.float32), 0, 0
    for block in blocks:
        kept = np.concatenate([kept, block])
        while first + len(kept) >= (start := round(n * hop_s * sr)) + size:
            yield n * hop_s, kept[start - first :][:size]
            n += 1
        drop = min(max(0, start - first), len(kept))
        kept, first = kept[drop:], first + drop
    covered = round((n - 1) * hop_s * sr) + size if n else 0
    if max(start, covered) < first + len(kept):
        yield n * hop_s, kept[start - first :]


def _name(file):
    path = getattr(file, "name", file)
    return Path(path).name if isinstance(path, str | Path) else "upload"


def _open(file):
    name, is_path = _name(file), isinstance(file, str | Path)
    try:
        if is_path and not Path(file).is_file():
            what = "file, this is a folder" if Path(file).is_dir() else "file"
            raise AudioError(f"No file at {file}: expected an audio {what}.")
        n_bytes = Path(file).stat().st_size if is_path else file.seek(0, 2)
        if not n_bytes:
            raise AudioError(f"Empty file {name}: it has 0 bytes, expected audio.")
        sound = open_sound(file, name)
    except AudioError:  # a ValueError as well, but already in words
        raise
    except (sf.LibsndfileError, OSError, TypeError, AttributeError, ValueError) as error:
        if getattr(error, "errno", None) not in {None, *OF_THE_PATH}:
            raise
        raise AudioError(
            f"Cannot read {name}: expected audio, such as WAV, FLAC, OGG, MP3, M4A or WebM. "
            f"Convert it{converted(name)}. ({getattr(error, 'error_string', error)})"
        ) from error
    try:
        _check_header(sound, name)
    except AudioError:
        sound.close()
        raise
    return sound


def _check_header(sound, name):
    sr, n_channels = sound.samplerate, sound.channels
    if not (MIN_SR <= sr <= MAX_SR and n_channels <= MAX_CHANNELS):
        expected = f"{MIN_SR} to {MAX_SR} Hz and at most {MAX_CHANNELS} channels"
        raise AudioError(f"Bad header of {name}: {sr} Hz and {n_channels} channels; expected {expected}.")
    if sound.frames > MAX_HEADER_S * sr:
        raise AudioError(
            f"Bad header of {name}: length unknown or beyond belief ({sound.frames} samples), as in a stream that was "
            "saved; expected the number of samples. Writing it anew, for example with ffmpeg, puts it in."
        )


def _check_whole(sound, name, max_missing_s):
    if sound.frames <= 0:
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    held_s = sound.frames / sound.samplerate
    for promised, held in ((int(a), int(b)) for a, b in _CUT_SHORT.findall(sound.notes)):
        promised_s = held_s * promised / max(held, 1)
        if promised < _STREAM_BYTES and promised_s - held_s > max_missing_s:
            raise _truncated(name, held_s, promised_s)


def _blocks(sound, name, sr):
    """It all, mono and at another rate, block after block."""
    if not MIN_SR <= sr <= MAX_SR:
        raise AudioError(f"Bad rate {sr} Hz: expected {MIN_SR} to {MAX_SR} Hz.")
    other_rate = sr != sound.samplerate
    to_sr = soxr.ResampleStream(sound.samplerate, sr, 1, dtype="float32", quality="HQ") if other_rate else None
    for block in _decoded(sound, name):
        mono = _within(_mono(block), name)
        yield np.clip(to_sr.resample_chunk(mono), -1.0, 1.0) if other_rate else mono
    if other_rate:
        yield np.clip(to_sr.resample_chunk(np.empty(0, np.float32), last=True), -1.0, 1.0)


def _within(y, name):
    """Clip to ±1 what is finite; most needs none, which one look at the greatest tells."""
    if np.abs(y).max(initial=0) <= 1:
        return y
    if n_bad := np.count_nonzero(~np.isfinite(y)):
        raise AudioError(
            f"Bad samples in {name}: {n_bad} of {len(y)} are NaN or infinite; expected finite values in [-1, 1]."
        )
    return np.clip(y, -1.0, 1.0)


def _mono(block):
    if block.shape[1] == 1:
        return block[:, 0]
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told by who asks
        return block.mean(axis=1)


def _decoded(sound, name):
    """It all as it was recorded, block after block (k, channels), or AudioError."""
    n_read, size = 0, _BLOCK_SAMPLES // sound.channels
    try:
        while n_read < sound.frames and len(block := sound.read(min(size, sound.frames - n_read))):
            n_read += len(block)
            yield block
    except (sf.LibsndfileError, OSError) as error:
        if getattr(error, "errno", None) not in {None, *OF_THE_PATH}:
            raise
        raise AudioError(
            f"Cannot decode {name} beyond {n_read / sound.samplerate:.2f} s: "
            f"expected a whole file, this one is damaged or cut short. ({getattr(error, 'error_string', error)})"
        ) from error
    if sound.frames - n_read > MAX_MISSING_S * sound.samplerate:
        raise _truncated(name, n_read / sound.samplerate, sound.frames / sound.samplerate)


def _levels_dbfs(file):
    """Measure it again, at its own rate and offset apart: the average of its channels, and the loudest of them [dBFS]."""
    with closing(_open(file)) as sound:
        power = np.zeros(sound.channels + 1)
        for block in _decoded(sound, _name(file)):
            power += np.var(np.column_stack([block, _mono(block)]), axis=0, dtype=np.float64) * len(block)
        return _to_db(power[-1] / sound.frames), _to_db(power[:-1].max() / sound.frames)


def _truncated(name, held_s, promised_s):
    return AudioError(f"Truncated file {name}: holds {held_s:.2f} s of the {promised_s:.2f} s its header promises.")


def resample(y: np.ndarray, sr_in: int, sr_out: int) -> np.ndarray:
    """Change the sampling rate by soxr, in high quality: clipped to ±1, at least one sample."""
    if sr_in == sr_out:
        return y
    if not (MIN_SR <= sr_in <= MAX_SR and MIN_SR <= sr_out <= MAX_SR):
        raise AudioError(f"Bad rates {sr_in} and {sr_out} Hz: expected {MIN_SR} to {MAX_SR} Hz.")
    resampled = soxr.resample(y, sr_in, sr_out, quality="HQ")
    # One sample at 192 kHz rounds to none at 16 kHz.
    return np.clip(resampled, -1.0, 1.0) if len(resampled) else y[:1]


def check_waveform(y: np.ndarray, *, name: str = "waveform") -> np.ndarray:
    """Give a waveform as float32 within ±1, or raise AudioError: empty, not mono, not floating point or finite, silent.

    A constant offset (DC) is no sound. `name` is what a message calls it.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise AudioError(f"Bad shape {y.shape} of {name}: expected mono, shape (n_samples,).")
    if not np.issubdtype(y.dtype, np.floating):
        raise AudioError(f"Bad type {y.dtype} of {name}: expected floating point with full scale ±1.")
    if not len(y):
        raise AudioError(f"Empty recording {name}: expected at least one sample.")
    y = _within(y, name).astype(np.float32)  # always a copy: what is given may be read-only
    offset = float(y.mean(dtype=np.float64))
    if (level := _to_db(_mean_square(y) - offset**2)) < SILENCE_DBFS:
        apart = f", apart from a constant offset of {offset:.3f}" if abs(offset) > 1e-4 else ""
        raise SilenceError(
            f"Silence in {name}: its level is {level:.0f} dBFS{apart}, expected speech above {SILENCE_DBFS:.0f} dBFS."
        )
    return y


def level_dbfs(y: np.ndarray) -> float:
    """Measure the RMS level [dBFS]: 0 for a full-scale square wave, -inf for digital silence."""
    return _to_db(_mean_square(y))


def _mean_square(y):
    # In float64, without a copy of the recording in it.
    return float(np.einsum("i,i->", y, y, dtype=np.float64)) / max(len(y), 1)


def _to_db(power):
    return 10.0 * np.log10(power) if power > 0 else -np.inf


def trim_silence(y: np.ndarray, *, top_db: float = 35.0) -> np.ndarray:
    """Cut from both ends what is `top_db` [dB] quieter than the loudest frame (`librosa.effects.trim`)."""
    heard = np.flatnonzero(frame_levels_db(y) > -top_db)
    return y[512 * heard[0] : 512 * (heard[-1] + 1)]


def frame_levels_db(y: np.ndarray, *, frame_length: int = 2048, hop_length: int = 512) -> np.ndarray:
    """Measure each frame's level below the loudest one [dB], without librosa: loading numba takes longer than an answer."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(y, frame_length // 2), frame_length)[::hop_length]
    level_db = 10 * np.log10(np.maximum(np.einsum("ij,ij->i", frames, frames) / frame_length, 1e-10))
    return level_db - level_db.max()


def cut_pauses(y: np.ndarray, *, sr: int) -> np.ndarray:
    """Shorten to a second what lasts longer without speech: quiet frames, or in a noisy room the quieter ones."""
    level_db = frame_levels_db(y)
    heard = level_db > -np.clip(-0.6 * np.percentile(level_db, 10), 10.0, 35.0)
    edges = 512 * np.flatnonzero(np.diff(heard, prepend=False, append=False))  # `librosa.effects.split`
    first, last = np.maximum(edges[::2] - sr // 2, 0), np.minimum(edges[1::2] + sr // 2, len(y))
    keep = [y[max(a, b) : c] for a, b, c in zip(first, [0, *last[:-1]], last, strict=True)]
    return np.concatenate(keep)
