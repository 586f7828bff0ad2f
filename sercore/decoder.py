"""decoder: what phones and browsers record (M4A, MP4, WebM, AAC), read by PyAV where it is installed."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from sercore.errors import AudioError

#: The names these formats go by.
SUFFIXES = frozenset({".m4a", ".mp4", ".mov", ".3gp", ".webm", ".mkv", ".aac"})
#: Decoding starts so much [s] before a part: a codec needs some packets to come to what it gave the first time.
PREROLL_S = 0.5


def open_recording(file, *, name):
    """Open a recording that libsndfile does not read.

    Parameters
    ----------
    file : str, Path or binary file object
    name : str
        What to call it in a message.

    Returns
    -------
    recording : Recording or None
        None if `file` does not begin as one of these formats.

    Raises
    ------
    AudioError
        If PyAV is needed and not installed, or the file is damaged, or holds no sound.
    """
    with ExitStack() as opened:
        if isinstance(file, str | Path):
            file = opened.enter_context(open(file, "rb"))
        file.seek(0)
        container = _container(file.read(12))
        if container is None:
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
            recording = Recording(av, file, container)
        except (av.FFmpegError, OSError) as error:
            raise AudioError(
                f"Cannot read {name}: expected a whole M4A, MP4, WebM or AAC file, this one is damaged or cut short. "
                f"({getattr(error, 'strerror', None) or error})"
            ) from error
        if not recording.channels:
            raise AudioError(f"No sound in {name}: expected a sound track that FFmpeg can decode.")
        recording.opened = opened.pop_all()
    return recording


def _container(head):
    """FFmpeg's reader for what begins so. No other is ever tried: those of playlists open what a file names."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    return "aac" if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else None


class Recording:
    """The first sound track of a file, with those parts of `soundfile.SoundFile` that `sercore.audio` uses.

    Attributes
    ----------
    samplerate, channels, frames : int
        `channels` is 0 if there is nothing to decode.
    subtype : str
        FFmpeg's name of the codec, such as "aac".
    extra_info : str
        Empty: FFmpeg keeps no log of what a header promises.
    """

    extra_info = ""

    def __init__(self, av, file, container):
        self._av, self._file, self._format = av, file, container
        self.opened, self.channels = ExitStack(), 0
        self._start()
        if first := self._next():
            self._zero_s, self.samplerate, block = first
            self.channels, self.subtype = block.shape[1], self._stream.codec_context.name
            self.frames = round(self._length_s() * self.samplerate)
            self._start()

    def _start(self):
        """Open the file anew: after a mere seek to its beginning, what a codec warms up with would not be cut off."""
        self._file.seek(0)
        # Titles and names may be in any encoding, and are not ours to read.
        self._container = self._av.open(self._file, format=self._format, metadata_errors="ignore")
        self._stream = next(iter(self._container.streams.audio), None)
        self._blocks, self._rest = self._decode(), np.empty((0, self.channels), dtype=np.float32)

    def _decode(self):
        """Frame after frame: its time [s], its rate, and its samples (n, channels)."""
        if self._stream is None or self._stream.codec_context is None:
            return
        to_float = self._av.AudioResampler(format="fltp")
        for frame in self._container.decode(self._stream):
            for part in to_float.resample(frame):
                yield frame.time or 0.0, frame.sample_rate, part.to_ndarray().T

    def _next(self):
        try:
            following = next(self._blocks, None)
        except (self._av.FFmpegError, ValueError) as error:
            raise OSError(getattr(error, "strerror", None) or str(error)) from error
        if following and self.channels and (following[1], following[2].shape[1]) != (self.samplerate, self.channels):
            raise OSError("Rate or number of channels change on the way")
        return following

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
            self._blocks = self._decode()
            time_s, _, self._rest = self._next() or (np.inf, None, None)
            position = (time_s - self._zero_s) * self.samplerate
            if position > start:  # a file whose index cannot be trusted
                self._start()
                position = 0
        position = round(position)
        while position < start and len(block := self.read(start - position)):
            position += len(block)

    def read(self, n, **_):
        """Decode some of the next `n` samples, none at the end: float32, shape (n, channels)."""
        if not len(self._rest) and (following := self._next()):
            self._rest = following[2]
        block, self._rest = self._rest[:n], self._rest[n:]
        return block

    def close(self):
        """Close the file, unless it was given as an open one."""
        self._container.close()
        self.opened.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
