import io
import struct
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sercore import audio, headers
from sercore.audio import (
    AudioInfo,
    check_waveform,
    describe_audio,
    level_dbfs,
    load_audio,
    resample,
    trim_silence,
)
from sercore.errors import AudioError
from sercore.settings import data_root

SR = 16_000


def tone(sr=SR, *, seconds=1.0, hz=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * sr)) / sr)


def encode(y, sr=SR, *, format="WAV", subtype=None):
    buffer = io.BytesIO()
    sf.write(buffer, y, sr, format=format, subtype=subtype)
    return buffer.getvalue()


def cut(data, share=0.5):
    return data[: int(share * len(data))]


def wav(y=None, **claims):
    """A 16-bit WAV file whose header claims something of its own."""
    data = bytearray(encode(tone() if y is None else y, subtype="PCM_16"))
    start = data.index(b"data") + 8
    places = {"channels": (22, "<H"), "sr": (24, "<I"), "n_bytes": (start - 4, "<I"), "samples": (start, "<3h")}
    for name, value in claims.items():
        place, form = places[name]
        struct.pack_into(form, data, place, value)
    return bytes(data)


def flac_of_length(n_samples):
    """A FLAC file whose header claims a length; 0 is what an encoder into a pipe leaves there."""
    data = bytearray(encode(tone(), format="FLAC"))
    rest = int.from_bytes(data[18:26], "big") >> 36 << 36
    data[18:26] = (rest | n_samples).to_bytes(8, "big")
    return bytes(data)


def noise():
    return 0.3 * np.random.default_rng(0).standard_normal(8 * SR).clip(-3, 3)


def damaged(data):
    """Recordings with one byte in their middle that another took the place of."""
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]


def sparse(path, y, *, sr, seconds):
    """A WAV file that goes on after its samples in silence, a hole on the disk."""
    sf.write(path, y, sr)
    with open(path, "r+b") as file:
        start = file.read(100).index(b"data") + 8
        n_bytes = round(seconds * sr) * 2 * (1 if y.ndim == 1 else y.shape[1])
        file.seek(start - 4)
        file.write(struct.pack("<I", n_bytes))
        file.truncate(start + n_bytes)
    return path


def with_sample(value):
    y = tone()
    y[100] = value
    return y


A440 = ({SR}, 440, -9.03)  # n_samples, loudest frequency [Hz], level [dBFS] of `tone()`
MP3 = encode(tone(), format="MP3").replace(b"Xing", b"Info")
STEREO, SURROUND = np.ones((1, 2)), np.ones((1, 6))

# What the bytes of a file are, and what comes of them: n_samples, Hz and dBFS, or the words of the error.
FILES = {
    "8000 Hz": (encode(tone(8_000), 8_000), A440),
    "11025 Hz": (encode(tone(11_025), 11_025), A440),
    "22050 Hz": (encode(tone(22_050), 22_050), A440),
    "44100 Hz": (encode(tone(44_100), 44_100), A440),
    "48000 Hz": (encode(tone(48_000), 48_000), A440),
    "96000 Hz": (encode(tone(96_000), 96_000), A440),
    "192000 Hz": (encode(tone(192_000), 192_000), A440),
    "8 bit": (encode(tone(), subtype="PCM_U8"), A440),
    "24 bit": (encode(tone(), subtype="PCM_24"), A440),
    "float": (encode(tone(), subtype="FLOAT"), A440),
    "double": (encode(tone(), subtype="DOUBLE"), A440),
    "mu-law": (encode(tone(), subtype="ULAW"), A440),
    "ADPCM": (encode(tone(), subtype="IMA_ADPCM"), (range(SR, SR + 1024), 440, -9.03)),
    "float beyond full scale": (encode(tone(amplitude=4.0), subtype="FLOAT"), ({SR}, 440, -0.49)),
    "FLAC": (encode(tone(), format="FLAC"), A440),
    "Ogg Vorbis": (encode(tone(), format="OGG", subtype="VORBIS"), A440),
    "Ogg Opus": (encode(tone(48_000), 48_000, format="OGG", subtype="OPUS"), A440),
    "MP3": (encode(tone(), format="MP3"), A440),
    "AIFF named .wav": (encode(tone(), format="AIFF"), A440),
    "stereo": (encode(tone()[:, None] * STEREO), A440),
    "stereo, one side": (encode(tone()[:, None] * [1, 0]), ({SR}, 440, -15.05)),
    "stereo, other side wider": (encode(tone()[:, None] * [1, -0.5]), ({SR}, 440, -21.07)),
    "stereo in opposite phase": (encode(tone()[:, None] * [1, -1]), r"cancel each other: they have -9 dBFS"),
    "stereo of opposite offsets": (encode(np.full((SR, 1), 0.5) * [1, -1]), r"Silence in .* -inf dBFS"),
    "stereo of silence": (encode(np.zeros((SR, 2))), r"Silence in .* -inf dBFS"),
    "5.1": (encode(tone(48_000)[:, None] * SURROUND, 48_000, subtype="PCM_24"), A440),
    "tone on a constant offset": (encode(tone() + 0.25, subtype="FLOAT"), ({SR}, 440, -7.27)),
    "quiet tone": (encode(tone(amplitude=2e-4), subtype="FLOAT"), ({SR}, 440, -76.99)),
    "quieter tone": (encode(tone(amplitude=1e-4), subtype="FLOAT"), r"Silence in .* -83 dBFS, .* above -80 dBFS"),
    "silence": (encode(np.zeros(SR)), r"Silence in .* -inf dBFS"),
    "constant offset": (encode(np.full(SR, 0.25)), r"Silence in .* apart from a constant offset of 0\.250"),
    "one sample": (encode(np.array([0.5])), r"Silence in .* apart from a constant offset of 0\.500"),
    "one sample at 192 kHz": (encode(np.array([0.5]), 192_000), r"Silence in"),
    "no samples": (encode(np.zeros(0)), r"Empty recording .* at least one sample"),
    "NaN": (encode(with_sample(np.nan), subtype="FLOAT"), r"1 of 16000 are NaN or infinite"),
    "inf": (encode(with_sample(np.inf), subtype="FLOAT"), r"1 of 16000 are NaN or infinite"),
    "-inf in one channel": (encode(with_sample(-np.inf)[:, None] * STEREO, subtype="FLOAT"), r"1 of 16000 are NaN"),
    "WAV cut": (cut(wav()), r"Truncated .* holds 0\.50 s of the 1\.00 s"),
    "AIFF cut": (cut(encode(tone(), format="AIFF")), r"Truncated .* holds 0\.50 s of the 1\.00 s"),
    "AU cut": (cut(encode(tone(), format="AU")), r"Truncated .* holds 0\.50 s of the 1\.00 s"),
    "RF64 cut": (cut(encode(tone(), format="RF64")), r"Truncated .* holds 0\.50 s of the 1\.00 s"),
    "W64 cut": (cut(encode(tone(), format="W64")), r"Truncated .* holds 0\.50 s of the 1\.00 s"),
    "FLAC cut": (cut(encode(tone(), format="FLAC")), r"Cannot decode .* damaged or cut short"),
    "MP3, two joined": (2 * encode(tone(), format="MP3"), ({2 * SR}, 440, -9.03)),
    "MP3, another begins at its end": (MP3 + MP3[: MP3.index(b"Info") + 7], (range(SR, SR + 600), 440, -9.03)),
    "Ogg, two chained": (2 * encode(tone(), format="OGG"), ({2 * SR}, 440, -9.03)),
    "Ogg with a damaged page": (damaged(encode(noise(), format="OGG")), r"Cannot read .*Damaged page at byte"),
    "format that nobody records": (encode(tone(), format="PAF"), r"Cannot read .* no format"),
    "MP3 cut": (cut(encode(tone(), format="MP3")), r"Truncated .* of the 1\.00 s"),
    "Ogg cut": (cut(encode(tone(seconds=12), format="OGG"), 0.8), (range(SR, 11 * SR), 440, -9.03)),
    "WAV cut in its header": (wav()[:30], r"Cannot read"),
    "WAV that claims 50 ms more": (wav(n_bytes=2 * (SR + 800)), A440),
    "WAV that claims ten times more": (wav(n_bytes=20 * SR), r"Truncated .* holds 1\.00 s of the 10\.00 s"),
    "WAV that claims 4 GB, as from a pipe": (wav(n_bytes=0xFFFFFFFF), A440),
    "WAV that claims 2 GB, as from a pipe": (wav(n_bytes=0x7FFFF000), A440),
    "WAV that claims no samples, of a killed recorder": (wav(n_bytes=0), A440),
    "WAV at 0 Hz": (wav(sr=0), r"Cannot read"),
    "WAV at 3999 Hz": (wav(sr=3_999), r"Bad header .*: 3999 Hz and 1 channels; expected 4000 to 384000 Hz"),
    "WAV at 10 MHz": (wav(sr=10_000_000), r"Bad header .*: 10000000 Hz and 1 channels"),
    "WAV of 200 channels": (wav(channels=200), r"Bad header .*: 16000 Hz and 200 channels; .* at most 16 channels"),
    "FLAC of unknown length": (flac_of_length(0), A440),
    "FLAC that claims half": (flac_of_length(SR // 2), A440),
    "FLAC that claims 50 days": (flac_of_length(2**36 - 1), r"Bad header .*: length unknown or beyond belief"),
    "FLAC that claims an hour": (flac_of_length(3600 * SR), r"Too long: .* lasts 3600 s, expected at most 300 s"),
    "text": (
        b"Kids are talking by the door.\n" * 99,
        r"Cannot read .* expected audio, .*ffmpeg -i clip.wav .*its first bytes are those of no format",
    ),
    "no bytes": (b"", r"Empty file .* 0 bytes"),
}


@pytest.mark.parametrize("source", ["file", "upload"])
@pytest.mark.parametrize("case", FILES)
def test_a_file_is_loaded_or_refused_with_the_reason(case, source, tmp_path):
    data, expected = FILES[case]
    path = tmp_path / "clip.wav"
    path.write_bytes(data)
    if source == "upload":
        path = io.BytesIO(data)
        path.name = "clip.wav"
    if isinstance(expected, str):
        with pytest.raises(AudioError, match=expected) as caught:
            load_audio(path)
        assert "clip.wav" in str(caught.value)
        return
    y = load_audio(path)
    n_samples, hz, dbfs = expected
    spectrum = np.abs(np.fft.rfft((y - y.mean()) * np.hanning(len(y))))
    assert y.dtype == np.float32 and y.ndim == 1 and np.abs(y).max() <= 1
    assert len(y) in n_samples
    assert np.argmax(spectrum) * SR / len(y) == pytest.approx(hz, abs=1.5)
    assert level_dbfs(y) == pytest.approx(dbfs, abs=0.15)


def test_no_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(AudioError, match=r"No file at .*none\.wav: expected an audio file\."):
        load_audio(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="this is a folder"):
        load_audio(str(tmp_path))


@pytest.mark.parametrize("thing", [None, b"bytes", 5.0])
def test_what_is_no_file_is_refused(thing):
    with pytest.raises(AudioError, match="upload"):
        load_audio(thing)


def test_an_upload_is_read_from_its_start_each_time():
    upload = io.BytesIO(encode(tone()))
    assert describe_audio(upload) == AudioInfo(SR, 1, 1.0, "PCM_16")
    upload.read()
    assert np.array_equal(load_audio(upload), load_audio(upload))


def test_the_header_tells_rate_channels_duration_and_format(tmp_path):
    sf.write(tmp_path / "clip.flac", np.zeros((24_000, 6)), 48_000, subtype="PCM_24")
    assert describe_audio(tmp_path / "clip.flac") == AudioInfo(48_000, 6, 0.5, "PCM_24")
    with pytest.raises(AudioError, match="length unknown"):
        describe_audio(io.BytesIO(flac_of_length(2**36 - 1)))


def test_sound_that_looks_like_a_flac_frame_is_no_frame():
    frame = bytes.fromhex("fff8c908f1bfbfbf")  # block 524,287 and so on, then its checksum
    frame += bytes([headers._crc(frame, 8, 0x07)]) + bytes(1)
    y = np.random.default_rng(0).integers(-(2**15), 2**15, SR, dtype=np.int16)
    y[-400:-395] = np.frombuffer(frame, ">i2")
    data = encode(y, format="FLAC", subtype="PCM_16")
    assert frame in data and headers._flac_end(data[data.index(frame) :], 4096) > SR
    assert describe_audio(io.BytesIO(data)).duration_s == 1.0
    assert len(load_audio(io.BytesIO(data))) == SR


@pytest.mark.real
@pytest.mark.parametrize("folder", ["ravdess", "emodb", "tess"])
def test_every_real_clip_is_as_long_as_libsndfile_says(folder):
    clips = sorted((data_root() / folder).rglob("*.flac"))
    assert len(clips) > 500
    assert {path.name for path in clips if describe_audio(path).duration_s != sf.info(path).duration} == set()


def test_an_hour_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = sparse(tmp_path / "hour.wav", tone(8_000), sr=8_000, seconds=3600)
    monkeypatch.setattr(sf.SoundFile, "read", lambda *args, **kwargs: pytest.fail("decoded"))
    with pytest.raises(AudioError, match=r"Too long: hour\.wav lasts 3600 s, expected at most 300 s.*timeline"):
        load_audio(path)


def test_memory_stays_within_what_is_documented(tmp_path):
    """5.1 at 192 kHz: decoded whole it takes 92 MB of float32."""
    sr, seconds = 192_000, 20
    path = sparse(tmp_path / "surround.wav", tone(sr)[:, None] * SURROUND, sr=sr, seconds=seconds)
    tracemalloc.start()
    try:
        assert len(load_audio(path)) == seconds * SR
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * seconds * (sr + SR) + 10e6


@settings(max_examples=60)
@given(
    y=arrays(np.float32, st.integers(1, 3_000), elements=st.floats(-4, 4, width=32)),
    sr=st.sampled_from([8_000, 16_000, 44_100, 192_000]),
)
def test_any_floats_become_float32_within_full_scale_or_an_error(y, sr):
    try:
        loaded = load_audio(io.BytesIO(encode(y, sr, subtype="FLOAT")))
    except AudioError:
        assert level_dbfs(np.clip(y, -1, 1) - np.clip(y, -1, 1).mean()) < -79.9
        return
    assert loaded.dtype == np.float32 and np.abs(loaded).max() <= 1
    assert abs(len(loaded) - len(y) * SR / sr) <= 1


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros((2, 100)), r"Bad shape \(2, 100\)"),
        (np.ones(100, dtype=np.int16), "Bad type int16"),
        (np.zeros(0), "Empty recording"),
        (np.array([0.1, np.nan, np.inf]), "2 of 3 are NaN or infinite"),
        (np.zeros(100), "Silence"),
        (np.full(100, -0.5), r"constant offset of -0\.500"),
    ],
)
def test_a_bad_waveform_is_refused(y, words):
    with pytest.raises(AudioError, match=words):
        check_waveform(y)


def test_a_good_waveform_is_clipped_but_not_changed_in_place():
    y = np.array([0.5, -2.0, 0.25])
    assert check_waveform(y).tolist() == [0.5, -1.0, 0.25]
    assert y.tolist() == [0.5, -2.0, 0.25]


@pytest.mark.parametrize("rates", [(0, SR), (SR, -1), (1e9, SR)])
def test_a_rate_of_no_recording_is_refused(rates):
    with pytest.raises(AudioError, match="Bad rates"):
        resample(tone(), *rates)


def test_full_scale_is_the_square_wave():
    assert level_dbfs(np.tile([1.0, -1.0], 100_000)) == 0
    assert level_dbfs(np.tile([0.1, -0.1], 100_000)) == pytest.approx(-20)
    assert level_dbfs(np.zeros(10)) == -np.inf


def test_quiet_ends_are_cut_and_the_middle_is_kept():
    y = np.random.default_rng(0).normal(0, 1e-3, 3 * SR)  # -60 dBFS
    y[SR : 2 * SR] += tone()
    trimmed = trim_silence(y)
    assert SR <= len(trimmed) <= SR + 2 * 2048  # librosa looks at frames of 2048 samples
    assert trimmed.max() == y.max()
    assert len(trim_silence(y, top_db=80)) == len(y)


def test_the_longest_recording_is_taken_and_no_longer(monkeypatch):
    data = io.BytesIO(encode(tone()))
    assert audio.MAX_DURATION_S == 300
    monkeypatch.setattr(audio, "MAX_DURATION_S", 1.0)
    assert len(load_audio(data)) == SR
    monkeypatch.setattr(audio, "MAX_DURATION_S", 0.99)
    with pytest.raises(AudioError, match="Too long"):
        load_audio(data)


@pytest.mark.parametrize(("kind", "place"), [("W64", 96), ("RF64", 28)])
def test_a_header_that_points_before_its_file_is_told_without_a_traceback(kind, place, monkeypatch):
    untold = []
    monkeypatch.setattr("sys.unraisablehook", untold.append)
    sf.write(buffer := io.BytesIO(), np.sin(np.arange(16_000) / 9), 16_000, format=kind)
    damaged = bytearray(buffer.getvalue())
    damaged[place : place + 8] = b"\x7f" + b"\xff" * 7
    try:
        load_audio(io.BytesIO(damaged))
    except AudioError:
        pass
    assert not untold
