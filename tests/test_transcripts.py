"""transcripts: Whisper hears the decoded recording, one bad file stops nothing, and a missing extra is named."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import soundfile as sf

from sercore.errors import ConfigError
from sercore.transcripts import transcribe


class Whisper:
    """Stands in for the real one, which wants a download: it writes down how long the recording is."""

    def __init__(self, size, device, compute_type):
        self.size = size

    def transcribe(self, y):
        assert y.dtype == np.float32 and y.ndim == 1
        parts = (SimpleNamespace(text=text) for text in (f" {self.size}", f" {len(y)} samples "))
        return parts, None


def test_each_recording_is_written_down_and_a_bad_one_is_none(tmp_path, monkeypatch, caplog):
    module = ModuleType("faster_whisper")
    module.WhisperModel = Whisper
    monkeypatch.setitem(sys.modules, "faster_whisper", module)
    sf.write(tmp_path / "good.wav", 0.1 * np.sin(np.arange(24_000) / 9), 48_000)
    (tmp_path / "bad.wav").write_text("no sound")
    texts = transcribe([tmp_path / "good.wav", tmp_path / "bad.wav"], size="tiny.en", progress=False)
    assert texts == ["tiny.en 8000 samples", None]
    assert "bad.wav" in caplog.text


def test_a_missing_extra_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ConfigError, match=r"pip install 'sercore\[transcripts\]'"):
        transcribe([])
