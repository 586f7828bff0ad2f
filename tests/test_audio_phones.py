"""Recordings of phones and browsers come out as their WAV does, or are refused with the reason."""

import io
import sys

import numpy as np
import pytest
import soundfile as sf
import soxr

from sercore import audio
from sercore.audio import AudioInfo, describe_audio, load_audio, stream_audio
from sercore.corpora import synthetic
from sercore.errors import AudioError, SilenceError
from sercore.predict import Predictor

av = pytest.importorskip("av", reason="PyAV writes the recordings of these tests: pip install av")

SR = 16_000
#: Container and codec of what is recorded where, and the rate that is usual there.
KINDS = {
    "iPhone, m4a": ("ipod", "aac", 48_000),
    "Android, mp4": ("mp4", "aac", 44_100),
    "lossless m4a": ("ipod", "alac", 44_100),
    "Firefox, webm": ("webm", "libopus", 48_000),
    "aac": ("adts", "aac", 16_000),
}


class Pipe(io.BytesIO):
    """What a recorder that writes while it records sees: it cannot go back to tell the length."""

    def seekable(self):
        return False

    seek = tell = None


@pytest.fixture(scope="module")
def speech():
    """Six seconds of synthetic speech."""
    return np.concatenate([synthetic.synthesize(emotion, speaker=4) for emotion in ("happy", "sad", "angry")])


def encode(y, kind, codec, sr, *, channels=1, bit_rate=None, pipe=False, video=False, **options):
    """Write a waveform at 16 kHz as a recorder would."""
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
    buffer = Pipe() if pipe else io.BytesIO()
    with av.open(buffer, "w", format=kind, options=options) as container:
        if video:
            picture = container.add_stream("mpeg4", rate=10)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=sr, layout=layout) if codec else None
        if bit_rate:
            sound.bit_rate = bit_rate
        if video:
            for _ in range(40):  # four seconds, longer than the sound
                container.mux(picture.encode(av.VideoFrame(64, 64, "yuv420p")))
            container.mux(picture.encode(None))
        if sound:
            y = np.atleast_2d(soxr.resample(y, SR, sr).T).repeat(channels if y.ndim == 1 else 1, axis=0)
            frame = av.AudioFrame.from_ndarray(y.T.reshape(1, -1).astype(np.float32), "flt", layout)
            frame.sample_rate, frame.pts = sr, 0
            size = sound.codec_context.frame_size or 1024
            pieces = av.AudioResampler(sound.codec_context.format, layout, sr, frame_size=size)
            for piece in (*pieces.resample(frame), *pieces.resample(None), None):
                container.mux(sound.encode(piece))
    return buffer.getvalue()


def likeness(y, reference, *, reach=0):
    """The greatest correlation of two waveforms that may lie up to `reach` samples apart."""
    y = np.pad(y[: len(reference)], reach + max(0, len(reference) - len(y)))[: len(reference) + 2 * reach]
    products = np.correlate(y.astype(float), reference.astype(float), "valid")
    return products.max() / np.linalg.norm(y) / np.linalg.norm(reference)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recording_comes_out_as_its_wav(kind, speech, tmp_path):
    data = encode(speech, *KINDS[kind])
    path = tmp_path / "clip.bin"  # what it is called does not matter
    path.write_bytes(data)
    y = load_audio(path)
    assert y.dtype == np.float32 and y.ndim == 1 and np.abs(y).max() <= 1
    # Nothing in a bare AAC stream tells how much of its beginning the encoder needed to warm up.
    assert len(y) == pytest.approx(len(speech), abs=2_100 if kind == "aac" else 200)
    assert likeness(y, speech, reach=1_100 if kind == "aac" else 2) > 0.99
    assert np.array_equal(y, load_audio(io.BytesIO(data)))


def test_the_emotion_is_that_of_the_wav(voice):
    predictor = Predictor()
    wav = predictor.predict((voice, SR))
    for kind in ("iPhone, m4a", "Firefox, webm"):
        heard = predictor.predict(io.BytesIO(encode(voice, *KINDS[kind])))
        assert heard.label == wav.label and heard.probabilities == pytest.approx(wav.probabilities, abs=0.1)


def test_the_header_tells_rate_channels_duration_and_codec(voice):
    file = io.BytesIO(encode(voice, "mp4", "aac", 48_000, channels=2))
    assert describe_audio(file) == AudioInfo(48_000, 2, pytest.approx(len(voice) / SR, abs=1e-3), "aac")
    assert not file.closed


def test_what_was_written_while_it_was_recorded_has_its_length(speech, monkeypatch):
    """MediaRecorder never goes back to say how long it was."""
    for options in ({"kind": "webm", "codec": "libopus"}, {"kind": "mp4", "codec": "aac", "movflags": "empty_moov"}):
        data = encode(speech, sr=48_000, pipe=True, **options)
        assert describe_audio(io.BytesIO(data)).duration_s == pytest.approx(len(speech) / SR, abs=0.05)
        assert likeness(load_audio(io.BytesIO(data)), speech, reach=800) > 0.98
    monkeypatch.setattr(audio, "MAX_DURATION_S", 5)
    with pytest.raises(AudioError, match=r"Too long: upload lasts [67] s, expected at most 5 s"):
        load_audio(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["mp4", "matroska"])
def test_of_a_film_the_sound_is_taken(kind, voice):
    data = encode(voice, kind, "aac", 48_000, video=True)
    assert likeness(load_audio(io.BytesIO(data)), voice, reach=800) > 0.99
    with pytest.raises(AudioError, match=r"No sound in upload: expected a sound track"):
        load_audio(io.BytesIO(encode(voice, kind, None, 0, video=True)))


def test_too_much_is_refused_before_it_is_decoded(voice, monkeypatch):
    data = encode(voice, "mp4", "aac", 48_000)
    monkeypatch.setattr("sercore.decoder._Track.read", lambda *args: pytest.fail("decoded"))
    monkeypatch.setattr(audio, "MAX_DURATION_S", 1)
    with pytest.raises(AudioError, match="Too long: upload lasts 2 s, expected at most 1 s"):
        load_audio(io.BytesIO(data))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
def test_a_file_cut_short_is_refused(kind, share, speech, tmp_path):
    path = tmp_path / "clip.m4a"
    data = encode(speech, *KINDS[kind])
    path.write_bytes(data[: round(share * len(data))])
    with pytest.raises(
        AudioError, match=r"(Cannot \w+|Truncated file|No sound in) clip\.m4a.*(cut short|promises|expected)"
    ):
        load_audio(path)


def test_a_stream_cut_short_is_decoded_as_far_as_it_goes(speech):
    data = encode(speech, "webm", "libopus", 48_000, pipe=True)
    y = load_audio(io.BytesIO(data[: len(data) // 2]))
    assert likeness(y, speech[: len(y)], reach=2) > 0.99 and 2 * SR < len(y) < 4 * SR


@pytest.mark.parametrize(
    "head", [b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3", b"\xff\xf1\x60\x40"], ids=["m4a", "webm", "aac"]
)
def test_garbage_is_refused(head):
    with pytest.raises(
        AudioError, match=r"(Cannot read|No sound in) upload: expected a (whole M4A|whole WebM|sound track)"
    ):
        load_audio(io.BytesIO(head + bytes(range(256)) * 40))


def test_two_recordings_in_one_file_are_refused(voice):
    mono, stereo = (encode(voice, "adts", "aac", SR, channels=channels) for channels in (1, 2))
    with pytest.raises(
        AudioError, match=r"Cannot decode upload beyond [12]\.\d+ s.*\(Rate or number of channels change"
    ):
        load_audio(io.BytesIO(mono + stereo))


def test_silence_and_opposite_channels_are_refused_as_in_wav(voice):
    with pytest.raises(SilenceError):
        load_audio(io.BytesIO(encode(np.zeros(SR), "ipod", "alac", SR)))
    with pytest.raises(AudioError, match="cancel each other"):
        load_audio(io.BytesIO(encode(voice[:, None] * [1, -1], "ipod", "alac", SR, channels=2)))


def test_a_playlist_is_never_followed(tmp_path, voice):
    """FFmpeg would open what a playlist names, be it a file of ours or an address."""
    sf.write(tmp_path / "secret.wav", voice, SR)
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(
        AudioError, match=r"Cannot read list\.m3u8: expected audio, .*its first bytes are those of no format"
    ):
        load_audio(path)


@pytest.mark.parametrize("kind", ["iPhone, m4a", "Firefox, webm", "aac"])
def test_without_pyav_the_error_says_what_to_install(kind, voice, tmp_path, monkeypatch):
    path = tmp_path / "memo.m4a"
    path.write_bytes(encode(voice, *KINDS[kind]))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"Cannot read memo\.m4a.*PyAV") as caught:
        load_audio(path)
    for words in ('pip install "sercore[decoder]"', "pip install av", "ffmpeg -i memo.m4a converted.wav"):
        assert words in str(caught.value)


#: What else phones, recorders and messengers write.
OTHERS = {
    "AMR": ("amr", "libopencore_amrnb", 8_000, {"bit_rate": 12_200}),
    "WMA": ("asf", "wmav2", 16_000, {"bit_rate": 32_000}),
    "ALAC in CAF": ("caf", "alac", 44_100, {}),
    "G.722 in WAV": ("wav", "g722", 16_000, {}),
    "G.726 in WAV": ("wav", "g726", 8_000, {}),
    "ADPCM in WAV": ("wav", "adpcm_ms", 16_000, {}),
    "AVI": ("avi", "libmp3lame", 44_100, {}),
    "TS": ("mpegts", "aac", 48_000, {}),
    "3GP": ("3gp", "aac", 16_000, {}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_recorders_are_heard_as_well(kind, speech):
    container, codec, sr, options = OTHERS[kind]
    y = load_audio(io.BytesIO(encode(speech, container, codec, sr, **options)))
    assert len(y) == pytest.approx(len(speech), abs=0.15 * SR)
    assert likeness(y, speech, reach=2_000) > 0.85


def test_raw_aac_under_a_tag_is_no_mp3(speech):
    tagged = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10) + encode(speech, "adts", "aac", SR)
    assert describe_audio(io.BytesIO(tagged)).subtype == "aac"
    assert likeness(load_audio(io.BytesIO(tagged)), speech, reach=2_000) > 0.9


@pytest.mark.parametrize("rates", [(160_000, 16_000), (16_000, 160_000), (32_000,)], ids=["falls", "rises", "stays"])
def test_an_mp3_that_tells_no_length_is_heard_to_its_end(rates, speech):
    bare = {"write_xing": "0", "id3v2_version": "0"}
    data = b"".join(encode(speech, "mp3", "libmp3lame", SR, bit_rate=rate, **bare) for rate in rates)
    y, info = load_audio(io.BytesIO(data)), describe_audio(io.BytesIO(data))
    assert len(y) == pytest.approx(len(rates) * len(speech), abs=0.1 * len(rates) * SR)
    assert info.duration_s == pytest.approx(len(y) / SR, abs=0.01)
    assert sum(map(len, stream_audio(io.BytesIO(data)))) == len(y)
    assert likeness(y, speech, reach=2_000) > 0.95


def test_joined_recordings_are_heard_to_the_last(speech):
    for kind, codec in (("mp3", "libmp3lame"), ("ogg", "libopus")):
        one = encode(speech, kind, codec, 48_000)
        alone, both = (load_audio(io.BytesIO(data)) for data in (one, one + one))
        assert len(both) == 2 * len(alone)
        assert likeness(both[len(alone) :], alone) > 0.9999


def test_damage_that_the_format_can_tell_is_told(speech):
    data = encode(speech, "matroska", "flac", SR)
    middle = len(data) // 2
    with pytest.raises(AudioError, match="Cannot decode upload beyond"):
        load_audio(io.BytesIO(data[:middle] + bytes(20) + data[middle + 20 :]))


def test_a_bill_that_does_not_fit_the_file_is_refused(voice):
    sf.write(flac := io.BytesIO(), np.zeros((384_000 * 60, 6), np.int16), 384_000, format="FLAC")
    with pytest.raises(AudioError, match="Too much: upload has 6 channels at 384000 Hz"):
        load_audio(flac)


def test_eight_channels_are_heard(voice):
    y = load_audio(io.BytesIO(encode(np.repeat(voice[:, None], 8, axis=1), "matroska", "flac", SR, channels=8)))
    assert likeness(y, voice, reach=2) > 0.999
