"""errors, labels and settings: the names, the order and the folders that everything else builds on."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sercore import errors, settings
from sercore.labels import COLORS, EMOTIONS

CHECKOUT = Path(settings.__file__).parent.parent


@pytest.mark.parametrize("name", ["AudioError", "CorpusError", "ConfigError", "SilenceError"])
def test_every_error_is_a_ser_error_and_a_value_error(name):
    assert issubclass(getattr(errors, name), (errors.SerError)) and issubclass(getattr(errors, name), ValueError)


def test_silence_is_an_audio_error():
    assert issubclass(errors.SilenceError, errors.AudioError)


def test_the_emotions_are_those_of_ravdess_in_its_order():
    assert EMOTIONS == ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def test_each_emotion_has_a_colour_of_its_own():
    assert tuple(COLORS) == EMOTIONS
    assert len(set(COLORS.values())) == 8
    assert all(re.fullmatch("#[0-9A-F]{6}", color) for color in COLORS.values())


@pytest.mark.parametrize(
    ("function", "variable", "default"),
    [
        (settings.data_root, "SERCORE_DATA", "data"),
        (settings.cache_dir, "SERCORE_CACHE", "data/cache"),
        (settings.runs_dir, "SERCORE_RUNS", "data/runs"),
        (settings.results_dir, "SERCORE_RESULTS", "data/results"),
        (settings.figures_dir, "SERCORE_FIGURES", "build/figures"),
    ],
)
def test_folders_are_in_the_checkout_unless_a_variable_is_set(monkeypatch, tmp_path, function, variable, default):
    monkeypatch.delenv(variable, raising=False)
    assert function() == CHECKOUT / default
    monkeypatch.setenv(variable, str(tmp_path))
    assert function() == tmp_path
    monkeypatch.setenv(variable, "~/somewhere")
    assert function() == Path.home() / "somewhere"


def test_a_relative_data_folder_is_meant_from_the_checkout(monkeypatch, tmp_path):
    monkeypatch.setenv("SERCORE_DATA", "../shared/data")
    monkeypatch.chdir(tmp_path)
    assert settings.data_root() == (CHECKOUT.parent / "shared" / "data").resolve()


def test_the_profile_is_full_where_ravdess_is(monkeypatch, tmp_path):
    monkeypatch.delenv("SERCORE_PROFILE", raising=False)
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    assert settings.profile() == "smoke"
    (tmp_path / "ravdess").mkdir()
    assert settings.profile() == "full"
    monkeypatch.setenv("SERCORE_PROFILE", "smoke")
    assert settings.profile() == "smoke"


def test_an_unknown_profile_is_named(monkeypatch):
    monkeypatch.setenv("SERCORE_PROFILE", "fast")
    with pytest.raises(errors.ConfigError, match=r"Bad SERCORE_PROFILE 'fast': expected one of \['full', 'smoke'\]"):
        settings.profile()


def test_the_language_is_english_unless_a_variable_is_set(monkeypatch):
    monkeypatch.setenv("SERCORE_LANGUAGE", "")
    assert settings.language() == "en"
    monkeypatch.setenv("SERCORE_LANGUAGE", "de")
    assert settings.language() == "de"


def test_the_device_can_be_set_and_one_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("SERCORE_DEVICE", "cpu")
    assert settings.device() == "cpu"
    for wrong in ("banana", "cuda:99"):
        monkeypatch.setenv("SERCORE_DEVICE", wrong)
        with pytest.raises(errors.ConfigError, match=f"Bad SERCORE_DEVICE '{wrong}': expected one of .*'cpu'"):
            settings.device()
    monkeypatch.delenv("SERCORE_DEVICE")
    assert settings.device() in ("cuda", "mps", "cpu")


def test_a_write_cut_short_leaves_the_old_file(monkeypatch, tmp_path):
    path = settings.write_atomic(tmp_path / "new" / "table.csv", b"old")
    assert path.read_bytes() == b"old"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(settings.os, "replace", killed)
        settings.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    settings.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path):
    texts = [bytes([65 + k]) * 50_000 for k in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: settings.write_atomic(tmp_path / "one.txt", text), texts * 5))
    assert (tmp_path / "one.txt").read_bytes() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["one.txt"]


def run(*words, cwd):
    subprocess.run(words, cwd=cwd, check=True, capture_output=True)


def test_the_commit_is_that_of_sercore_s_own_checkout_and_no_other(tmp_path, monkeypatch):
    package = tmp_path / "project" / ".venv" / "sercore"
    package.mkdir(parents=True)
    (tmp_path / "project" / "code.py").write_text("")
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    run("git", "init", "-q", cwd=tmp_path / "project")
    run("git", "add", "code.py", cwd=tmp_path / "project")
    run(*git, "commit", "-qm", "another project", cwd=tmp_path / "project")
    monkeypatch.setattr(settings, "__file__", str(package / "settings.py"))
    assert settings.commit.__wrapped__() == "unknown"
    (package.parent / "pyproject.toml").write_text("")  # looks like a checkout, but is not the top of one
    assert settings.commit.__wrapped__() == "unknown"
    monkeypatch.setattr(settings, "__file__", str(tmp_path / "project" / "sercore" / "settings.py"))
    (tmp_path / "project" / "pyproject.toml").write_text("")
    own = settings.commit.__wrapped__()
    assert re.fullmatch("[0-9a-f]{10}", own)
    (tmp_path / "project" / "code.py").write_text("changed = True")
    assert settings.commit.__wrapped__() == f"{own}+"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert settings.commit.__wrapped__() == "unknown"
