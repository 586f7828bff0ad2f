"""export: the ONNX graph answers as torch does, whatever the length, level and silence around; tells what is missing."""

import sys

import numpy as np
import onnxruntime
import pytest
from typer.testing import CliRunner

from sercore.cli import app
from sercore.corpora.synthetic import SR, synthesize
from sercore.errors import ConfigError
from sercore.export import export_onnx
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import build_model, save_checkpoint
from sercore.predict import Predictor

VOICE = synthesize("angry", speaker=3)
SOUNDS = {
    "a sentence": VOICE,
    "silence around": np.pad(VOICE, SR),
    "softly": 0.01 * VOICE,
    "half a second": VOICE[SR // 2 : SR],
    "three sentences": np.tile(VOICE, 3),
    "loud noise": np.random.default_rng(0).uniform(-1, 1, SR).astype(np.float32),
}


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "small.onnx"
    result = CliRunner().invoke(app, ["export", str(path), "--checkpoint", "small"])
    assert result.exit_code == 0 and "its answers are torch's but for" in result.output, result.output
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("sound", SOUNDS)
def test_the_graph_answers_as_the_predictor_does(session, sound):
    check(session, "small", SOUNDS[sound])


def check(session, name, y):
    (proba,) = session.run(None, {"waveform": y.astype(np.float32)})
    expected = Predictor(name).predict((y.astype(np.float32), SR)).probabilities
    np.testing.assert_allclose(proba, list(expected.values()), atol=1e-4)


def test_the_graph_says_what_it_wants_and_gives(session):
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["sr"] == "16000" and all(emotion in facts["emotions"] for emotion in EMOTIONS)
    assert facts["network"].startswith("small")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["any_voice", "ravdess"])
def test_the_larger_networks_can_be_exported_as_well(name, tmp_path):
    assert export_onnx(Predictor(name), tmp_path / "network.onnx") < 1e-5
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", providers=["CPUExecutionProvider"])
    for sound in SOUNDS:
        check(session, name, SOUNDS[sound])


def test_other_front_ends_are_kept(tmp_path):
    config = FeatureConfig(
        n_fft=512, win_length=401, hop_length=128, n_mels=40, level="clip", trim_db=None, n_frames=100
    )
    model = build_model("cnn", widths=(4, 8))
    path = save_checkpoint(
        tmp_path / "odd.safetensors", model, name="cnn", model_config={"widths": (4, 8)}, feature_config=config
    )
    assert export_onnx(Predictor(path), tmp_path / "odd.onnx") < 1e-5


def test_what_cannot_be_exported_is_told(tmp_path, monkeypatch):
    model = build_model("conv1d")
    path = save_checkpoint(tmp_path / "other.safetensors", model, name="conv1d")
    with pytest.raises(ConfigError, match=r"Bad network other: it reads \w+; expected one that reads log_mel"):
        export_onnx(Predictor(path), tmp_path / "other.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(
        ConfigError, match=r"Cannot export: onnx is missing. Install both: pip install onnx onnxruntime"
    ):
        export_onnx(Predictor("small"), tmp_path / "small.onnx")
    assert not list(tmp_path.glob("*.onnx*"))
