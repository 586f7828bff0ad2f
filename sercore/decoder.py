"""decoder: what phones, browsers and recorders write, block after block: by libsndfile where it can, else by PyAV.

The first bytes say what a file is, whatever its name; of all that FFmpeg reads, only what is named here is tried, since
its readers of playlists open what a file names. Lengths are counted where a header only guesses them.
"""

import io
import os
import shlex
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile as sf

from sercore.errors import AudioError
from sercore.headers import bytes_at, id3_size, links_of

#: First bytes of a file -> FFmpeg's name of its container.
MAGIC = {
    b"RIFX": "wav", b"RF64": "wav", b"fLaC": "flac", b"OggS": "ogg", b".snd": "au", b"riff\x2e\x91": "w64",
    b"caff": "caf", b"\x1aE\xdf\xa3": "matroska", b"#!AMR": "amr", b"0&\xb2u\x8ef\xcf\x11": "asf",
}  # fmt: skip
#: What is taken for a recording, if perhaps a damaged one, by its name; and what a file dialog offers.
SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .spx .mp3 .mp2 .mpeg .aif .aiff .aifc .au .w64 .rf64 .caf .m4a .m4b .m4r .mp4 .mov .3gp "
    ".3gpp .3g2 .webm .weba .mkv .mka .aac .amr .wma .asf .avi".split()
)
_BY_LIBSNDFILE = {"wav", "aiff", "flac", "ogg", "mp3", "au", "w64", "caf"}
#: What messages call a container.
_CALLED = {"mov": "M4A or MP4", "matroska": "WebM or MKV", "asf": "WMA", "mpegts": "TS"}
#: Frames of fewer samples on average than this are a bill, not a recording.
_MIN_FRAME = 16


def container_of(file: BinaryIO) -> str | None:
    """Tell by its first bytes what a file is, in FFmpeg's words; None if it is no recording that is read here."""
    head = bytes_at(file, 0, 192)
    if head[:4] == b"RIFF":
        return {b"WAVE": "wav", b"AVI ": "avi"}.get(head[8:12])
    if head[:4] == b"FORM":
        return "aiff" if head[8:12] in (b"AIFF", b"AIFC") else None
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if len(head) > 188 and head[0] == head[188] == 0x47:
        return "mpegts"
    if named := next((name for magic, name in MAGIC.items() if head.startswith(magic)), None):
        return named
    first = int.from_bytes(bytes_at(file, id3_size(head), 2), "big")
    if first & 0xFFF6 == 0xFFF0:
        return "aac"
    return "mp3" if first & 0xFFE0 == 0xFFE0 and first & 0x18 != 0x08 and first & 0x06 else None


def find_audio(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """List a folder's recordings, known by suffix or first bytes, and all other files there; linked folders are entered.

    Hidden files, such as the ``._clip.wav`` that a Mac leaves, are neither.
    """
    recordings, others, entered = [], [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        if (real := os.path.realpath(place)) in entered:
            folders.clear()
            continue
        entered.add(real)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            # No pipe is opened, which would wait for a writer; damage is for the reader to name.
            (recordings if path.suffix.lower() in SUFFIXES or _is_recording(path) else others).append(path)
    return sorted(recordings), sorted(others)


def _is_recording(path):
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as file:
            return container_of(file) is not None
    except OSError:
        return False


def left_out(others: list[Path]) -> str:
    """Count files that are no recordings, in words: "5 files that are no recordings: .txt 3, .csv 2"; "" for none."""
    counts = Counter(path.suffix.lower() or path.name for path in others)
    kinds = ", ".join(f"{kind} {n}" for kind, n in counts.most_common(8))
    return f"{len(others)} files that are no recordings: {kinds}{', …' if len(counts) > 8 else ''}" if others else ""


def open_sound(file: str | Path | BinaryIO, name: str) -> "_Links | _Track":
    """Open a recording; `name` is what messages call it.

    What comes back has `samplerate`, `channels`, `frames`, `subtype`, `notes` (of libsndfile), `read(n)`: a block
    (k, channels) of float32, none at the end, and `close()`. `AudioError` if it is not a recording.
    """
    with ExitStack() as opened:
        if isinstance(file, str | Path):
            file = opened.enter_context(open(file, "rb"))
        container = container_of(file)
        if container is None:
            raise OSError("its first bytes are those of no format that is read here")
        sound, refusal = None, None
        if container in _BY_LIBSNDFILE:
            try:
                sound = _Links(file, links_of(file, container))
            except sf.LibsndfileError as error:
                refusal = error
        sound = sound or _track(file, container, name, refusal)
        sound.opened = opened.pop_all()
    return sound


class _Slice(io.RawIOBase):
    """Some bytes, and after them a part of a file; several may share the file."""

    def __init__(self, file, start, end, prefix):
        self._file, self._prefix, self._start, self._position = file, prefix, start, 0
        self._size = len(prefix) + end - start

    def readinto(self, buffer):
        n = max(0, min(len(buffer), self._size - self._position))
        data = self._prefix[self._position : self._position + n]
        if len(data) < n:
            data += bytes_at(self._file, self._start + self._position + len(data) - len(self._prefix), n - len(data))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def seek(self, offset, whence=0):
        # A damaged header may send libsndfile to before the beginning.
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self):
        return self._position


class _Links:
    """What libsndfile decodes: the links of a chained or joined file, nearly always one, one after the other."""

    def __init__(self, file, links):
        self._parts, self._k = [sf.SoundFile(_Slice(file, *link)) for link in links], 0
        first = self._parts[0]
        self.samplerate, self.channels = first.samplerate, first.channels
        self.subtype, self.notes = first.subtype, first.extra_info
        if any((part.samplerate, part.channels) != (self.samplerate, self.channels) for part in self._parts):
            raise OSError("Rate or number of channels change on the way")
        self.frames = sum(part.frames for part in self._parts)

    def read(self, n):
        while True:
            block = self._parts[self._k].read(n, dtype="float32", always_2d=True)
            if len(block) or self._k == len(self._parts) - 1:
                return block
            self._k += 1

    def close(self):
        for part in self._parts:
            part.close()
        self.opened.close()


def _track(file, container, name, refusal):
    """The first sound track of what libsndfile does not read, decoded by PyAV."""
    kind = _CALLED.get(container, container.upper())
    try:
        import av
    except ImportError as error:
        raise AudioError(
            f"Cannot read {name}: {kind} needs PyAV, which is not installed. Run "
            f'`pip install "sercore[decoder]"`, or in a checkout `pip install av`; or convert the file{converted(name)}.'
        ) from error
    try:
        track = _Track(av, file, container)
    except (av.FFmpegError, OSError) as error:
        why = getattr(refusal, "error_string", None) or getattr(error, "strerror", None) or error
        raise AudioError(
            f"Cannot read {name}: expected a whole {kind} file, this one is damaged or cut short. ({why})"
        ) from error
    if not track.channels:
        raise AudioError(f"No sound in {name}: expected a sound track that FFmpeg can decode.")
    return track


def converted(name: str) -> str:
    """Say how a file is converted, in a command that can be copied; nothing for what has no file name."""
    return "" if name == "upload" else f", for example with `ffmpeg -i {shlex.quote(name)} converted.wav`"


class _Track:
    """The first sound track of a container; no `channels`: there is none that can be decoded."""

    notes = ""  # FFmpeg keeps no log of what a header promises

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
        self._file.seek(0)
        # Titles and names may be in any encoding, and are not ours to read.
        self._container = self._av.open(self._file, format=self._format, metadata_errors="ignore")
        self._stream = next(iter(self._container.streams.audio), None)
        if self._stream is not None and self._stream.codec_context is not None:
            # Otherwise damage that the format can tell is concealed.
            self._stream.codec_context.options = {"err_detect": "crccheck+explode"}
        self._frames, self._rest = self._decode(), np.empty((0, self.channels), dtype=np.float32)

    def _decode(self):
        """Frame after frame: its time [s], its rate, and its samples (n, channels)."""
        if self._stream is None or self._stream.codec_context is None:
            return
        # Packed: PyAV reads planes from the eighth on out of memory that is not the frame's.
        to_float, n_frames, n_samples = self._av.AudioResampler(format="flt"), 0, 0
        try:
            for frame in self._container.decode(self._stream):
                sr, n_channels = frame.sample_rate, frame.layout.nb_channels
                if self.channels and (sr, n_channels) != (self.samplerate, self.channels):
                    raise OSError("Rate or number of channels change on the way")
                n_frames, n_samples = n_frames + 1, n_samples + frame.samples
                if n_frames > 1_000 and n_samples < _MIN_FRAME * n_frames:
                    raise OSError(f"Packets of {n_samples / n_frames:.0f} samples, expected {_MIN_FRAME} at least")
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

    def read(self, n):
        if not len(self._rest) and (following := next(self._frames, None)):
            self._rest = following[2]
        block, self._rest = self._rest[:n], self._rest[n:]
        return block

    def close(self):
        self._container.close()
        self.opened.close()
