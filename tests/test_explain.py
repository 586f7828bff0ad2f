"""What the network listened to: the weights add up, belong to the network, and survive the deletion test."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from sercore.corpora import load_corpus, synthetic
from sercore.errors import AudioError, ConfigError
from sercore.explain import deletion_areas, deletion_curve, explain
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import MODELS, build_model, predict_logits, save_checkpoint
from sercore.predict import VARIANTS, Predictor
from sercore.recipes import DESIGNS
from sercore.settings import samples_dir

SR = synthetic.SR
#: Frames of 16 ms that the network sees at once.
WINDOW = 176


@pytest.fixture(scope="module")
def shipped():
    return Predictor("ravdess")


def untrained(folder, name):
    torch.manual_seed(0)
    path = folder / f"{name}.safetensors"
    features = DESIGNS.get(name, {}).get("features", FeatureConfig())
    return Predictor(save_checkpoint(path, build_model(name), name=name, feature_config=features))


def speech(*emotions, speaker=4):
    """Synthetic speech, one emotion after the other, as `Predictor.predict` takes it."""
    return np.concatenate([synthetic.synthesize(emotion, speaker=speaker) for emotion in emotions]), SR


def rise(predictor, explanation):
    """What the emotion's logit of a clip has beyond that of silence."""
    silence = np.full((predictor.config.n_mels, predictor.config.n_frames), -80, dtype=np.float32)
    logits = predict_logits(predictor.model, [explanation.S_db, silence], config=predictor.config)
    return float(np.subtract(*logits[:, EMOTIONS.index(explanation.emotion)]))


def areas(curve):
    """The areas under the two curves of the deletion test: important cells first, random cells."""
    return [np.trapezoid(curve[column], curve["share"]) for column in ("probability", "probability_random")]


@pytest.mark.parametrize("emotions", [("happy",), ("sad", "angry", "fearful")], ids=["one window", "several windows"])
def test_the_weights_cover_the_clip_and_add_up_to_the_rise_of_its_logit(shipped, emotions):
    recording = speech(*emotions)
    explanation = explain(shipped, recording)
    n_frames = explanation.S_db.shape[1]
    assert (n_frames > WINDOW) == (len(emotions) > 1)
    assert explanation.S_db.shape == explanation.weights.shape == (64, n_frames)
    assert explanation.weights[:, [0, -1]].any(axis=0).all()
    assert explanation.weights.dtype == np.float32 and explanation.hop_s == 0.016
    assert n_frames * explanation.hop_s == pytest.approx(len(recording[0]) / SR, abs=0.6)  # without its quiet ends
    assert explanation.emotion == shipped.predict(recording).label
    assert explanation.weights.sum() == pytest.approx(rise(shipped, explanation), rel=0.1, abs=0.1)


def test_silence_within_a_clip_weighs_nothing(shipped):
    y, _ = speech("happy")
    explanation = explain(shipped, (np.concatenate([y, np.zeros(SR, dtype=np.float32), y]), SR))
    silent = (explanation.S_db == -80).all(axis=0)
    assert silent.sum() > 50
    assert not explanation.weights[:, silent].any() and explanation.weights[:, ~silent].any(axis=0).all()


def test_what_speaks_for_one_emotion_is_not_what_speaks_for_another(shipped):
    happy, sad = (explain(shipped, speech("happy"), emotion=emotion) for emotion in ("happy", "sad"))
    assert (happy.emotion, sad.emotion) == ("happy", "sad")
    assert np.corrcoef(happy.weights.ravel(), sad.weights.ravel())[0, 1] < 0.5


def test_another_network_of_the_same_design_gives_another_map(shipped, tmp_path):
    """A map that stays when the weights are drawn anew shows the clip, not the network (Adebayo et al. 2018)."""
    trained, drawn = (explain(p, speech("angry"), emotion="angry") for p in (shipped, untrained(tmp_path, "ensemble")))
    assert abs(np.corrcoef(trained.weights.ravel(), drawn.weights.ravel())[0, 1]) < 0.3


@pytest.mark.parametrize(
    "name", [name for name, model in MODELS.items() if model.kind == "log_mel" and name != "whisper_encoder"]
)
def test_every_network_that_reads_log_mel_can_be_explained(name, tmp_path):
    predictor = untrained(tmp_path, name)
    explanation = explain(predictor, speech("calm"), emotion="calm")
    assert explanation.weights.shape == explanation.S_db.shape
    assert explanation.weights.sum() == pytest.approx(rise(predictor, explanation), rel=0.2, abs=0.1)


def test_the_default_network_can_be_explained_through_the_layers_of_whisper():
    predictor = Predictor()
    explanation = explain(predictor, speech("calm"))
    assert explanation.weights.shape == explanation.S_db.shape and explanation.S_db.shape[0] == 80
    assert np.isfinite(explanation.weights).all() and np.abs(explanation.weights).max() > 0


@pytest.mark.parametrize("name", ["conv1d", "functionals_svm", "transcript_rnn"])
def test_a_network_that_reads_no_spectrogram_is_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=f"Bad model '{name}', which reads {MODELS[name].kind}: expected .* log_mel"):
        explain(untrained(tmp_path, name), speech("calm"))


def test_nothing_stays_behind_on_the_network(shipped):
    model = shipped.model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    explain(shipped, speech("happy"))
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    assert not any(getattr(part, name) for part in model.modules() for name in hooks)
    model.eval()


def test_an_unknown_emotion_and_silence_are_refused(shipped):
    for emotion in ("hapy", ""):
        with pytest.raises(ConfigError, match=rf"Bad emotion '{emotion}': expected one of \['neutral', "):
            explain(shipped, speech("happy"), emotion=emotion)
    with pytest.raises(AudioError, match="Silence"):
        explain(shipped, (np.zeros(SR), SR))


def test_deletion_goes_from_the_clip_to_silence_the_same_each_time(shipped):
    explanation = explain(shipped, speech("angry"), emotion="angry")
    curve = deletion_curve(shipped, explanation, steps=4)
    assert curve["share"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    asked = shipped.predict(speech("angry")).probabilities["angry"]
    floor = predict_logits(shipped.model, [np.full_like(explanation.S_db, -80)], config=shipped.config)[0]
    floor = softmax(floor / shipped.temperature)[EMOTIONS.index("angry")]
    for column in ("probability", "probability_random"):  # closer than float32 nobody can ask for
        assert curve[column].iloc[[0, -1]].tolist() == pytest.approx([asked, floor], rel=1e-4)
    again = deletion_curve(shipped, explanation, steps=4)
    np.testing.assert_allclose(curve, again, rtol=1e-5)


def test_what_is_called_important_is_missed_sooner_than_random_cells():
    """And what is called unimportant later: on average over three real clips."""
    shipped = Predictor()
    first, last, random = [], [], []
    for emotion in ("sad", "angry", "surprised"):
        explanation = explain(shipped, samples_dir() / f"{emotion}.flac")
        upside_down = replace(explanation, weights=-explanation.weights)
        important, chance = areas(deletion_curve(shipped, explanation, steps=5))
        first, random = [*first, important], [*random, chance]
        last.append(areas(deletion_curve(shipped, upside_down, steps=5))[0])
    assert np.mean(first) < np.mean(random) - 0.02
    assert np.mean(last) > np.mean(random)


def test_areas_of_drawn_clips_are_kept_by_network_and_corpus(shipped, five_speakers, tmp_path):
    clips = load_corpus("synthetic", five_speakers)
    [row] = deletion_areas(clips, shipped, n_clips=3, results_dir=tmp_path).to_dict("records")
    assert (row["network"], row["corpora"], row["n_clips"]) == ("cnn_ravdess", "synthetic", 3)
    assert 0 < row["area"] < 1 and 0 < row["area_random"] < 1 and row["n_better"] in range(4)
    assert deletion_areas(clips, shipped, n_clips=3, results_dir=tmp_path)["area"].item() == pytest.approx(row["area"])
    assert len((tmp_path / "deletion.csv").read_text().splitlines()) == 2


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_deletion_on_real_speech(name, tmp_path):
    [row] = deletion_areas(load_corpus("ravdess"), Predictor(name), n_clips=8, results_dir=tmp_path).to_dict("records")
    assert row["area"] < row["area_random"] - 0.03
