"""cache: the right features, whoever filled it, whatever befell it; faults of the machine are not those of a clip."""

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from threadpoolctl import threadpool_info, threadpool_limits

from sercore import cache, settings
from sercore.audio import load_audio
from sercore.augment import WaveformAugment
from sercore.cache import extract
from sercore.errors import AudioError, ConfigError
from sercore.features import FEATURES_VERSION, FeatureConfig, compute

SR = 16_000


def write_clips(folder, n, *, seconds=0.3):
    """Short clips that differ in pitch, as a clip table."""
    folder.mkdir(exist_ok=True)
    paths = [str(folder / f"{k:02d}.wav") for k in range(n)]
    t = np.arange(round(seconds * SR)) / SR
    for k, path in enumerate(paths):
        sf.write(path, 0.5 * np.sin(2 * np.pi * (200 + 50 * k) * t), SR)
    return pd.DataFrame({"path": paths})


def run(clips, cache=False, **options):
    return extract(clips, cache=cache, **{"n_jobs": 1, "progress": False} | options)


def same(one, two):
    return len(one) == len(two) > 0 and all(map(np.array_equal, one, two))


def entries(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.rglob("*.npy")}


@dataclass(frozen=True)
class Noise:
    level: float = 0.01

    def __call__(self, y, *, sr, rng):
        return (y + rng.normal(0, self.level, len(y))).astype(np.float32)


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@dataclass(frozen=True)
class OneThread:
    def __call__(self, y, *, sr, rng):
        time.sleep(0.01)  # so that threads do meet
        if set(blas_threads()) != {1}:
            raise RuntimeError(f"threads {blas_threads()}")
        return y


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips", 4)


@pytest.fixture
def decoded(monkeypatch):
    """The paths that `extract` decodes, as it goes."""
    paths = []
    monkeypatch.setattr(cache, "load_audio", lambda path, **kw: paths.append(path) or load_audio(path, **kw))
    return paths


def fail_with(error):
    def fail(*args, **kwargs):
        raise error

    return fail


def test_features_come_in_the_order_of_the_clips_and_from_any_number_of_processes(clips, tmp_path):
    one, two = run(clips), run(clips, tmp_path / "cache", n_jobs=2)
    assert same(one, two)
    for path, feature in zip(clips["path"], one, strict=True):
        np.testing.assert_allclose(feature, compute(load_audio(path)), atol=1e-4)


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_linear_algebra_has_one_thread_while_a_feature_is_computed(clips, backend, n_jobs):
    with threadpool_limits(2, user_api="blas"), joblib.parallel_config(backend):
        before = blas_threads()
        run(clips, augment=OneThread(), copies=2, n_jobs=n_jobs)
        assert blas_threads() == before


@pytest.mark.parametrize("options", [{"config": FeatureConfig(n_mels=40)}, {"kind": "mfcc"}])
def test_the_same_is_computed_once_and_another_feature_anew(options, clips, tmp_path, decoded):
    first = run(clips, tmp_path)
    assert decoded == list(clips["path"])
    assert same(run(clips, tmp_path), first) and len(decoded) == 4
    assert same(run(clips, tmp_path, **options), run(clips, **options)) and len(decoded) == 12


def test_other_bytes_of_the_same_name_size_and_time_are_computed_anew(clips, tmp_path):
    old = run(clips, tmp_path)
    path = clips["path"][2]
    before = os.stat(path)
    sf.write(path, sf.read(clips["path"][0])[0], SR)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    new = run(clips, tmp_path)
    assert same(new, [old[0], old[1], old[0], old[3]]) and not np.array_equal(new[2], old[2])


def flipped(data):
    return data[:200] + bytes([data[200] ^ 1]) + data[201:]


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b[:20], lambda b: b"x" * len(b), flipped]
)
def test_a_damaged_entry_is_computed_anew(damage, clips, tmp_path, decoded, caplog):
    first = run(clips, tmp_path / "cache")
    entry = min(entries(tmp_path / "cache"))
    entry.write_bytes(damage(entry.read_bytes()))
    assert same(run(clips, tmp_path / "cache"), first)
    assert len(decoded) == 5 and f"Damaged cache entry {entry}" in caplog.text
    run(clips, tmp_path / "cache")
    assert len(decoded) == 5


def test_an_entry_under_the_name_of_another_is_not_believed(clips, tmp_path):
    first = run(clips, tmp_path)
    one, other, *_ = entries(tmp_path)
    shutil.copy(one, other)
    assert same(run(clips, tmp_path), first)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_cache_that_cannot_be_written_costs_one_warning_and_no_clip(code, clips, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(settings, "write_atomic", fail_with(OSError(code, os.strerror(code), "some/entry")))
    assert same(run(clips, tmp_path), run(clips))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Cannot write the cache" in caplog.text and os.strerror(code) in caplog.text


def test_a_fault_of_the_cache_is_told_once_also_from_other_processes(clips, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert same(run(clips, tmp_path / "file", n_jobs=2), run(clips))
    assert caplog.text.count("Cannot write the cache") == 1


@pytest.mark.parametrize(
    "error", [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "I/O"), MemoryError()]
)
def test_a_fault_of_the_machine_stops_the_run_under_its_own_name(error, clips, monkeypatch):
    monkeypatch.setattr(cache, "load_audio", fail_with(error))
    with pytest.raises(type(error)) as raised:
        run(clips, on_error="warn")
    assert not isinstance(raised.value, AudioError)


SLOW_RUN = """
import sys, time
import pandas as pd
from sercore import cache
load_audio = cache.load_audio
cache.load_audio = lambda path, **kw: time.sleep(0.05) or load_audio(path, **kw)
cache.extract(pd.read_csv(sys.argv[1]), cache=sys.argv[2], n_jobs=1, progress=False)
"""


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    clips, folder = write_clips(tmp_path / "clips", 60, seconds=0.1), tmp_path / "cache"
    clips.to_csv(tmp_path / "clips.csv")
    process = subprocess.Popen([sys.executable, "-c", SLOW_RUN, tmp_path / "clips.csv", folder])
    while len(entries(folder)) < 10 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    written = entries(folder)
    assert 10 <= len(written) < 60
    assert same(run(clips, folder), run(clips))
    after = entries(folder)
    assert len(after) == 60 and written.items() <= after.items()


def test_a_bad_clip_is_named_and_does_not_stop_the_others(clips, tmp_path, caplog):
    sf.write(clips["path"][1], np.zeros(SR), SR)
    with pytest.raises(AudioError, match=r"1 of 4 clips cannot be used. The first: .*01\.wav: Silence"):
        run(clips, tmp_path / "cache")
    assert len(entries(tmp_path / "cache")) == 3
    os.remove(clips["path"][2])
    found = run(clips, tmp_path / "cache", on_error="warn")
    assert [feature is None for feature in found] == [False, True, True, False]
    assert caplog.text.count("Left out") == 2 and "01.wav" in caplog.text and "02.wav" in caplog.text
    varied = run(clips, augment=Noise(), copies=2, on_error="warn")
    assert varied[1] == [None, None] and len(varied[0]) == 2


def test_copies_differ_from_each_other_and_the_seed_repeats_them(clips, tmp_path):
    first = run(clips, tmp_path, augment=Noise(), copies=3)
    assert [len(row) for row in first] == [3, 3, 3, 3]
    flat = [copy for row in [*first, *run(clips, augment=Noise(), copies=3, seed=1)] for copy in row]
    assert len({copy.tobytes() for copy in flat}) == 24
    again, fewer = run(clips, augment=Noise(), copies=3), run(clips, augment=Noise(), copies=2)
    assert all(map(same, again, first))
    assert all(map(same, fewer, [row[:2] for row in first]))
    louder = [run(clips, folder, augment=Noise(0.1), copies=1)[0] for folder in (tmp_path, False)]
    assert same(*louder)


def test_an_unknown_way_with_errors_is_refused(clips):
    with pytest.raises(ConfigError, match="Bad on_error 'ignore': expected 'raise' or 'warn'"):
        run(clips, on_error="ignore")


def test_other_numbers_need_another_version(voice):
    varied = WaveformAugment()(voice, sr=SR, rng=np.random.default_rng(0))
    numbers = [compute(y).mean() for y in (voice, varied)]
    assert FEATURES_VERSION == 4
    assert numbers == pytest.approx([-42.292, -32.761], abs=0.01)
