"""What the predictor promises: one answer for every way in, its doubts in words, and errors that help."""

import io
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from sercore import predict_emotion
from sercore.corpora.synthetic import SR, synthesize
from sercore.errors import AudioError, ConfigError
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import build_model, load_checkpoint, save_checkpoint
from sercore.predict import COLUMNS, MIN_CONFIDENCE, VARIANTS, Doubt, Predictor, prediction_row


def save_untrained(path, **options):
    torch.manual_seed(0)
    return save_checkpoint(path, build_model("cnn"), name="cnn", **options)


@pytest.fixture(scope="module")
def unsure(tmp_path_factory):
    """An untrained network: nearly the same probability for every emotion."""
    return Predictor(save_untrained(tmp_path_factory.mktemp("model") / "unsure.safetensors"))


@pytest.fixture(scope="module")
def sure(tmp_path_factory):
    """The same network at a low temperature, which makes its best guess nearly certain."""
    return Predictor(save_untrained(tmp_path_factory.mktemp("model") / "sure.safetensors", temperature=1e-4))


@pytest.fixture(scope="module")
def y():
    return synthesize("happy")


@pytest.fixture(scope="module")
def wav(tmp_path_factory, y):
    path = tmp_path_factory.mktemp("clips") / "happy.wav"
    sf.write(path, y, SR, subtype="FLOAT")
    return path


def long_enough(y, seconds):
    return np.tile(y, int(np.ceil(seconds * SR / len(y))))[: round(seconds * SR)]


# The answer


def test_eight_probabilities_in_label_order_add_up_to_one(unsure, wav, y):
    prediction = unsure.predict(wav)
    assert tuple(prediction.probabilities) == EMOTIONS
    values = list(prediction.probabilities.values())
    assert sum(values) == pytest.approx(1, abs=1e-9)
    assert min(values) > 0
    assert prediction.label == EMOTIONS[int(np.argmax(values))]
    assert prediction.confidence == max(values)
    assert prediction.duration_s == pytest.approx(len(y) / SR)


def test_path_text_bytes_and_waveform_get_the_same_answer(unsure, wav, y):
    answers = [unsure.predict(way) for way in (wav, str(wav), io.BytesIO(wav.read_bytes()), (y, SR))]
    for answer in answers[1:]:
        assert answer.probabilities == pytest.approx(answers[0].probabilities, abs=1e-6)
        assert (answer.label, answer.warnings) == (answers[0].label, answers[0].warnings)


def test_a_waveform_at_another_rate_is_resampled(unsure):
    at_48k = unsure.predict((synthesize("happy", sr=48_000), 48_000))
    at_16k = unsure.predict((synthesize("happy"), SR))
    assert at_48k.duration_s == pytest.approx(at_16k.duration_s, abs=1e-3)
    assert at_48k.probabilities == pytest.approx(at_16k.probabilities, abs=1e-3)


@pytest.mark.parametrize(
    "recording",
    [(np.zeros(SR, np.float32), SR), (np.full(SR, np.nan, np.float32), SR), (np.zeros((2, 9), np.float32), SR)],
    ids=["silence", "NaN", "stereo"],
)
def test_an_unusable_waveform_is_an_error(unsure, recording):
    with pytest.raises(AudioError):
        unsure.predict(recording)


# The checkpoint


def test_a_checkpoint_keeps_all_that_prediction_needs(tmp_path, wav):
    config = FeatureConfig(n_mels=40, level="clip")
    torch.manual_seed(1)
    model = build_model("cnn", widths=(8, 16))
    path = save_checkpoint(tmp_path / "a.safetensors", model, name="cnn", model_config={"widths": (8, 16)},
                           feature_config=config, temperature=0.7, info={"corpus": "synthetic"})  # fmt: skip
    first = Predictor(path)
    assert (first.config, first.temperature, first.metadata["info"]) == (config, 0.7, {"corpus": "synthetic"})
    again, metadata = load_checkpoint(path)
    save_checkpoint(tmp_path / "b.safetensors", again, name=metadata["model"], model_config=metadata["model_config"],
                    feature_config=metadata["feature_config"], temperature=metadata["temperature"])  # fmt: skip
    assert replace(Predictor(tmp_path / "b.safetensors").predict(wav), network="a") == first.predict(wav)


def test_temperature_changes_the_confidence_and_never_the_answer(sure, unsure, wav):
    assert sure.predict(wav).label == unsure.predict(wav).label
    assert sure.predict(wav).confidence > 0.9 > MIN_CONFIDENCE > unsure.predict(wav).confidence


def test_a_missing_checkpoint_says_what_writes_one(tmp_path):
    with pytest.raises(ConfigError, match=r"No checkpoint at .*none\.safetensors.*sercore train"):
        Predictor(tmp_path / "none.safetensors")


# What to distrust


def warnings_of(predictor, y):
    return [doubt.code for doubt in predictor.predict((y.astype(np.float32), SR)).warnings]


def test_ordinary_speech_gets_no_warning(sure, y):
    assert warnings_of(sure, y) == []


def test_short_long_quiet_and_clipped_recordings_are_told(sure, y):
    assert warnings_of(sure, y[SR // 2 : SR // 2 + 8000]) == ["short"]
    assert warnings_of(sure, long_enough(y, 12)) == ["long"]
    assert warnings_of(sure, y * 10 ** (-65 / 20) / y.std()) == ["quiet"]
    assert warnings_of(sure, np.clip(20 * y, -1, 1)) == ["clipped"]


def test_silence_around_a_word_does_not_count_as_speech(sure, y):
    word = np.pad(y[SR // 2 : SR // 2 + 8000], 2 * SR)
    assert warnings_of(sure, word) == ["short"]


def test_steady_noise_and_hum_are_not_speech(sure):
    t = np.arange(3 * SR) / SR
    assert warnings_of(sure, 0.05 * np.random.default_rng(0).standard_normal(3 * SR)) == ["no_speech"]
    assert warnings_of(sure, 0.1 * np.sin(2 * np.pi * 100 * t)) == ["no_speech"]


def test_a_guess_below_one_half_names_the_two_likeliest(unsure, y):
    prediction = unsure.predict((y, SR))
    first, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
    assert prediction.warnings == (Doubt("unsure", f"Not sure: {first} or {second}."),)


# Many files


def test_a_corrupt_file_among_many_gets_its_error_and_the_others_their_emotions(sure, wav, tmp_path):
    corrupt = tmp_path / "corrupt.wav"
    corrupt.write_bytes(b"RIFF no, not really")
    table = pd.DataFrame(sure.predict_files([wav, corrupt, str(wav)]), columns=COLUMNS)
    assert list(table["file"]) == [str(wav), str(corrupt), str(wav)]
    assert "corrupt.wav" in table["error"][1]
    assert table.loc[1, ["label", "confidence", *EMOTIONS]].isna().all()
    good = table.drop(index=1)
    assert (good["error"] == "").all()
    assert good.iloc[0].to_dict() == prediction_row(wav, sure.predict(wav))


@pytest.mark.parametrize(
    ("recording", "words"),
    [
        (np.zeros(9), "Bad recording of type ndarray: expected a path"),
        (b"bytes", "Bad recording of type bytes"),
        ((SR, np.ones(9)), "got .sr, y., expected a tuple .y, sr."),
        ((np.ones(9),), "expected a tuple"),
        ((np.ones(9), "16000"), "expected a tuple"),
        ("x" * 300 + ".wav", "Cannot read x+.wav: .*File name too long"),
    ],
)
def test_what_is_no_recording_is_told_in_words(sure, recording, words):
    with pytest.raises(AudioError, match=words):
        sure.predict(recording)


# Long recordings


def test_pauses_do_not_vote(sure):
    """What is said twice is heard the same whether one second or twenty lie between."""
    once = synthesize("happy", speaker=3)
    answers = []
    for pause_s in (1, 20):
        answers.append(sure.predict((np.concatenate([once, np.zeros(pause_s * SR, np.float32), once]), SR)))
    near, far = (np.array(list(answer.probabilities.values())) for answer in answers)
    assert np.abs(near - far).max() < 0.02 and answers[1].duration_s > 20
    assert "long" not in [doubt.code for doubt in answers[1].warnings]


@pytest.mark.parametrize("duration_s", [1.5, 2.816, 4.0, 4.5, 6.2])
def test_windows_cover_the_recording_without_a_gap(sure, y, duration_s):
    table = sure.timeline((long_enough(y, duration_s), SR), hop_s=1.0)
    assert list(table["start_s"]) == list(range(len(table)))
    assert table["end_s"].iloc[-1] == pytest.approx(duration_s, abs=1e-3)
    whole = table.iloc[:-1]
    assert np.allclose(whole["end_s"] - whole["start_s"], sure.config.window_s)
    assert np.allclose(table[list(EMOTIONS)].sum(axis=1), 1)


def test_a_timeline_says_what_the_predictor_says_of_each_window(sure, y):
    recording = np.concatenate([synthesize("angry"), synthesize("sad"), synthesize("happy")])
    table = sure.timeline((recording, SR), window_s=2.0, hop_s=2.0)
    for row in table.itertuples():
        window = recording[round(row.start_s * SR) : round(row.end_s * SR)]
        prediction = sure.predict((window, SR))
        assert row.label == prediction.label
        assert row.confidence == pytest.approx(prediction.confidence)


def test_windows_without_sound_are_called_silence(sure, y, tmp_path):
    recording = np.concatenate([y[: 2 * SR], np.zeros(4 * SR, np.float32), y[: 2 * SR]])
    sf.write(tmp_path / "pause.wav", recording, SR)
    for way in (tmp_path / "pause.wav", (recording, SR)):
        table = sure.timeline(way, window_s=1.0, hop_s=1.0)
        assert [label == "silence" for label in table["label"]] == [False] * 2 + [True] * 4 + [False] * 2
        assert table.loc[2:5, ["confidence", *EMOTIONS]].isna().all(axis=None)


def test_a_long_file_is_followed_in_little_memory(sure, y, tmp_path):
    path, minutes = tmp_path / "lecture.wav", 12
    with sf.SoundFile(path, "w", 8000, 1, "PCM_U8") as file:
        for _ in range(minutes):
            file.write(long_enough(y, 30))  # 60 s each at half the rate
    with pytest.raises(AudioError, match="Too long"):  # one answer for all of it is refused
        sure.predict(path)
    sure.timeline(path, hop_s=170)  # what is loaded once and kept is not counted
    tracemalloc.start()
    table = sure.timeline(path, hop_s=50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(table["start_s"]) == list(range(0, 60 * minutes, 50))
    assert peak < 12e6, f"{peak / 1e6:.0f} MB; the whole recording would be {minutes * 60 * SR * 4 / 1e6:.0f} MB"


@pytest.mark.parametrize("options", [{"window_s": -1}, {"hop_s": 0}, {"hop_s": -1.0}], ids=str)
def test_windows_of_no_length_are_an_error(sure, y, options):
    with pytest.raises(AudioError, match="expected seconds above 0"):
        sure.timeline((y, SR), **options)


# The shipped weights


def test_predict_emotion_uses_the_shipped_network_for_any_voice_and_knows_the_other_by_name(wav):
    prediction = predict_emotion(wav)
    assert prediction == Predictor().predict(wav) == Predictor(VARIANTS["any_voice"]).predict(wav)
    assert tuple(prediction.probabilities) == EMOTIONS
    assert Predictor("ravdess").checkpoint.name == "cnn_ravdess.safetensors"
    assert predict_emotion(wav, checkpoint="ravdess") == Predictor(VARIANTS["ravdess"]).predict(wav) != prediction


@pytest.mark.parametrize("name", VARIANTS)
def test_the_shipped_networks_say_whom_they_were_trained_on_and_what_is_unlike_it(name):
    predictor = Predictor(name)
    assert len(predictor.metadata["info"]["train_speakers"]) >= 23
    assert "ravdess-21" not in predictor.metadata["info"]["train_speakers"]  # whose clips are there to try
    rng, t = np.random.default_rng(0), np.arange(2 * SR) / SR
    sounds = {"tone": 0.3 * np.sin(2 * np.pi * 440 * t), "hiss": 0.05 * rng.standard_normal(2 * SR)}
    for y in sounds.values():
        assert "unlike" in warnings_of(predictor, y)
