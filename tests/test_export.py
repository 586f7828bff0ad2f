"""export: the graph says what the predictor says, whatever the length, and says so if it cannot be written."""

import json

import numpy as np
import pytest
import torch

from sercore import export
from sercore.audio import cut_pauses, resample, trim_silence
from sercore.errors import ConfigError
from sercore.export import LogMel, export_onnx
from sercore.features import FeatureConfig, compute, to_windows
from sercore.models import build_model, save_checkpoint
from sercore.predict import Predictor


@pytest.mark.parametrize("name", ["small", "ravdess", pytest.param("any_voice", marks=pytest.mark.slow)])
def test_onnxruntime_says_what_torch_says_of_any_length(name, voice, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    session = onnxruntime.InferenceSession(export_onnx(tmp_path / "network.onnx", checkpoint=name))
    predictor, facts = Predictor(name), session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["sr"]) == predictor.config.sr
    assert json.loads(facts["emotions"]) == list(predictor.metadata["emotions"])
    y = resample(voice, 16_000, predictor.config.sr)
    quiet = np.zeros(5_000, np.float32)
    long = [np.concatenate([y, y, y]), np.concatenate([y, np.zeros(3 * len(y), np.float32), y / 2, y, y[:9_999]])]
    for clip in (y, y[:4_000], np.concatenate([quiet, y / 8, quiet]), *long):
        expected = list(predictor.predict((clip, predictor.config.sr)).probabilities.values())
        (got,) = session.run(None, {"waveform": clip})
        np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize("n", [300, 30_000, 100_001])
@pytest.mark.parametrize("options", [{}, {"level": "clip", "trim_db": None}, {"n_fft": 401, "win_length": 399}])
def test_the_front_end_is_that_of_training(n, options):
    config = FeatureConfig(**options)
    y = (np.random.default_rng(n).standard_normal(n) * np.geomspace(1e-4, 0.2, n)).astype(np.float32)
    speech = y if len(trim_silence(y)) <= config.window_s * config.sr else cut_pauses(y, sr=config.sr)  # as in predict
    expected = to_windows(compute(speech, config=config), config=config)
    np.testing.assert_allclose(LogMel(config)(torch.from_numpy(y))[:, 0], expected, atol=1e-3)


def test_what_cannot_be_exported_is_said(tmp_path, monkeypatch):
    path = save_checkpoint(tmp_path / "svm.safetensors", build_model("functionals_svm"), name="functionals_svm")
    pytest.importorskip("onnx")
    with pytest.raises(ConfigError, match="reads functionals, expected one for log-mel"):
        export_onnx(tmp_path / "svm.onnx", checkpoint=path)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="No onnx here"):
        export_onnx(tmp_path / "small.onnx")
