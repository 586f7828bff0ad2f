"""Several corpora: what tells them apart, what a network makes of them, and what of its answers reaches a strange one."""

from dataclasses import replace

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from sercore import crossing
from sercore.corpora import load_corpus
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS
from sercore.experiments import cross_validate, recipe_for, train_and_refit
from sercore.features import FeatureConfig
from sercore.labels import EMOTIONS
from sercore.models import Ensemble, build_model, predict_logits
from sercore.results import read_table, record

RNG = np.random.default_rng(0)


def clip_table(corpora, *, speakers=4, each=6):
    rows = [
        (corpus, f"{corpus}-{s}", EMOTIONS[k % 8]) for corpus in corpora for s in range(speakers) for k in range(each)
    ]
    table = pd.DataFrame(rows, columns=["corpus", "speaker", "emotion"])
    return table.assign(path=[f"clip{i:03d}.wav" for i in table.index], sex="female")


def test_differences_are_in_units_that_a_recorder_knows(tmp_path):
    clips = clip_table(["near", "far"], speakers=2, each=2)
    for row in clips.itertuples():
        sr, gain = (16_000, 0.1) if row.corpus == "near" else (48_000, 0.01)
        y = gain * np.random.default_rng(row.Index).normal(size=sr)
        sf.write(tmp_path / row.path, y, sr, subtype="FLOAT")
    clips["path"] = [str(tmp_path / path) for path in clips["path"]]
    with joblib.parallel_config(backend="threading"):
        table, spectra = crossing.corpus_differences(clips, progress=False)
    assert table["rate_hz"].to_dict() == {"near": 16_000, "far": 48_000}
    assert table.loc["near", ["clips", "speakers", "women"]].tolist() == [4, 2, 2]
    assert table.loc["near", "level_dbfs"] == pytest.approx(-20, abs=0.5)
    assert table.loc["far", "level_dbfs"] == pytest.approx(-40 + 10 * np.log10(1 / 3), abs=1)  # a third of its band
    assert -3 < table.loc["near", "quiet_db"] < 0
    assert (spectra["near"] - spectra["far"]).median() == pytest.approx(20 + 10 * np.log10(3), abs=1)
    assert spectra.index[0] > 50 and spectra.index[-1] < 8_000


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return build_model("cnn", widths=(4, 8, 8)).eval()


def spectrograms(n, frames=(50, 176, 400)):
    return [RNG.normal(-50, 20, (64, frames[k % len(frames)])).astype(np.float32) for k in range(n)]


def test_the_last_layer_turns_embeddings_into_the_scores(network):
    features = spectrograms(5)
    vectors = crossing.embed(network, features)
    assert vectors.shape == (5, 16)
    with torch.inference_mode():
        logits = network.head(torch.from_numpy(vectors)).numpy()
    np.testing.assert_allclose(logits, predict_logits(network, features), atol=1e-4)


def test_of_an_ensemble_the_first_member_is_asked_and_nothing_is_changed(network):
    torch.manual_seed(2)
    several = Ensemble(member="cnn", n_members=2, widths=(4, 8, 8)).eval()
    several.members[0].load_state_dict(network.state_dict())
    features = spectrograms(3)
    before = predict_logits(several, features)
    np.testing.assert_array_equal(crossing.embed(several, features), crossing.embed(network, features))
    np.testing.assert_array_equal(predict_logits(several, features), before)


def test_a_model_without_that_layer_is_refused():
    with pytest.raises(ConfigError, match="Bad model FunctionalsSVM: expected the house CNN"):
        crossing.embed(build_model("functionals_svm"), spectrograms(1))


def test_band_statistics_are_means_then_deviations():
    S_db = np.array([[-10.0, -30.0], [-50.0, -50.0]])
    assert crossing.band_statistics([S_db]).tolist() == [[-20, -50, 10, 0]]


def test_a_corpus_is_recognised_by_what_its_speakers_share_and_by_nothing_else():
    clips = clip_table(["a", "b", "c"], each=30)
    noise = RNG.normal(size=(len(clips), 5))
    one_hot = (clips["corpus"].to_numpy()[:, None] == np.array(["a", "b", "c"])) * 1.0
    own = pd.factorize(clips["speaker"])[0][:, None] == np.arange(12)  # each speaker alone: no use with strangers
    assert crossing.recognise(clips, np.hstack([noise, 9 * one_hot])).to_dict() == {"a": 1, "b": 1, "c": 1}
    assert crossing.recognise(clips, noise).mean() == pytest.approx(1 / 3, abs=0.1)
    assert crossing.recognise(clips, 9.0 * own + 0.1 * RNG.normal(size=own.shape)).mean() < 0.6
    emotions = pd.factorize(clips["emotion"])[0][:, None] == np.arange(8)
    assert (crossing.recognise(clips, np.hstack([noise, 9 * emotions]), what="emotion") == 1).all()


def test_a_corpus_of_one_speaker_cannot_be_recognised():
    clips = clip_table(["a", "b"])
    alone = clips[(clips["corpus"] == "a") | (clips["speaker"] == "b-0")]
    with pytest.raises(ConfigError, match=r"Too few speakers in \['b'\]"):
        crossing.recognise(alone, np.zeros((len(alone), 2)))


def proba_of(*answers, share=0.7):
    rest = (1 - share) / 7
    return np.array([[share if emotion == answer else rest for emotion in EMOTIONS] for answer in answers])


def test_a_wrong_emotion_on_the_right_side_is_right():
    clips = pd.DataFrame({"emotion": ["angry", "fearful", "happy", "sad", "neutral", "disgust"]})
    proba = proba_of("fearful", "angry", "angry", "neutral", "angry", "happy")
    # Arousal: three loud ones of three, one quiet one of two. Valence: happy not; angry and fearful, but not disgust.
    assert crossing.dimension_scores(clips, proba) == pytest.approx({"arousal": 0.75, "valence": (0 + 3 / 4) / 2})


def test_emotions_that_the_corpus_lacks_are_no_answers():
    clips = pd.DataFrame({"emotion": ["angry", "angry", "neutral", "neutral"]})
    # Surprised is set aside, and of what remains angry has more than neutral; calm counts as neutral.
    proba = np.zeros((4, 8))
    proba[:, EMOTIONS.index("surprised")] = 0.6
    proba[:2, EMOTIONS.index("angry")], proba[:2, EMOTIONS.index("neutral")] = 0.3, 0.1
    proba[2:, EMOTIONS.index("calm")], proba[2:, EMOTIONS.index("angry")] = 0.3, 0.1
    row = crossing.dimension_scores(clips, proba)
    assert row["arousal"] == 1 and np.isnan(row["valence"])


def test_dimensions_of_recorded_answers_are_laid_side_by_side(tmp_path):
    clips = clip_table(["a", "b", "c"], speakers=1, each=8)
    proba = proba_of(*clips["emotion"])
    proba[(clips["corpus"] == "b").to_numpy()] = proba_of("angry")
    for model in ("good", "unscored"):
        names = [path.removesuffix(".wav") for path in clips["path"]]
        table = pd.DataFrame(proba, columns=PROBA_COLUMNS).assign(clip=names, temperature=1.0)
        record(tmp_path / "out_of_fold" / f"{model}_a+b+c_leave_one_corpus_out_seed0.csv", table, keys=["clip"])
    scored = pd.DataFrame({"fold": ["a", "b", "c"], "seed": 0, "uar": 0.5, "val_uar": 0.4})
    record(tmp_path / "good_a+b+c_leave_one_corpus_out.csv", scored, keys=["fold", "seed"])
    table = crossing.dimensions_table(clips, models=["missing", "good", "unscored"], results_dir=tmp_path)
    assert table["model"].tolist() == ["good"] * 3 and table["tested_on"].tolist() == ["a", "b", "c"]
    assert table["arousal"].tolist() == table["valence"].tolist() == [1, 0.5, 1]
    with pytest.raises(ConfigError, match="leave_one_corpus_out"):
        crossing.dimensions_table(clips, models=["missing"], results_dir=tmp_path)


def test_the_warning_tells_a_strange_corpus_and_what_is_no_voice():
    clips = clip_table(["a", "b", "c"], speakers=3, each=12)
    shape = {"a": 0.0, "b": 0.0, "c": 25.0}  # the third has another microphone
    features = [
        RNG.normal(-40, 3, (64, 40)) - shape[corpus] * np.linspace(0, 1, 64)[:, None] for corpus in clips["corpus"]
    ]
    table = crossing.novelty_table(clips, features, config=FeatureConfig()).set_index("left_out")
    assert table.loc["c", "unheard"] == 1 and table.loc["c", "heard"] < 0.1
    assert table.loc["a", "unheard"] < 0.5
    assert (table[["tone", "hum", "siren"]] > 1).all(axis=None)


def test_sounds_that_nobody_speaks_are_usable_recordings():
    sounds = crossing.not_speech(sr=8_000, duration_s=0.5)
    assert list(sounds) == ["tone", "hum", "hiss", "siren"]
    assert {y.shape for y in sounds.values()} == {(4_000,)} and all(0 < np.abs(y).max() < 1 for y in sounds.values())


# Trained and recorded


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """The synthetic corpus as if it were three, of four speakers each, with three clips an emotion at most."""
    clips = load_corpus("synthetic")
    people = sorted(clips["speaker"].unique())[:12]
    names = dict(zip(people, np.repeat(["synthetic", "synthetic_b", "synthetic_c"], 4), strict=True))
    clips = clips[clips["speaker"].isin(people)].groupby(["speaker", "emotion"]).head(2).reset_index(drop=True)
    return clips.assign(corpus=clips["speaker"].map(names))


@pytest.fixture(scope="module")
def brief():
    recipe = recipe_for("smoke", title="any_voice", model_config={"widths": (4, 8, 8)})
    return replace(recipe, n_val_speakers=1, train=replace(recipe.train, epochs=1))


def test_a_corpus_that_was_left_out_is_scored_over_shared_emotions_and_recorded_with_its_neighbours(
    three, brief, tmp_path
):
    without_calm = three[(three["corpus"] != "synthetic_c") | (three["emotion"] != "calm")].reset_index(drop=True)
    options = {"protocol": "leave_one_corpus_out", "results_dir": tmp_path, "progress": False}
    rows = cross_validate(without_calm, recipe=brief, seeds=(0, 1), **options)
    assert set(rows["model"]) == {"cnn_any_voice", "cnn_any_voice_ensemble"}
    name = "cnn_any_voice_synthetic+synthetic_b+synthetic_c_leave_one_corpus_out"
    assert (tmp_path / f"{name}.csv").is_file() and (tmp_path / "out_of_fold" / f"{name}_seed1.csv").is_file()
    models = ["cnn_any_voice", "cnn_fixed_level", "cnn_any_voice_ensemble"]
    table = crossing.corpora_table(without_calm, models=models, results_dir=tmp_path).set_index(["model", "tested_on"])
    assert len(table) == 6 and set(table["n_emotions"]) == {7, 8} and table["val_uar"].notna().all()
    assert table.loc[("cnn_any_voice", "synthetic_c"), "n_emotions"] == 7
    for row in rows[rows["seed"] == 0].itertuples():
        assert table.loc[(row.model, row.fold), "uar"] == pytest.approx(row.uar, abs=1e-3)
    with pytest.raises(ConfigError, match="leave_one_corpus_out"):
        crossing.corpora_table(without_calm, models=["conv1d"], results_dir=tmp_path)


def test_a_matrix_has_a_score_for_every_pair_and_no_speaker_on_both_sides(three, brief, tmp_path, monkeypatch):
    met = []

    def spy(prepared, fold, **options):
        speakers = prepared.clips["speaker"].to_numpy()
        met.append(set(speakers[fold.train]) & set(speakers[fold.test]))
        return train_and_refit(prepared, fold, **options)

    monkeypatch.setattr(crossing, "train_and_refit", spy)
    table = crossing.corpus_matrix(three, recipe=brief, results_dir=tmp_path, progress=False)
    assert len(met) == 3 * (3 + 1) and not any(met)
    assert table.groupby("trained_on")["tested_on"].nunique().tolist() == [3, 3, 3]
    assert table["n_test"].tolist() == [len(three) // 3] * 9 and table["uar"].between(0, 1).all()
    read = read_table(three, "matrix_cnn_any_voice", results_dir=tmp_path)
    assert read["uar"].tolist() == pytest.approx(table["uar"].tolist(), abs=1e-5)
    with pytest.raises(ConfigError, match="run `sercore matrix`"):
        read_table(three, "matrix_cnn_house", results_dir=tmp_path)


def test_judging_counts_calm_as_neutral_where_one_side_has_no_calm():
    clips = clip_table(["one"], speakers=1, each=4).assign(emotion=["neutral", "neutral", "sad", "sad"])
    proba = np.zeros((4, 8))
    proba[[0, 1, 2, 3], [EMOTIONS.index(e) for e in ("calm", "neutral", "sad", "happy")]] = 1.0
    row = crossing.judge(clips, proba)
    # Happy is no answer here, and says nothing about the two that are.
    assert (row["n_emotions"], row["uar"], row["top_label"]) == (2, 0.75, "neutral")
    assert np.isnan(row["low"])  # one speaker makes no interval
    without = crossing.judge(clips, proba, heard=("neutral", "happy"))  # sad was never heard: no clip of it counts
    assert (without["n_test"], without["n_emotions"], without["uar"]) == (2, 1, 1.0)
