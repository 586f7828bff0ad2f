"""Results: what was measured is kept, replaced by its keys, and read back in the order of the clips."""

import numpy as np
import pandas as pd
import pytest

from sercore import results, settings
from sercore.errors import ConfigError
from sercore.models import softmax
from sercore.results import out_of_fold_table, read_out_of_fold, read_scores, record, record_name, results_dir_of

CLIPS = pd.DataFrame({"path": [f"/corpus/{name}.wav" for name in "abcd"], "corpus": "ravdess"})


def row(fold, seed, uar):
    return {"model": "cnn", "fold": fold, "seed": seed, "uar": uar, "commit": "00123"}


def write(path, *rows):
    record(path, pd.DataFrame(rows), keys=["fold", "seed"])


def test_a_row_takes_the_place_of_the_one_with_its_keys(tmp_path):
    path = tmp_path / "new" / "cnn_speaker_5fold.csv"
    write(path, row("1", 0, 0.1), row("0", 0, 0.2), row("0", 1, 0.3))
    write(path, row("1", 0, 0.1234567), row("2", 0, 0.5))
    table = pd.read_csv(path, dtype={"commit": str})
    assert table[["fold", "seed", "uar"]].values.tolist() == [
        [0, 0, 0.2], [0, 1, 0.3], [1, 0, 0.123457], [2, 0, 0.5],
    ]  # fmt: skip
    assert set(table["commit"]) == {"00123"}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]  # nothing half-written beside it


def test_a_level_without_end_is_a_key_like_others(tmp_path):
    rows = pd.DataFrame({"noise": ["none", "white"], "snr_db": [np.inf, 0], "uar": [0.8, 0.2]})
    for _ in range(2):
        record(tmp_path / "noise.csv", rows, keys=["noise", "snr_db"])
    assert pd.read_csv(tmp_path / "noise.csv").values.tolist() == [["none", np.inf, 0.8], ["white", 0, 0.2]]


def test_scores_are_read_by_their_seed_with_folds_as_names(tmp_path):
    path = tmp_path / "cnn_speaker_5fold.csv"
    write(path, row("0", 0, 0.1), row("1", 0, 0.2), row("0", 3, 0.7))
    table = read_scores(CLIPS, results_dir=tmp_path)
    assert table[["fold", "uar", "commit"]].values.tolist() == [["0", 0.1, "00123"], ["1", 0.2, "00123"]]
    assert read_scores(CLIPS, seed=3, results_dir=tmp_path)["uar"].tolist() == [0.7]
    assert read_scores(CLIPS, seed=None, results_dir=tmp_path)["uar"].tolist() == [0.1, 0.7, 0.2]


def test_scores_that_were_never_recorded_are_asked_for_by_their_command(tmp_path):
    with pytest.raises(ConfigError, match="sercore crossval --model cnn --protocol speaker_6fold"):
        read_scores(CLIPS, protocol="speaker_6fold", results_dir=tmp_path)
    with pytest.raises(ConfigError, match="sercore crossval --model resnet18 --protocol speaker_5fold"):
        read_out_of_fold(CLIPS, model="resnet18", results_dir=tmp_path)


def test_probabilities_are_read_in_the_order_of_the_clips_that_have_them(tmp_path):
    logits = np.random.default_rng(0).normal(size=(3, 8))
    rows = out_of_fold_table(CLIPS.iloc[[3, 0, 1]], logits, fold="2", temperature=1.7)
    record(tmp_path / "out_of_fold" / "cnn_speaker_5fold_seed5.csv", rows, keys=["clip"])
    heard, proba = read_out_of_fold(CLIPS.iloc[[1, 2, 3, 0]], seed=5, results_dir=tmp_path)
    assert heard["path"].tolist() == ["/corpus/b.wav", "/corpus/d.wav", "/corpus/a.wav"]
    np.testing.assert_allclose(proba, softmax(logits[[2, 0, 1]], temperature=1.7), atol=1e-6)
    _, temperatures = read_out_of_fold(CLIPS, seed=5, results_dir=tmp_path, columns=["temperature"])
    assert temperatures.tolist() == [[1.7]] * 3


def test_scores_on_synthetic_speech_are_kept_apart(tmp_path):
    synthetic = CLIPS.assign(corpus=["ravdess", "ravdess", "synthetic", "ravdess"])
    assert results_dir_of(CLIPS) == settings.results_dir()
    assert results_dir_of(synthetic) == settings.runs_dir() / "synthetic_results"
    assert results_dir_of(synthetic, str(tmp_path)) == tmp_path


def test_outside_of_a_checkout_the_code_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setattr(results, "__file__", str(tmp_path / "results.py"))
    assert results.commit() == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    assert results.commit() == "unknown"


def test_records_of_other_corpora_carry_their_names_and_ask_for_them():
    assert record_name(CLIPS, "cnn_warped", "random_5fold") == "cnn_warped_random_5fold"
    two = pd.concat([CLIPS, CLIPS.assign(corpus="emodb")])
    assert record_name(two, "cnn", "corpora_5fold") == "cnn_emodb+ravdess_corpora_5fold"
    with pytest.raises(
        ConfigError, match=r"crossval --model cnn_basic --recipe any_voice --corpus emodb\+ravdess --protocol corpora"
    ):
        read_scores(two, model="cnn_basic_any_voice", protocol="corpora_5fold", results_dir="nowhere")
    with pytest.raises(ConfigError, match="crossval --model resnet18 --transductive --seeds 0,1,2 --protocol"):
        read_scores(CLIPS, model="resnet18_imagenet_transductive_ensemble", results_dir="nowhere")
