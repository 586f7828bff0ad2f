"""Novelty: what sounds like the training clips passes, whatever its level; what does not is told."""

import numpy as np
import pytest

from sercore.corpora import synthetic
from sercore.features import FeatureConfig, compute
from sercore.labels import EMOTIONS
from sercore.models import build_model, load_checkpoint, save_checkpoint
from sercore.novelty import fit_novelty, sound_of
from sercore.predict import Predictor

SR = 16_000
T = np.arange(2 * SR) / SR


def spoken(speaker, *, gain=1.0):
    clips = [synthetic.synthesize(emotion, speaker=speaker, statement=k, sr=SR) for emotion in EMOTIONS for k in (1, 2)]
    return [compute((gain * y).astype(np.float32), config=FeatureConfig()) for y in clips]


@pytest.fixture(scope="module")
def novelty():
    heard = [(S_db, speaker) for speaker in range(1, 11) for S_db in spoken(speaker)]
    return fit_novelty(*zip(*heard, strict=True))


def other_sounds():
    rng = np.random.default_rng(0)
    return {
        "tone": 0.3 * np.sin(2 * np.pi * 440 * T),
        "hum": 0.1 * sum(np.sin(2 * np.pi * 50 * k * T) / k for k in range(1, 20)),
        "hiss": 0.1 * rng.normal(size=len(T)),
        "siren": 0.2 * np.sin(2 * np.pi * np.cumsum(600 + 300 * np.sin(2 * np.pi * T)) / SR),
    }


def test_speakers_that_were_not_trained_on_are_nothing_new(novelty):
    assert np.mean([novelty(S_db) > 1 for speaker in (11, 12) for S_db in spoken(speaker)]) < 0.2


@pytest.mark.parametrize("sound", ["tone", "hum", "hiss", "siren"])
def test_what_is_no_voice_is_new(novelty, sound):
    assert novelty(compute(other_sounds()[sound].astype(np.float32), config=FeatureConfig())) > 1.5


def test_the_limit_is_that_of_speakers_who_were_left_out():
    sounds, rng = [], np.random.default_rng(0)
    for place in rng.normal(0, 9, (5, 4, 1)):  # speakers differ more than their clips do
        sounds += [place + rng.normal(0, 0.1, (4, 1)) + rng.normal(0, 2, (4, 50)) for _ in range(20)]
    by_speaker = fit_novelty(sounds, np.repeat(range(5), 20))
    by_clip = fit_novelty(sounds, range(100))
    assert by_speaker.limit > 1.1 * by_clip.limit
    assert np.array_equal(by_speaker.mean, by_clip.mean)
    alone = fit_novelty(sounds[:20], ["one"] * 20)
    assert max(alone(S_db) for S_db in sounds[:20]) == pytest.approx(1, abs=0.1)


def test_the_level_of_a_recording_does_not_matter():
    loud, soft = spoken(1)[0], spoken(1, gain=0.5)[0]
    assert np.abs(loud - soft).max() == pytest.approx(6.02, abs=0.05)
    np.testing.assert_allclose(sound_of(loud), sound_of(soft), atol=0.6)


def test_a_single_frame_has_a_sound():
    assert np.isfinite(sound_of(np.full((64, 1), -30.0))).all()


def test_a_checkpoint_keeps_it_and_a_prediction_says_so(novelty, tmp_path):
    path = save_checkpoint(tmp_path / "m.safetensors", build_model("cnn", widths=(4, 8)), name="cnn",
                           model_config={"widths": (4, 8)}, novelty=novelty)  # fmt: skip
    _, metadata = load_checkpoint(path)
    S_db = spoken(3)[0]
    assert metadata["novelty"](S_db) == pytest.approx(novelty(S_db), rel=1e-3)
    hiss, voice = other_sounds()["hiss"].astype(np.float32), synthetic.synthesize("sad", speaker=3, sr=SR)
    said = [Predictor(path).predict((y, SR)).warnings for y in (hiss, voice)]
    assert [any(text.startswith("Unlike the training data") for text in texts) for texts in said] == [True, False]


def test_a_checkpoint_without_it_is_read_as_before(tmp_path):
    path = save_checkpoint(tmp_path / "m.safetensors", build_model("cnn", widths=(4, 8)), name="cnn",
                           model_config={"widths": (4, 8)})  # fmt: skip
    assert load_checkpoint(path)[1]["novelty"] is None
    assert not any(
        "Unlike" in text for text in Predictor(path).predict((synthetic.synthesize("sad", sr=SR), SR)).warnings
    )
