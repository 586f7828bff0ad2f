"""models: the house CNN, ensembles and checkpoints; then what is particular to each of the other designs."""

import json
import logging
from urllib.error import URLError

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sercore.augment import SpectrogramWarp
from sercore.errors import ConfigError
from sercore.features import FeatureConfig, log_mel, to_windows
from sercore.labels import EMOTIONS
from sercore.models import at_tempo, build_model, checkpoint, load_checkpoint, predict_logits, save_checkpoint
from sercore.models.cnn_basic import BasicCNN
from sercore.models.cnn_transformer import CNNTransformer
from sercore.models.conv1d import Conv1d
from sercore.models.functionals_svm import FunctionalsSVM
from sercore.models.resnet18 import ResNet18
from sercore.models.resnet_blocks import ResNetBlocks
from sercore.models.transcript_rnn import TranscriptRNN, word_numbers
from sercore.models.two_channel import TwoChannel
from sercore.models.whisper_encoder import (
    WEIGHTS,
    Encoder,
    WhisperEncoder,
    WhisperSummary,
    pretrained_encoder,
    under_heads,
)
from sercore.predict import VARIANTS
from sercore.recipes import WHISPER_FEATURES

SENTENCES = ("Kids are talking by the door.", "Dogs are sitting by the door.")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model("cnn").eval()


@pytest.fixture
def spectrograms():
    rng = np.random.default_rng(0)
    return [rng.uniform(-80, 0, (64, n)).astype(np.float32) for n in (40, 176, 500)]


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
        ("cnn", {"dropout": 2}, "Bad dropout 2 for model 'cnn': expected numbers from 0.0 to 0.99"),
        ("cnn", {"widths": (0, 4)}, r"Bad widths \(0, 4\) for model 'cnn': expected a list of whole numbers"),
        ("cnn", {"excite": 1}, "Bad excite 1 for model 'cnn': expected True or False"),
        ("cnn_basic", {"input": "wave"}, "'wave'"),
        ("conv1d", {"n_features": 63}, "63"),
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


def test_a_checkpoint_brings_everything_back(model, spectrograms, tmp_path):
    config = FeatureConfig(level="clip", n_frames=100)
    told = {"feature_config": config, "temperature": 1.7, "info": {"train_speakers": ["ravdess-01"]}}
    loaded, metadata = load_checkpoint(save_checkpoint(tmp_path / "m.safetensors", model, name="cnn", **told))
    assert metadata.items() >= told.items() and not loaded.training
    np.testing.assert_array_equal(predict_logits(model, spectrograms), predict_logits(loaded, spectrograms))


def test_a_bad_checkpoint_is_a_clear_error(tmp_path):
    path = tmp_path / "bad.safetensors"

    def assert_error(words):
        with pytest.raises(ConfigError, match=words):
            load_checkpoint(path)

    assert_error("No checkpoint")
    path.write_bytes(b"\x80\x04pickle or whatever" * 10)
    assert_error("safetensors")
    save_file({"w": torch.zeros(1)}, path)
    assert_error("version 3")
    metadata = {key: {} for key in ("model_config", "feature_config", "info")}
    metadata |= {"sercore_checkpoint": "3", "model": "cnn", "temperature": 1.0, "emotions": EMOTIONS}
    words, tensors = {key: json.dumps(value) for key, value in metadata.items()}, {"w": torch.zeros(1)}
    save_file(tensors, path, words)
    assert_error("it is damaged: its checksum")
    save_file(tensors, path, words | {"checksum": checkpoint._checksum(words, tensors)})
    assert_error("do not fit")


@pytest.mark.parametrize("name", ["small", "ravdess"])
def test_no_flipped_bit_of_a_shipped_file_goes_unnoticed(name, tmp_path):
    data = VARIANTS[name].read_bytes()
    for place in np.random.default_rng(0).integers(0, len(data), 12):
        bad = bytearray(data)
        bad[place] ^= 1 << int(place) % 8
        (tmp_path / "bad.safetensors").write_bytes(bad)
        with pytest.raises(ConfigError, match=r"bad\.safetensors"):
            load_checkpoint(tmp_path / "bad.safetensors")


def clusters(n=400, n_features=196):
    """Functionals of eight emotions far apart, on scales as different as those of real ones."""
    rng = np.random.default_rng(0)
    targets = np.arange(n) % 8
    X = rng.normal(size=(8, n_features))[targets] + 0.1 * rng.normal(size=(n, n_features))
    return (X * rng.uniform(0.01, 20, n_features) - 40).astype(np.float32), targets


# ---- functionals


def test_conv1d_does_not_care_about_the_scale_of_an_entry():
    torch.manual_seed(0)
    X = 10 * torch.randn(8, 1, 196) - 40
    model = Conv1d(dropout=0.0).train()
    torch.testing.assert_close(model(X), model(X * torch.linspace(0.5, 50, 196) + 7), rtol=1e-3, atol=1e-3)


def test_the_svm_learns_at_once_and_its_logits_are_its_decision_values():
    X, targets = clusters()
    svm = FunctionalsSVM()
    svm.fit_closed(X, targets, seed=0)
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


def test_the_second_channel_is_what_librosa_calls_mfcc_fixed_and_not_saved():
    rng = np.random.default_rng(0)
    S_db = rng.uniform(-80, 0, (64, 30)).astype(np.float32)
    for n_mfcc, model in ((64, TwoChannel()), (20, BasicCNN(input="mfcc", n_mfcc=20))):
        M = librosa.feature.mfcc(S=S_db, n_mfcc=n_mfcc)
        D = model.dct.numpy()
        np.testing.assert_allclose(D @ S_db, M, atol=1e-3)
        scaled = D @ ((S_db + 50) / 20)
        np.testing.assert_allclose(scaled[1:], M[1:] / 20, atol=1e-4)
        np.testing.assert_allclose(scaled[0], (M[0] + 50 * 8) / 20, atol=1e-4)  # 8: the root of 64 rows
        assert "dct" in dict(model.named_buffers()) and "dct" not in model.state_dict()


def test_two_channel_looks_at_both_channels():
    model = TwoChannel().eval()
    X = torch.randn(2, 1, 64, 176)
    with torch.no_grad():
        both = model(X)
        model.dct.zero_()
        assert not torch.allclose(both, model(X))


def test_a_residual_block_without_its_convolutions_is_the_identity():
    block = ResNetBlocks(depth=2).blocks[1].eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.randn(1, 16, 8, 8)
    assert torch.equal(block(x), x)


def test_the_transformer_takes_frames_for_a_sequence_of_mel_bands():
    model = CNNTransformer().eval()
    seen = []
    model.encoder.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    X = torch.randn(2, 1, 64, 176)
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


def test_the_general_layers_learn_last():
    model, parts = ResNet18(pretrained=True), {"conv1", "bn1", "fc"}
    for start, end, more in ((0.0, 0.09, set()), (0.1, 0.29, {"layer3", "layer4"}), (0.3, 1.0, {"layer1", "layer2"})):
        parts |= more
        for progress in (start, end):
            model.set_stage(progress)
            assert learning(model) == parts
    model.set_stage(0.0)
    assert learning(model) == {"conv1", "bn1", "fc"}


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


@pytest.mark.parametrize("text", [*SENTENCES, ""])
def test_padding_does_not_change_the_answer(text):
    torch.manual_seed(0)
    model = TranscriptRNN().eval()
    short, long = (
        model(torch.from_numpy(word_numbers(text, length=length))[None, None]).detach() for length in (8, 32)
    )
    torch.testing.assert_close(short, long)


def test_the_encoder_reads_what_whispers_own_front_end_gives():
    sr, rng = 16_000, np.random.default_rng(0)
    y = (0.1 * rng.normal(size=sr) * np.linspace(0.0, 1.0, sr) ** 3).astype(np.float32)
    # As section 2.2 of Radford et al. (2022) and its code have it, up to the gain that brings the maximum to 0.
    spectrum = torch.stft(torch.from_numpy(y), 400, 160, window=torch.hann_window(400), return_complex=True)
    filters = torch.from_numpy(librosa.filters.mel(sr=sr, n_fft=400, n_mels=80))
    theirs = (filters @ spectrum.abs().square()).clamp(min=1e-10).log10()
    theirs = torch.maximum(theirs, theirs.max() - 8) - theirs.max()
    ours = to_windows(log_mel(y, sr=sr, config=WHISPER_FEATURES), config=WHISPER_FEATURES)[0]
    np.testing.assert_allclose(ours[:, 2:99], ((theirs + 4) / 4)[:, 2:99], atol=1e-3)  # the edges are padded otherwise


@pytest.mark.parametrize("n", [1, 2, 151, 299])
def test_the_encoder_does_not_hear_padding(n):
    torch.manual_seed(0)
    model = WhisperEncoder(layers=2).eval()
    X = torch.full((2, 1, 80, 300), -1.0)
    X[0, ..., :n] = torch.rand(1, 80, n)
    X[1] = torch.rand(1, 80, 300)
    with torch.inference_mode():
        padded = model(X)
        torch.testing.assert_close(padded[:1], model(X[:1, ..., :n]), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(padded[1:], model(X[1:]), rtol=1e-4, atol=1e-5)
        assert (padded[0] - padded[1]).abs().max() > 1e-4


@pytest.fixture
def whisper(tmp_path, monkeypatch):
    """A file such as Whisper's, with numbers of no meaning, where the data lie."""
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path))
    torch.manual_seed(1)
    weights = {key: value.half() for key, value in Encoder(layers=4).state_dict().items()}
    save_file(weights, tmp_path / WEIGHTS)
    pretrained_encoder.cache_clear()
    yield weights
    pretrained_encoder.cache_clear()


def test_more_layers_than_are_shipped_come_from_the_data_folder(whisper):
    ours = pretrained_encoder(4).state_dict()
    assert all(torch.equal(ours[key], value.float()) for key, value in whisper.items())
    assert not torch.equal(pretrained_encoder(3).conv1.weight, ours["conv1.weight"])  # the shipped ones
    with pytest.raises(ConfigError, match=f"No 5 layers of Whisper: expected at most 3, or {WEIGHTS} in .*, with 4"):
        pretrained_encoder(5)


def test_heads_over_the_encoder_answer_as_they_do_over_its_summaries(tmp_path):
    torch.manual_seed(2)
    heads = [build_model("whisper_head", hidden=8).eval() for _ in range(2)]
    S_db = log_mel(np.random.default_rng(0).normal(0, 0.1, 8_000).astype("float32"), sr=16_000, config=WHISPER_FEATURES)
    summary = WhisperSummary(WHISPER_FEATURES)(S_db)
    assert summary.shape == (3 * 512,)
    apart = [predict_logits(head, [summary])[0] for head in heads]
    options, model = under_heads(heads, layers=3, hidden=8, dropout=0.6)
    together = predict_logits(model, [S_db], config=WHISPER_FEATURES)[0]
    np.testing.assert_allclose(together, np.mean(apart, axis=0), atol=2e-3)  # its heads are rounded to float16
    path = save_checkpoint(
        tmp_path / "w.safetensors", model, name="whisper_encoder", model_config=options, feature_config=WHISPER_FEATURES
    )
    assert path.stat().st_size < 2.2 * sum(value.numel() for value in model.state_dict().values())
    again, _ = load_checkpoint(path)
    np.testing.assert_array_equal(predict_logits(again, [S_db], config=WHISPER_FEATURES)[0], together)


def test_a_summary_is_varied_only_with_draws_and_alike_for_the_same_draws():
    S_db = log_mel(np.random.default_rng(0).normal(0, 0.1, 8_000).astype("float32"), sr=16_000, config=WHISPER_FEATURES)
    summary = WhisperSummary(WHISPER_FEATURES, warp=SpectrogramWarp())
    plain, one, same, other = (summary(S_db, rng) for rng in (None, *map(np.random.default_rng, (0, 0, 1))))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - plain).max() > 1e-3 and np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(plain, WhisperSummary(WHISPER_FEATURES)(S_db))
