"""audio: any recording, phones' too, to a mono float32 waveform at one rate; or an AudioError that says why not."""

import re
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import librosa
import numpy as np
import soundfile as sf
import soxr

from sercore.errors import AudioError, SilenceError

#: Longest stretch that is decoded at once: ten minutes at 16 kHz are 38 MB of float32.
MAX_DURATION_S = 600.0
#: Sampling rates and channels that are taken for a recording; others are a damaged or lying header.
MIN_SR, MAX_SR, MAX_CHANNELS = 4_000, 384_000, 16
#: Below this level [dBFS, RMS] a whole recording is silence: 16-bit dither lies near -96.
SILENCE_DBFS = -80.0
#: No header is believed to promise more than a week; libsndfile says 2**63 - 1 frames where it does not know.
MAX_HEADER_S = 7 * 86_400
#: So much may be missing at the end of a file: encoders and taggers are seldom exact.
MAX_MISSING_S = 0.1
#: Decoding of a phone's recording starts so much before a part: a codec needs some packets to warm up.
PREROLL_S = 0.5
#: The names sound files go by: what libsndfile reads (samples without a header apart), and what phones record.
SUFFIXES = frozenset(
    {f".{name.lower()}" for name in sf.available_formats()} - {".raw"}
    | {".aif", ".aifc", ".oga", ".opus"}
    | {".m4a", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".aac"}
)

_BLOCK_FRAMES = 1 << 16
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


def load_audio(
    file: str | Path | BinaryIO,
    *,
    sr: int = 16_000,
    offset_s: float = 0.0,
    duration_s: float | None = None,
    max_duration_s: float = MAX_DURATION_S,
    max_missing_s: float = MAX_MISSING_S,
) -> np.ndarray:
    """Decode a recording to a mono waveform at one sampling rate, averaging its channels.

    Memory stays below 8 bytes × duration × (rate of the file + `sr`), and some 10 MB, whatever the header claims. A
    file cut short is refused where it can be told: its header promises more than it holds, or it stops decoding. Ogg,
    a WebM that was written while it was recorded, and a WAV of unknown length promise nothing.

    Parameters
    ----------
    file : str, Path or binary file object
        Read from its start. M4A, MP4, WebM and AAC are decoded by PyAV, of a film the first track.
    sr : int > 0 [Hz]
        Rate of the result; resampled by soxr.
    offset_s, duration_s : float [s]
        The part to decode; by default all of it.
    max_duration_s : float [s]
        A longer part is refused.
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
    >>> load_audio("memo.m4a", offset_s=2.0, duration_s=3.0).shape
    (48000,)
    """
    name = _name(file)
    with closing(_open(file)) as sound:
        _check_whole(sound, name, max_missing_s)
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


def _name(file):
    path = getattr(file, "name", file)
    return Path(path).name if isinstance(path, str | Path) else "upload"


def _open(file):
    name, is_path = _name(file), isinstance(file, str | Path)
    if is_path and not Path(file).is_file():
        what = "file, this is a folder" if Path(file).is_dir() else "file"
        raise AudioError(f"No file at {file}: expected an audio {what}.")
    try:
        n_bytes = Path(file).stat().st_size if is_path else file.seek(0, 2)
        if not n_bytes:
            raise AudioError(f"Empty file {name}: it has 0 bytes, expected audio.")
        if not is_path:
            file.seek(0)  # an upload may have been read before, say by describe_audio
        try:
            sound = sf.SoundFile(file)
        except sf.LibsndfileError:
            if (sound := _phone_recording(file, name)) is None:
                raise
    except AudioError:  # a ValueError as well, but already in words
        raise
    except (sf.LibsndfileError, OSError, TypeError, AttributeError, ValueError) as error:
        raise AudioError(
            f"Cannot read {name}: expected audio that libsndfile decodes (WAV, FLAC, OGG, MP3, AIFF…), or PyAV (M4A, "
            f"MP4, WebM, AAC). Convert it, for example with `ffmpeg -i {name} converted.wav`. "
            f"({getattr(error, 'error_string', error)})"
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
    for promised, held in ((int(a), int(b)) for a, b in _CUT_SHORT.findall(sound.extra_info)):
        promised_s = held_s * promised / max(held, 1)
        if promised < _STREAM_BYTES and promised_s - held_s > max_missing_s:
            raise _truncated(name, held_s, promised_s)


def _frames_to_read(sound, name, offset_s, duration_s, max_duration_s):
    start = round(offset_s * sound.samplerate) if np.isfinite(offset_s) else -1
    if not 0 <= start < sound.frames:
        held_s = sound.frames / sound.samplerate
        raise AudioError(f"Bad offset_s {offset_s} for {name}: expected 0 to {held_s:.2f} s.")
    n_frames = sound.frames - start
    if duration_s is not None:
        if not duration_s > 0:
            raise AudioError(f"Bad duration_s {duration_s} for {name}: expected seconds above 0.")
        n_frames = max(1, round(min(n_frames, duration_s * sound.samplerate)))
    if n_frames > max_duration_s * sound.samplerate:
        raise AudioError(
            f"Too long: {name} lasts {n_frames / sound.samplerate:.0f} s, expected at most {max_duration_s:.0f} s. "
            "Cut it, or follow it over time with a timeline."
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


def _phone_recording(file, name):
    """Open what phones and browsers record; None if `file` does not begin as one of their formats."""
    if isinstance(file, str | Path):
        with open(file, "rb") as opened:
            head = opened.read(12)
        file = f"file:{Path(file).resolve()}"  # whatever its name, it is not an address
    else:
        file.seek(0)
        head = file.read(12)
    # No other of FFmpeg's readers is ever tried: those of playlists open what a file names.
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        container = "mov"
    elif head[:4] == b"\x1aE\xdf\xa3":
        container = "matroska"
    elif len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        container = "aac"
    else:
        return None
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"Cannot read {name}: M4A, MP4, WebM and AAC need PyAV, which is not installed. Run "
            '`pip install "sercore[decoder]"`, or in a checkout `pip install av`; or convert the file, for example '
            f"with `ffmpeg -i {name} converted.wav`."
        ) from error
    try:
        sound = _PhoneRecording(av, file, container)
    except (av.FFmpegError, OSError) as error:
        raise AudioError(
            f"Cannot read {name}: expected a whole M4A, MP4, WebM or AAC file, this one is damaged or cut short. "
            f"({getattr(error, 'strerror', None) or error})"
        ) from error
    if not sound.channels:
        raise AudioError(f"No sound in {name}: expected a sound track that FFmpeg can decode.")
    return sound


class _PhoneRecording:
    """The first sound track of a file, with what this room uses of `soundfile.SoundFile`; no `channels`: nothing in it.

    Decoding the whole would be shorter, but a timeline of hours asks for one window after the other.
    """

    extra_info = ""  # FFmpeg keeps no log of what a header promises

    def __init__(self, av, file, container):
        self._av, self._file, self._format, self.channels = av, file, container, 0
        self._start()
        if first := next(self._frames, None):
            self._zero_s, self.samplerate, block = first
            self.channels, self.subtype = block.shape[1], self._stream.codec_context.name
            self.frames = round(self._length_s() * self.samplerate)
            self._start()

    def _start(self):
        """Open the file anew: after a mere seek to its beginning, what a codec warms up with would not be cut off."""
        if not isinstance(self._file, str):
            self._file.seek(0)
        # Titles and names may be in any encoding, and are not ours to read.
        self._container = self._av.open(self._file, format=self._format, metadata_errors="ignore")
        self._stream = next(iter(self._container.streams.audio), None)
        self._frames, self._rest = self._decode(), np.empty((0, self.channels), dtype=np.float32)

    def _decode(self):
        """Frame after frame: its time [s], its rate, and its samples (n, channels)."""
        if self._stream is None or self._stream.codec_context is None:
            return
        # Packed: PyAV reads planes from the eighth on out of memory that is not the frame's.
        to_float = self._av.AudioResampler(format="flt")
        try:
            for frame in self._container.decode(self._stream):
                sr, n_channels = frame.sample_rate, frame.layout.nb_channels
                if self.channels and (sr, n_channels) != (self.samplerate, self.channels):
                    raise OSError("Rate or number of channels change on the way")
                for part in to_float.resample(frame):
                    yield frame.time or 0.0, sr, part.to_ndarray().reshape(-1, n_channels)
        except (self._av.FFmpegError, ValueError) as error:
            raise OSError(getattr(error, "strerror", None) or str(error)) from error

    def _length_s(self):
        stream, container = self._stream, self._container
        if self._format == "mov" and stream.duration:
            return float(stream.duration * stream.time_base)
        if self._format == "matroska" and container.duration and len(container.streams) == 1:
            return container.duration / self._av.time_base
        # Elsewhere nothing is promised, or only guessed from the bit rate, or said of picture and sound together.
        ends = [float((p.pts + (p.duration or 0)) * p.time_base) for p in container.demux(stream) if p.pts is not None]
        return max(ends, default=self._zero_s) - self._zero_s

    def seek(self, start):
        """Go to a sample; from the time stamps of WebM it is found to the millisecond."""
        position, time_s = 0, start / self.samplerate - PREROLL_S
        if time_s > 0:
            self._container.seek(int((self._zero_s + time_s) / self._stream.time_base), stream=self._stream)
            self._frames = self._decode()
            time_s, _, self._rest = next(self._frames, (np.inf, None, None))
            position = (time_s - self._zero_s) * self.samplerate
            if position > start:  # a file whose index cannot be trusted
                self._start()
                position = 0
        position = round(position)
        while position < start and len(block := self.read(start - position)):
            position += len(block)

    def read(self, n, **_):
        if not len(self._rest) and (following := next(self._frames, None)):
            self._rest = following[2]
        block, self._rest = self._rest[:n], self._rest[n:]
        return block

    def close(self):
        self._container.close()


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
    if n_bad := np.count_nonzero(~np.isfinite(y)):
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
    trimmed, _ = librosa.effects.trim(y, top_db=top_db)
    return trimmed if len(trimmed) else y
