"""The architectures beside the house CNN: what all have in common, then what is particular to each."""

import logging
from urllib.error import URLError

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from sercore.errors import ConfigError
from sercore.features import functional_names
from sercore.models.cnn_basic import BasicCNN
from sercore.models.cnn_transformer import CNNTransformer
from sercore.models.conv1d import Conv1d
from sercore.models.dct import dct_matrix
from sercore.models.functionals_svm import FunctionalsSVM
from sercore.models.resnet18 import ResNet18
from sercore.models.resnet_blocks import ResNetBlocks
from sercore.models.transcript_rnn import TranscriptRNN, word_numbers
from sercore.models.two_channel import TwoChannel

SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door.")


def clusters(n=400, n_features=196):
    """Functionals of eight emotions far apart, on scales as different as those of real ones."""
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 8
    X = rng.normal(size=(8, n_features))[targets] + 0.1 * rng.normal(size=(n, n_features))
    return (X * rng.uniform(0.01, 20, n_features) - 40).astype(np.float32), targets


def fitted_svm():
    svm = FunctionalsSVM()
    svm.fit_closed(*clusters(), seed=0)
    return svm


#: How to build each one, its trainable parameters, and a size of input that is not the usual one, if it takes others.
ZOO = {
    "conv1d": (Conv1d, 856_968, None),
    "two_channel": (TwoChannel, 31_756, 64),
    "cnn_basic": (BasicCNN, 744_776, 64),
    "cnn_basic of MFCC": (lambda: BasicCNN(input="mfcc"), 474_440, 64),
    "resnet_blocks": (ResNetBlocks, 308_088, 64),
    "resnet18": (ResNet18, 11_174_344, 64),
    "cnn_transformer": (CNNTransformer, 389_608, 64),
    "transcript_rnn": (TranscriptRNN, 58_248, 8),
    "functionals_svm": (fitted_svm, 1_576, None),
}


@pytest.fixture(params=ZOO)
def case(request):
    torch.manual_seed(0)
    make, n_parameters, _ = ZOO[request.param]
    return make(), n_parameters


def batch(model, n=2, size=None):
    rng = torch.Generator().manual_seed(0)
    if model.kind == "log_mel":
        return torch.randn(n, 1, 64, size or 176, generator=rng)
    if model.kind == "functionals":
        return 10 * torch.randn(n, 1, 196, generator=rng) - 40
    return torch.randint(1, 512, (n, 1, size or 32), generator=rng)


def test_eight_emotions_are_scored_the_same_each_time(case):
    model, _ = case
    model.eval()
    logits = model(batch(model))
    assert logits.shape == (2, 8)
    assert logits.isfinite().all()
    assert torch.equal(logits, model(batch(model)))


@pytest.mark.parametrize("name", [name for name, (_, _, other) in ZOO.items() if other])
def test_inputs_of_other_lengths_are_scored(name):
    make, _, other = ZOO[name]
    model = make().eval()
    for size in (other, 3 * other + 1):
        assert model(batch(model, size=size)).shape == (2, 8)


def test_a_clip_is_scored_alike_alone_and_in_company(case):
    model, _ = case
    X = batch(model, n=3)
    model.eval()
    torch.testing.assert_close(model(X)[1:2], model(X[1:2]), rtol=1e-3, atol=1e-4)


def test_the_number_of_trainable_parameters(case):
    model, n_parameters = case
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == n_parameters


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_reach_every_parameter(case, dtype):
    model, _ = case
    model.train()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        logits = model(batch(model, n=4))
    torch.nn.functional.cross_entropy(logits.float(), torch.arange(4)).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


def test_weights_survive_safetensors_in_a_fresh_network(case, request):
    model, _ = case
    model.train()
    model(batch(model, n=4))  # moves the running statistics
    fresh = type(model)(input="mfcc") if "MFCC" in request.node.name else type(model)()
    fresh.load_state_dict(load(save({key: value.contiguous() for key, value in model.state_dict().items()})))
    assert torch.equal(model.eval()(batch(model)), fresh.eval()(batch(model)))


# ---- functionals


def test_networks_of_functionals_are_as_wide_as_functionals():
    assert Conv1d().standardize.num_features == FunctionalsSVM().head.in_features == len(functional_names()) == 196


def test_conv1d_does_not_care_about_the_scale_of_an_entry():
    torch.manual_seed(0)
    X = batch(Conv1d(), n=8)
    model = Conv1d(dropout=0.0).train()
    torch.testing.assert_close(model(X), model(X * torch.linspace(0.5, 50, 196) + 7), rtol=1e-3, atol=1e-3)


def test_conv1d_knows_the_statistics_after_one_batch():
    model = Conv1d().train()
    X = batch(model, n=8)
    model(X)
    torch.testing.assert_close(model.standardize.running_mean, X[:, 0].mean(dim=0))


def test_conv1d_of_a_short_vector_is_refused():
    with pytest.raises(ConfigError, match="63"):
        Conv1d(n_features=63)


def test_the_svm_learns_at_once_and_its_logits_are_its_decision_values():
    X, targets = clusters()
    svm = fitted_svm()
    logits = svm(torch.from_numpy(X)[:, None])
    assert (logits.argmax(dim=1).numpy() == targets).all()
    assert ((logits > 0).sum(dim=1) == 1).float().mean() > 0.9
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    expected = standard @ svm.head.weight.detach().numpy().T + svm.head.bias.detach().numpy()
    np.testing.assert_allclose(logits.detach().numpy(), expected, atol=1e-3)


def test_a_rare_emotion_weighs_as_much_as_the_others():
    X, targets = clusters(n=1600)
    keep = (targets != 3) | (np.arange(1600) < 40)
    # So far into the noise that a plain machine would do best to forget the rare one.
    X = X + 40 * np.random.default_rng(1).normal(size=X.shape).astype(np.float32)
    svm = FunctionalsSVM()
    svm.fit_closed(X[keep], targets[keep], seed=0)
    guesses = svm(torch.from_numpy(X[keep])[:, None]).argmax(dim=1).numpy()
    assert (guesses[targets[keep] == 3] == 3).mean() > 0.9


def test_an_emotion_without_clips_is_never_chosen():
    X, targets = clusters()
    svm = FunctionalsSVM()
    svm.fit_closed(X[targets != 1], targets[targets != 1], seed=0)
    logits = svm(torch.from_numpy(X)[:, None])
    assert (logits.argmin(dim=1) == 1).all()


def test_the_svm_keeps_its_entries_that_never_change_finite():
    X, targets = clusters()
    X[:, 5] = 0.25
    svm = FunctionalsSVM()
    svm.fit_closed(X, targets, seed=0)
    assert svm(torch.from_numpy(X)[:, None]).isfinite().all()


@pytest.mark.parametrize(
    ("X", "targets", "words"),
    [
        (np.zeros((8, 20)), np.arange(8), r"\(8, 20\)"),
        (np.zeros((8, 196)), np.zeros(8, dtype=int), r"\[0\]"),
        (np.zeros((8, 196)), np.arange(8) + 1, "8"),
    ],
)
def test_the_svm_names_what_it_cannot_be_fitted_to(X, targets, words):
    with pytest.raises(ConfigError, match=words):
        FunctionalsSVM().fit_closed(X, targets, seed=0)


def test_an_svm_that_was_not_fitted_says_so():
    with pytest.raises(ConfigError, match="not fitted"):
        FunctionalsSVM()(torch.zeros(1, 1, 196))


# ---- log-mel


def test_the_second_channel_is_what_librosa_calls_mfcc():
    rng = np.random.default_rng(0)
    S_db = rng.uniform(-80, 0, (64, 30)).astype(np.float32)
    for n_mfcc in (64, 20):
        M = librosa.feature.mfcc(S=S_db, n_mfcc=n_mfcc)
        D = dct_matrix(n_mfcc, 64).numpy()
        np.testing.assert_allclose(D @ S_db, M, atol=1e-3)
        scaled = D @ ((S_db + 50) / 20)
        np.testing.assert_allclose(scaled[1:], M[1:] / 20, atol=1e-4)
        np.testing.assert_allclose(scaled[0], (M[0] + 50 * 8) / 20, atol=1e-4)  # 8: the root of 64 rows


@pytest.mark.parametrize("make", [TwoChannel, lambda: BasicCNN(input="mfcc")])
def test_the_dct_is_fixed_and_not_saved(make):
    model = make()
    assert "dct" in dict(model.named_buffers())
    assert "dct" not in model.state_dict()


def test_two_channel_looks_at_both_channels():
    model = TwoChannel().eval()
    X = batch(model)
    with torch.no_grad():
        both = model(X)
        model.dct.zero_()
        assert not torch.allclose(both, model(X))


def test_a_bad_input_of_the_basic_cnn_is_named():
    with pytest.raises(ConfigError, match="'wave'"):
        BasicCNN(input="wave")


def test_a_residual_block_without_its_convolutions_is_the_identity():
    block = ResNetBlocks(depth=2).blocks[1].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(block(x), x)


def test_the_transformer_takes_frames_for_a_sequence_of_mel_bands():
    model = CNNTransformer().eval()
    seen = []
    model.encoder.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    X = batch(model)
    model(X)
    [(frames, output)] = seen
    assert frames.shape == output.shape == (2, 44, 64)
    assert torch.equal(frames[1, 3], X[1, 0, :, 12:16].amax(dim=1))


# ---- ResNet-18


def torchvision_shapes():
    """Names and shapes of torchvision's resnet18().state_dict(), for pictures of three colours and 1000 classes."""

    def bn(name, c):
        parts = ("weight", "bias", "running_mean", "running_var")
        return {f"{name}.{part}": (c,) for part in parts} | {f"{name}.num_batches_tracked": ()}

    shapes = {"conv1.weight": (64, 3, 7, 7)} | bn("bn1", 64)
    for layer, c_in, c in ((1, 64, 64), (2, 64, 128), (3, 128, 256), (4, 256, 512)):
        for k, first in enumerate((c_in, c)):
            block = f"layer{layer}.{k}"
            shapes |= {f"{block}.conv1.weight": (c, first, 3, 3)} | bn(f"{block}.bn1", c)
            shapes |= {f"{block}.conv2.weight": (c, c, 3, 3)} | bn(f"{block}.bn2", c)
        if layer > 1:
            name = f"layer{layer}.0.downsample"
            shapes |= {f"{name}.0.weight": (c, c_in, 1, 1)} | bn(f"{name}.1", c)
    return shapes | {"fc.weight": (1000, 512), "fc.bias": (1000,)}


def imagenet_weights():
    """Stand in for the download, in its older form, without the counters of batch norm."""
    rng = torch.Generator().manual_seed(0)
    shapes = {key: shape for key, shape in torchvision_shapes().items() if not key.endswith("num_batches_tracked")}
    return {key: torch.rand(shape, generator=rng) for key, shape in shapes.items()}


def learning(model):
    return {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}


def test_resnet18_has_torchvisions_names_and_shapes():
    ours = {key: tuple(value.shape) for key, value in ResNet18().state_dict().items()}
    theirs = torchvision_shapes()
    assert len(theirs) == 122
    counted = [shape for key, shape in theirs.items() if not key.endswith(("_mean", "_var", "_tracked"))]
    assert sum(int(np.prod(shape)) for shape in counted) == 11_689_512  # as torchvision's documentation has it
    changed = {"conv1.weight": (64, 1, 7, 7), "fc.weight": (8, 512), "fc.bias": (8,)}
    assert ours == theirs | changed


def test_a_warm_start_takes_everything_but_the_last_layer(monkeypatch):
    calls = []

    def download(url, **options):
        calls.append((url, options))
        return imagenet_weights()

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    model = ResNet18(pretrained=True)
    assert calls == []  # a checkpoint is rebuilt without a download
    fc = model.fc.weight.detach().clone()
    assert model.warm_start() is True
    assert model.pretrained is True
    [(url, options)] = calls
    assert url == "https://download.pytorch.org/models/resnet18-f37072fd.pth"
    assert options == {"map_location": "cpu", "progress": False, "check_hash": True, "weights_only": True}
    weights = imagenet_weights()
    assert torch.equal(model.fc.weight, fc)
    assert torch.equal(model.layer4[1].conv2.weight, weights["layer4.1.conv2.weight"])
    assert torch.equal(model.bn1.running_var, weights["bn1.running_var"])
    # A grey picture gives what it would have given in three equal colours.
    X = torch.randn(1, 1, 64, 64)
    grey = torch.nn.functional.conv2d(X.expand(-1, 3, -1, -1), weights["conv1.weight"], stride=2, padding=3)
    torch.testing.assert_close(model.conv1(X), grey, rtol=1e-4, atol=1e-4)


def test_offline_it_says_that_it_starts_from_scratch(monkeypatch, caplog):
    def download(url, **options):
        raise URLError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    model = ResNet18(pretrained=True)
    with caplog.at_level(logging.WARNING):
        assert model.warm_start() is False
    assert "from scratch" in caplog.text
    assert "no route to host" in caplog.text
    assert model.pretrained is False
    model.set_stage(0.0)
    assert len(learning(model)) == 7


def test_without_pretraining_nothing_is_asked_for(monkeypatch):
    def download(url, **options):
        raise AssertionError("a download")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
    assert ResNet18().warm_start() is False


@pytest.mark.parametrize(
    ("progress", "parts"),
    [
        (0.0, {"conv1", "bn1", "fc"}),
        (0.09, {"conv1", "bn1", "fc"}),
        (0.1, {"conv1", "bn1", "fc", "layer3", "layer4"}),
        (0.29, {"conv1", "bn1", "fc", "layer3", "layer4"}),
        (0.3, {"conv1", "bn1", "fc", "layer1", "layer2", "layer3", "layer4"}),
    ],
)
def test_the_general_layers_learn_last(progress, parts):
    model = ResNet18(pretrained=True)
    model.set_stage(progress)
    assert learning(model) == parts
    model.set_stage(1.0)
    assert len(learning(model)) == 7


# ---- words


def test_words_become_numbers_that_are_the_same_everywhere():
    numbers = word_numbers(SENTENCES[0], length=8)
    assert numbers.dtype == np.int64
    np.testing.assert_array_equal(numbers, [196, 342, 56, 39, 438, 418, 0, 0])
    np.testing.assert_array_equal(word_numbers("KIDS are, talking... by the door!", length=8), numbers)


def test_words_are_cut_and_numbered_within_the_vocabulary():
    text = " ".join(f"word{k}" for k in range(200))
    numbers = word_numbers(text, n_words=20, length=150)
    assert numbers.shape == (150,)
    assert set(numbers) == set(range(1, 20))
    assert not word_numbers("…", length=4).any()


def test_the_two_sentences_of_ravdess_differ():
    first, second = (word_numbers(text, length=6) for text in SENTENCES)
    np.testing.assert_array_equal(first != second, [True, False, True, False, False, False])


@pytest.mark.parametrize("text", [*SENTENCES, ""])
def test_padding_does_not_change_the_answer(text):
    torch.manual_seed(0)
    model = TranscriptRNN().eval()
    short, long = (
        model(torch.from_numpy(word_numbers(text, length=length))[None, None]).detach() for length in (8, 32)
    )
    torch.testing.assert_close(short, long)


def test_the_order_of_words_matters():
    model = TranscriptRNN().eval()
    X = batch(model, size=8)
    assert not torch.allclose(model(X), model(X.flip(2)))
