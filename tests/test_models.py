"""The house CNN, its checkpoint, and what becomes of features on their way through it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sercore.errors import ConfigError
from sercore.features import FeatureConfig, to_windows
from sercore.models import (
    at_tempo,
    build_model,
    count_parameters,
    layer_table,
    load_checkpoint,
    predict_logits,
    save_checkpoint,
    softmax,
)

#: Other than the default, so that another default changes no number below.
WIDTHS = (32, 48, 96, 192)


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


@pytest.mark.parametrize(
    ("changes", "n_parameters"),
    [
        ({}, 712_067),
        ({"excite": False}, 699_593),
        ({"context": "gru"}, 879_107),
        ({"context": "attention"}, 1_009_091),
        ({"pool": "statistics"}, 699_650),
        ({"pool": "mean"}, 698_114),
    ],
    ids=str,
)
def test_each_option_of_the_cnn_scores_and_learns_with_every_parameter(changes, n_parameters):
    torch.manual_seed(0)
    model = build_model("cnn", **{"widths": WIDTHS} | changes)
    assert count_parameters(model) == n_parameters
    logits = model(torch.randn(4, 1, 64, 100))
    assert logits.shape == (4, 8)
    logits.square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_pooling_by_statistics_is_mean_and_deviation_over_frames():
    pool = build_model("cnn", pool="statistics").pool
    x = torch.tensor([[[1.0, 3.0, 5.0], [2.0, 2.0, 2.0]]])
    torch.testing.assert_close(pool(x), torch.tensor([[3.0, 2.0, (8 / 3) ** 0.5, 0.01]]))
    torch.testing.assert_close(build_model("cnn", pool="mean").pool(x), torch.tensor([[3.0, 2.0]]))


@pytest.mark.parametrize("context", ["gru", "attention"])
def test_with_context_a_frame_is_read_in_the_light_of_the_others(context):
    torch.manual_seed(0)
    part = build_model("cnn", widths=WIDTHS, context=context).eval().context
    x = torch.randn(1, 192, 5)
    other = x.clone()
    other[:, :, 4] *= -1  # not += 1: a normalising layer would take it away again
    assert part(x).shape == x.shape
    assert not torch.allclose(part(x)[:, :, 0], part(other)[:, :, 0])


def test_the_layer_table_follows_a_batch_and_leaves_out_what_does_nothing():
    plain = layer_table(build_model("cnn", widths=WIDTHS), torch.zeros(2, 1, 64, 176))
    assert plain["part"].tolist() == ["stem", "blocks.0", "blocks.1", "blocks.2", "pool", "dropout", "head"]
    assert plain["output"].tolist() == [
        (32, 32, 88), (48, 16, 44), (96, 8, 22), (192, 4, 11), (384,), (384,), (8,),
    ]  # fmt: skip
    assert plain["parameters"].sum() == 712_067
    words = layer_table(build_model("transcript_rnn"), torch.ones(2, 1, 32, dtype=torch.int64)).set_index("part")
    assert words.loc["gru", "output"] == (32, 64)  # the states; the last one, beside them, is no output of its own


def test_an_ensemble_gives_the_mean_of_its_members_logits(spectrograms):
    torch.manual_seed(0)
    ensemble = build_model("ensemble", member="cnn", n_members=3, widths=(4, 8, 8))
    assert ensemble.kind == "log_mel" and len(ensemble.members) == 3
    answers = [predict_logits(member, spectrograms) for member in ensemble.members]
    assert np.ptp(answers, axis=0).max() > 0.01  # three networks, not one
    np.testing.assert_allclose(predict_logits(ensemble, spectrograms), np.mean(answers, axis=0), atol=1e-6)


def test_a_tempo_moves_what_is_heard_and_leaves_the_rest_silent():
    X = torch.full((2, 1, 4, 100), -1.5)
    X[0, 0, 2, 40:51], X[1, 0, 1, 10:90] = 1.0, 0.5
    for tempo, center in ((0.9, 50), (1.1, 41), (1.0, 45)):
        heard = at_tempo(X, tempo)
        assert heard.shape == X.shape
        loud = torch.nonzero(heard[0, 0, 2] > -0.25)[:, 0].float()
        assert loud.mean() == pytest.approx(center, abs=0.6) and len(loud) == pytest.approx(11 / tempo, abs=1.5)
        assert (heard[0, 0, [0, 1, 3]] == -1.5).all() and heard.min() == -1.5  # no band moves into another
        assert (heard[1, 0, 1] > -0.5).sum() == pytest.approx(80 / tempo, abs=1)
    assert (at_tempo(X + 3, 1.25)[..., 80:] == 1.5).all()  # each window's own silence


def test_an_ensemble_hears_a_clip_at_several_tempos(spectrograms):
    torch.manual_seed(0)
    plain = build_model("ensemble", n_members=2, widths=(4, 8, 8)).eval()
    several = build_model("ensemble", n_members=2, widths=(4, 8, 8), tempos=[0.8, 1.0]).eval()
    several.load_state_dict(plain.state_dict())
    X = torch.from_numpy(to_windows(spectrograms[0]))[:, None]
    with torch.inference_mode():
        expected = (plain(X) + plain(at_tempo(X, 0.8))) / 2
        torch.testing.assert_close(several(X), expected)
        assert not torch.allclose(plain(X), expected, atol=1e-4)


def test_an_ensemble_comes_back_from_one_checkpoint(spectrograms, tmp_path):
    config = {"member": "cnn", "n_members": 2, "widths": (4, 8, 8), "tempos": (0.9, 1.0, 1.1)}
    ensemble = build_model("ensemble", **config)
    path = save_checkpoint(tmp_path / "e.safetensors", ensemble, name="ensemble", model_config=config)
    loaded, metadata = load_checkpoint(path)
    assert (metadata["model"], len(loaded.members)) == ("ensemble", 2)
    np.testing.assert_array_equal(predict_logits(ensemble, spectrograms), predict_logits(loaded, spectrograms))


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("cmm", {}, "'cmm'"),
        ("cnn", {"depth": 9}, "depth"),
        ("cnn", {"pool": "max"}, r"Bad pool 'max': expected one of \['attentive', 'statistics', 'mean'\]"),
        ("cnn", {"context": "lstm"}, r"Bad context 'lstm': expected one of \['none', 'gru', 'attention'\]"),
        ("ensemble", {"member": "cmm"}, "'cmm'"),
        ("ensemble", {"depth": 9}, "depth"),
        (
            "ensemble",
            {"member": "conv1d", "tempos": (0.9, 1.0)},
            r"Bad tempos \(0.9, 1.0\) for conv1d, which reads functionals",
        ),
    ],
)
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
