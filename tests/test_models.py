"""The house CNN, its checkpoint, and what becomes of features on their way through it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sercore.errors import ConfigError
from sercore.features import FeatureConfig
from sercore.models import build_model, count_parameters, load_checkpoint, predict_logits, save_checkpoint, softmax


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("cnn").eval()


@pytest.fixture
def spectrograms():
    rng = np.random.default_rng(0)
    return [rng.uniform(-80, 0, (64, n)).astype(np.float32) for n in (40, 176, 500)]


def test_the_cnn_scores_eight_emotions_whatever_the_number_of_frames(model):
    for n_frames in (16, 176, 400):
        assert model(torch.zeros(2, 1, 64, n_frames)).shape == (2, 8)


def test_the_cnn_is_small(model):
    assert count_parameters(model) == sum(p.numel() for p in model.parameters())
    assert count_parameters(model) * 4 < 10e6


def test_gradients_reach_every_parameter(model):
    model.train()
    model(torch.randn(4, 1, 64, 176)).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(("name", "config", "words"), [("cmm", {}, "'cmm'"), ("cnn", {"depth": 9}, "depth")])
def test_a_bad_name_or_option_is_named(name, config, words):
    with pytest.raises(ConfigError, match=words):
        build_model(name, **config)


def test_logits_do_not_depend_on_the_company_a_clip_is_in(model, spectrograms):
    together = predict_logits(model, spectrograms)
    alone = np.concatenate([predict_logits(model, [S_db]) for S_db in spectrograms])
    assert together.shape == (3, 8)
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_predict_logits_leaves_the_mode_of_the_model_alone(model, spectrograms):
    model.train()
    predict_logits(model, spectrograms)
    assert model.training


def test_softmax_at_a_high_temperature_is_less_sure():
    logits = np.array([[2.0, 0.0, 0.0]])
    np.testing.assert_allclose(softmax(logits), [[0.786986, 0.106507, 0.106507]], atol=1e-6)
    np.testing.assert_allclose(softmax(logits, temperature=2.0), [[0.576117, 0.211942, 0.211942]], atol=1e-6)


def test_a_checkpoint_brings_everything_back(model, spectrograms, tmp_path):
    config = FeatureConfig(level="clip", n_frames=100)
    path = save_checkpoint(
        tmp_path / "m.safetensors",
        model,
        name="cnn",
        feature_config=config,
        temperature=1.7,
        info={"train_speakers": ["ravdess-01"]},
    )
    loaded, metadata = load_checkpoint(path)
    assert metadata["feature_config"] == config
    assert metadata["temperature"] == 1.7
    assert metadata["info"] == {"train_speakers": ["ravdess-01"]}
    assert not loaded.training
    np.testing.assert_array_equal(predict_logits(model, spectrograms), predict_logits(loaded, spectrograms))


def _missing(path):
    return path


def _not_safetensors(path):
    path.write_bytes(b"\x80\x04pickle or whatever" * 10)
    return path


def _foreign(path):
    save_file({"w": torch.zeros(1)}, path)
    return path


def _wrong_shape(path):
    metadata = {
        "sercore_checkpoint": "1",
        "model": "cnn",
        "model_config": {},
        "feature_config": {},
        "temperature": 1.0,
        "info": {},
        "emotions": ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"],
    }
    save_file({"w": torch.zeros(1)}, path, {key: json.dumps(value) for key, value in metadata.items()})
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, "No checkpoint"),
        (_not_safetensors, "safetensors"),
        (_foreign, "version 1"),
        (_wrong_shape, "do not fit"),
    ],
)
def test_a_bad_checkpoint_is_a_clear_error(make, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        load_checkpoint(make(tmp_path / "bad.safetensors"))
