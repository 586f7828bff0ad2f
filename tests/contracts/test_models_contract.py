"""What every design keeps: eight logits, the same each time, whatever the length and the company, learned by all of it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from sercore.models import MODELS, Trainable, build_model
from sercore.models.whisper_encoder import WhisperEncoder, WhisperHead

#: A design with options that change its way through the data.
CASES = {name: (name, {}) for name in MODELS if name != "ensemble"} | {
    "cnn without excitation": ("cnn", {"excite": False}),
    "cnn_basic of MFCC": ("cnn_basic", {"input": "mfcc"}),
    "ensemble of heads": ("ensemble", {"member": "whisper_head", "n_members": 2, "hidden": 8}),
    "ensemble at two tempos": ("ensemble", {"n_members": 2, "widths": (16, 32, 32), "tempos": (0.9, 1.0)}),
}
#: Lengths of input that are not the usual one, where there may be others.
LENGTHS = {"log_mel": (64, 193), "words": (8, 25), "functionals": (196,), "whisper": (3 * 512,)}


def make(case):
    torch.manual_seed(0)
    name, options = CASES[case]
    model = build_model(name, **options)
    if model.closed:
        model.fit_closed(np.random.default_rng(0).normal(size=(64, 196)), np.arange(64) % 8, seed=0)
    return model


@pytest.fixture(params=CASES)
def model(request):
    return make(request.param)


def batch(model, n=2, size=None):
    rng = torch.Generator().manual_seed(0)
    if model.kind == "log_mel":
        n_mels = 80 if isinstance(model, WhisperEncoder) else 64
        return torch.randn(n, 1, n_mels, size or 176, generator=rng)
    if model.kind == "whisper":
        return torch.randn(n, 1, 3 * 512, generator=rng)
    if model.kind == "functionals":
        return 10 * torch.randn(n, 1, size or 196, generator=rng) - 40
    return torch.randint(1, 512, (n, 1, size or 32), generator=rng)


def test_eight_emotions_are_scored_the_same_each_time_at_any_length(model):
    model.eval()
    for size in LENGTHS[model.kind]:
        logits = model(batch(model, size=size))
        assert logits.shape == (2, 8) and logits.isfinite().all()
        assert torch.equal(logits, model(batch(model, size=size)))


def test_a_clip_is_scored_alike_alone_and_in_company(model):
    X = batch(model, n=3)
    model.eval()
    torch.testing.assert_close(model(X)[1:2], model(X[1:2]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_every_parameter(model, dtype):
    model.train()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        logits = model(batch(model, n=4))
    torch.nn.functional.cross_entropy(logits.float(), torch.arange(4)).backward()
    silent = [
        name for name, p in model.named_parameters() if p.requires_grad and not (p.grad is not None and p.grad.any())
    ]
    assert silent == []


@pytest.mark.parametrize("case", CASES)
def test_weights_survive_safetensors_in_a_fresh_network(case):
    model, (name, options) = make(case).train(), CASES[case]
    model(batch(model, n=4))  # moves the running statistics
    fresh = build_model(name, **options)
    fresh.load_state_dict(load(save({key: value.contiguous() for key, value in model.state_dict().items()})))
    assert torch.equal(model.eval()(batch(model)), fresh.eval()(batch(model)))


def test_what_a_run_asks_of_a_network_is_answered(model):
    assert Trainable in type(model).__mro__ and model.kind in LENGTHS
    assert model.warm_start() is isinstance(model, WhisperHead)  # of the others none, unless asked for
    model.set_stage(0.0)
