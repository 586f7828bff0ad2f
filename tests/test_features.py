import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import librosa
import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from sercore import features
from sercore.audio import load_audio
from sercore.augment import WaveformAugment
from sercore.errors import AudioError, ConfigError
from sercore.features import KINDS, FeatureConfig, compute, extract, functional_names, functionals, log_mel, to_windows

SR = 16_000


def tone(hz, *, seconds=1.0, amplitude=0.5):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * SR)) / SR)).astype(np.float32)


def write_clips(folder, n, *, seconds=0.3):
    """Short clips that differ in pitch, as a clip table."""
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{k:02d}.wav") for k in range(n)]
    for k, path in enumerate(paths):
        sf.write(path, tone(200 + 50 * k, seconds=seconds), SR)
    return pd.DataFrame({"path": paths})


def run(clips, cache=False, **options):
    return extract(clips, cache=cache, **{"n_jobs": 1, "progress": False} | options)


def same(one, two):
    return len(one) == len(two) > 0 and all(map(np.array_equal, one, two))


def entries(cache):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.rglob("*.npy")}


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips", 4)


@pytest.fixture
def decoded(monkeypatch):
    """The paths that `extract` decodes, as it goes."""
    paths = []
    monkeypatch.setattr(features, "load_audio", lambda path, **kw: paths.append(path) or load_audio(path, **kw))
    return paths


def test_log_mel_is_that_of_librosa(voice):
    S = librosa.feature.melspectrogram(
        y=voice, sr=16_000, n_fft=1024, win_length=640, hop_length=256, n_mels=64, fmin=50, fmax=8_000
    )
    S_db = log_mel(voice, sr=SR)
    assert S_db.dtype == np.float32 and S_db.shape == (64, 1 + len(voice) // 256)
    np.testing.assert_allclose(S_db, np.maximum(librosa.power_to_db(S, ref=1.0, top_db=None), -80), atol=1e-3)
    cepstrum = librosa.feature.mfcc(S=S_db, n_mfcc=20)
    np.testing.assert_allclose(features.mfcc(voice, sr=SR), cepstrum, atol=1e-2)


def test_level_clip_forgets_the_gain_and_level_fixed_keeps_it(voice):
    clip = FeatureConfig(level="clip")
    assert log_mel(voice, sr=SR, config=clip).max() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(log_mel(voice / 4, sr=SR, config=clip), log_mel(voice, sr=SR, config=clip), atol=1e-3)
    loud, soft = log_mel(voice, sr=SR), log_mel(voice / 4, sr=SR)
    np.testing.assert_allclose((loud - soft)[soft > -80], 12.04, atol=0.01)
    assert soft.min() == -80


@pytest.mark.parametrize(
    ("kind", "n_rows"), [("log_mel", 64), ("mfcc", 20), ("chroma", 12), ("zero_crossing_rate", 1), ("rms", 1)]
)
def test_every_track_has_the_same_frames_and_refuses_what_is_no_sound(kind, n_rows, voice):
    track = KINDS[kind](voice, sr=SR)
    assert track.shape == (n_rows, 1 + len(voice) // 256) and track.dtype == np.float32 and np.isfinite(track).all()
    with pytest.raises(AudioError, match=r"Bad rate 44100 Hz: expected config\.sr = 16000 Hz"):
        KINDS[kind](voice, sr=44_100)
    with pytest.raises(AudioError, match="Silence"):
        KINDS[kind](np.zeros(SR), sr=SR)


def test_a_tone_is_found_where_it_is():
    middle = slice(5, -5)
    band = log_mel(tone(1_000), sr=SR)[:, middle].argmax(axis=0)
    edges_hz = librosa.mel_frequencies(66, fmin=50, fmax=8_000)
    assert (band == 20).all() and edges_hz[20] < 1_000 < edges_hz[22]
    assert (features.chroma(tone(440), sr=SR)[:, middle].argmax(axis=0) == 9).all()  # C is 0, A is 9
    np.testing.assert_allclose(features.zero_crossing_rate(tone(1_000), sr=SR)[:, middle], 2_000 / SR, atol=2e-3)
    np.testing.assert_allclose(features.rms(tone(1_000), sr=SR)[:, middle], 0.5 / np.sqrt(2), atol=1e-3)


def test_prosody_is_duration_level_and_pitch():
    duration_s, dbfs, pitch_hz, range_semitones = features.prosody(tone(220), sr=SR)
    assert duration_s == 1.0 and dbfs == pytest.approx(-9.03, abs=0.01)
    assert pitch_hz == pytest.approx(220, rel=0.01) and range_semitones < 0.5


def test_functionals_are_what_their_names_say(voice):
    vector, names = functionals(voice, sr=SR), functional_names()
    assert len(names) == len(set(names)) == len(vector) == 2 * (1 + 1 + 12 + 20 + 64)
    for name, value in zip(names, vector, strict=True):
        kind, row, statistic = name.rsplit("_", 2)
        expected = getattr(np, statistic)(KINDS[kind](voice, sr=SR)[int(row)]) if int(row) % 10 == 1 else value
        assert value == pytest.approx(expected, rel=1e-3, abs=1e-4), name


def test_compute_trims_the_quiet_ends_unless_told_not_to(voice):
    y = np.concatenate([np.zeros(SR), voice, np.zeros(SR)])
    whole = compute(y, config=FeatureConfig(trim_db=None))
    assert whole.shape[1] == 1 + len(y) // 256
    assert compute(y).shape[1] <= 1 + len(voice) // 256 + 16
    with pytest.raises(ConfigError, match=r"Bad feature 'mel': expected one of \['zero_crossing_rate'"):
        compute(y, kind="mel")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "loud"}, r"Bad level 'loud': expected one of \['fixed', 'clip'\]"),
        ({"fmin_hz": -1.0}, r"Bad mel band -1\.0 to 8000\.0 Hz"),
        ({"fmin_hz": 4_000.0, "fmax_hz": 4_000.0}, "Bad mel band"),
        ({"sr": 8_000}, "Bad mel band 50.0 to 8000.0 Hz: expected .* <= 4000"),
        ({"hop_length": 0}, "Bad frames: hop_length 0"),
        ({"hop_length": 641}, "Bad frames"),
        ({"win_length": 1_025}, "Bad frames"),
    ],
)
def test_a_config_that_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError, match=words):
        FeatureConfig(**options)


def test_a_short_clip_is_one_window_padded_with_the_scaled_floor():
    X = to_windows(np.full((64, 100), -30.0))
    assert X.shape == (1, 64, 176) and X.dtype == np.float32
    assert (X[:, :, :100] == 1.0).all() and (X[:, :, 100:] == -1.5).all()  # (-30 + 50) / 20 and (-80 + 50) / 20
    assert to_windows(np.full((64, 176), -30.0)).tolist() == np.ones((1, 64, 176)).tolist()


def test_a_vector_is_one_window_as_it_stands():
    vector = np.linspace(-80, 300, 500)
    np.testing.assert_array_equal(to_windows(vector), [vector])


@pytest.mark.parametrize("n", [177, 264, 265, 500, 1_000])
@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_the_windows_of_a_long_clip_cover_it(n, overlap):
    config = FeatureConfig(db_center=0.0, db_scale=1.0)
    X = to_windows(np.tile(np.arange(n, dtype=float), (64, 1)), config=config, overlap=overlap)
    assert set(X[:, 0].ravel().astype(int)) == set(range(n))
    assert (np.diff(X[:, 0], axis=1) == 1).all()
    assert (np.diff(X[:, 0, 0]) <= 176 * (1 - overlap) + 1).all()


def test_features_come_in_the_order_of_the_clips_and_from_any_number_of_processes(clips, tmp_path):
    one, two = run(clips), run(clips, tmp_path / "cache", n_jobs=2)
    for path, a, b in zip(clips["path"], one, two, strict=True):
        assert np.array_equal(a, compute(load_audio(path))) and np.array_equal(a, b)


def test_the_second_time_nothing_is_computed(clips, tmp_path, decoded):
    first = run(clips, tmp_path)
    assert decoded == list(clips["path"])
    assert same(run(clips, tmp_path), first)
    assert len(decoded) == 4


@pytest.mark.parametrize("options", [{"config": FeatureConfig(n_mels=40)}, {"kind": "mfcc"}])
def test_another_recipe_is_computed_anew(options, clips, tmp_path, decoded):
    run(clips, tmp_path)
    assert same(run(clips, tmp_path, **options), run(clips, **options))
    assert len(decoded) == 12


def test_other_bytes_of_the_same_name_size_and_time_are_computed_anew(clips, tmp_path):
    old = run(clips, tmp_path)
    path = clips["path"][2]
    before = os.stat(path)
    sf.write(path, tone(2_000, seconds=0.3), SR)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    new = run(clips, tmp_path)
    assert np.array_equal(new[2], compute(load_audio(path))) and not np.array_equal(new[2], old[2])
    assert np.array_equal(new[1], old[1])


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:20], lambda b: b"x" * len(b)]
)
def test_a_damaged_entry_is_computed_anew(damage, clips, tmp_path, decoded, caplog):
    first = run(clips, tmp_path / "cache")
    entry = min(entries(tmp_path / "cache"))
    entry.write_bytes(damage(entry.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert same(run(clips, tmp_path / "cache"), first)
    assert len(decoded) == 5 and f"Damaged cache entry {entry}" in caplog.text
    run(clips, tmp_path / "cache")
    assert len(decoded) == 5


SLOW_RUN = """
import sys, time
import pandas as pd
from sercore import features
load_audio = features.load_audio
features.load_audio = lambda path, **kw: time.sleep(0.05) or load_audio(path, **kw)
features.extract(pd.read_csv(sys.argv[1]), cache=sys.argv[2], n_jobs=1, progress=False)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    clips, cache = write_clips(tmp_path / "clips", 60, seconds=0.1), tmp_path / "cache"
    clips.to_csv(tmp_path / "clips.csv")
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, tmp_path / "clips.csv", cache])
    while len(entries(cache)) < 10 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    written = entries(cache)
    assert 10 <= len(written) < 60
    resumed = run(clips, cache)
    assert same(resumed, run(clips))
    after = entries(cache)
    assert len(after) == 60 and written.items() <= after.items()


def test_a_bad_clip_is_named_and_does_not_stop_the_others(clips, tmp_path, caplog):
    sf.write(clips["path"][1], np.zeros(SR), SR)
    with pytest.raises(AudioError, match=r"1 of 4 clips cannot be used. The first: .*01\.wav: Silence"):
        run(clips, tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 3
    with caplog.at_level(logging.WARNING):
        found = run(clips, tmp_path / "cache", on_error="warn")
    assert [feature is None for feature in found] == [False, True, False, False]
    assert "Left out" in caplog.text and "01.wav" in caplog.text
    varied = run(clips, augment=Noise(), copies=2, on_error="warn")
    assert varied[1] == [None, None] and len(varied[0]) == 2


@dataclass(frozen=True)
class Noise:
    level: float = 0.01

    def __call__(self, y, *, sr, rng):
        return (y + rng.normal(0, self.level, len(y))).astype(np.float32)


def test_copies_differ_from_each_other_and_the_seed_repeats_them(clips, tmp_path):
    first = run(clips, tmp_path, augment=Noise(), copies=3)
    assert [len(row) for row in first] == [3, 3, 3, 3]
    flat = [copy for row in [*first, *run(clips, augment=Noise(), copies=3, seed=1)] for copy in row]
    assert len({copy.tobytes() for copy in flat}) == 24
    again, fewer = run(clips, augment=Noise(), copies=3), run(clips, augment=Noise(), copies=2)
    assert all(map(same, again, first))
    assert all(map(same, fewer, [row[:2] for row in first]))


def test_another_augmentation_is_not_taken_from_the_cache(clips, tmp_path):
    run(clips, tmp_path, augment=Noise(), copies=1)
    assert np.array_equal(
        run(clips, tmp_path, augment=Noise(0.1), copies=1)[0][0], run(clips, augment=Noise(0.1), copies=1)[0][0]
    )


def test_the_augmentation_of_the_library_repeats_by_seed(clips):
    one, two = (run(clips[:1], augment=WaveformAugment(), copies=2) for _ in range(2))
    assert same(one[0], two[0])
    assert one[0][0].tobytes() != one[0][1].tobytes()


@pytest.mark.parametrize(("kind", "n"), [("egemaps", 88), ("compare", 6373)])
def test_opensmile_gives_its_published_number_of_functionals(voice, kind, n):
    pytest.importorskip("opensmile", reason="the extra opensmile is not installed")
    vector = compute(voice, kind=kind)
    assert vector.shape == (n,) and vector.dtype == np.float32 and np.isfinite(vector).all()


def test_a_missing_opensmile_is_named_with_its_command(voice, monkeypatch):
    features._smile.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(ConfigError, match=r"pip install 'sercore\[opensmile\]'"):
        compute(voice, kind="egemaps")
    features._smile.cache_clear()
