"""compare: designs side by side, and corpora that were left out, from what is on record."""

import numpy as np
import pandas as pd
import pytest

from sercore.compare import corpora_table, over_folds, score_shared, zoo_table
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS
from sercore.labels import EMOTIONS
from sercore.records import KEYS, SCORE_COLUMNS, record

#: Four speakers, each with two clips of happy and two of sad.
CLIPS = pd.DataFrame(
    [(f"ravdess/{s}-{emotion}-{k}", s, emotion) for s in "abcd" for emotion in ("happy", "sad") for k in (0, 1)],
    columns=["clip", "speaker", "emotion"],
).assign(corpus="ravdess")
TRUTH = CLIPS["emotion"].tolist()


def recorded(folder, answers, *, clips=CLIPS, uar=(0.5, 0.7), protocol="speaker_5fold", folds=None, **what):
    """Write what a cross-validation would have written of a model that gives these answers."""
    what = {"model": "cnn", "recipe": "standard", "n_members": 1, "seed": 0} | what
    where = {"corpora": "+".join(sorted(set(clips["corpus"]))), "protocol": protocol}
    where |= what | {"transductive": False, "pretrained": False}
    name = "-".join(map(str, [protocol, *what.values()])) + ".csv"
    folds = ["0", "1"] * (len(clips) // 2) + ["0"] * (len(clips) % 2) if folds is None else list(folds)
    rows = [
        {**dict.fromkeys(SCORE_COLUMNS, 0), **where, "fold": fold, "n_test": folds.count(fold), "uar": value,
         "accuracy": value + 0.1, "macro_f1": value, "parameters": 1000, "epochs": 60, "minutes": 2.0 + k,
         "device": "cpu", "answers": name}
        for k, (fold, value) in enumerate(zip(dict.fromkeys(folds), uar, strict=True))
    ]  # fmt: skip
    record(folder / "scores.csv", pd.DataFrame(rows), keys=KEYS["scores"])
    table = pd.DataFrame(np.eye(8)[[EMOTIONS.index(answer) for answer in answers]], columns=PROBA_COLUMNS)
    table.insert(0, "clip", clips["clip"].to_numpy())
    record(folder / "out_of_fold" / name, table.assign(fold=folds, temperature=1.0), keys=("clip",))


def wrong(*places):
    """The truth, but for some places, where the other emotion is answered."""
    other = {"happy": "sad", "sad": "happy"}
    return [other[truth] if k in places else truth for k, truth in enumerate(TRUTH)]


def test_a_row_holds_means_deviations_and_the_interval_over_speakers(tmp_path):
    recorded(tmp_path, wrong(0, 1, 4, 5, 8, 9, 12, 13))
    recorded(tmp_path, TRUTH, uar=(0.8, 0.8), protocol="random_5fold")
    [row] = zoo_table(CLIPS, results_dir=tmp_path).to_dict("records")
    assert (row["name"], row["parameters"], row["minutes"], row["folds"]) == ("cnn", 1000, 2.5, 2)
    assert [row["uar_random"], row["uar_random_std"]] == pytest.approx([0.8, 0.0])
    assert [row["uar_speaker"], row["uar_speaker_std"]] == pytest.approx([0.6, 0.02**0.5])
    assert [row["accuracy_random"], row["accuracy_speaker"]] == pytest.approx([0.9, 0.7])
    # Every happy clip of every speaker is taken for sad: no draw of speakers changes that.
    assert (row["low"], row["high"]) == (0.5, 0.5)
    assert np.isnan([row["difference"], row["difference_low"], row["difference_high"]]).all()


def test_designs_are_sorted_by_their_score_and_a_division_that_was_not_run_is_left_open(tmp_path):
    recorded(tmp_path, TRUTH, model="conv1d", protocol="random_5fold")
    recorded(tmp_path, TRUTH, uar=(0.3, 0.3))
    recorded(tmp_path, TRUTH, model="resnet18", uar=(0.4, 0.4))
    table = zoo_table(CLIPS, results_dir=tmp_path)
    assert table["name"].tolist() == ["resnet18", "cnn", "conv1d"]
    last = table.iloc[2]
    assert (last["folds"], last["folds_random"], last["uar_random"]) == (0, 2, pytest.approx(0.6))
    assert last[["uar_speaker", "uar_speaker_std", "low", "high", "difference"]].isna().all()
    assert table.loc[:1, ["uar_random", "accuracy_random"]].isna().all(axis=None)
    recorded(tmp_path, TRUTH, uar=(0.5, 0.7), seed=7, model="resnet18")
    means = zoo_table(CLIPS, results_dir=tmp_path).set_index("name")
    assert means.loc["resnet18", ["uar_speaker", "folds"]].tolist() == pytest.approx([0.5, 2])  # over both seeds
    with pytest.raises(ConfigError, match="run `sercore crossval"):
        zoo_table(CLIPS, results_dir=tmp_path / "nothing")


def test_the_house_is_compared_on_the_clips_that_both_were_scored_on(tmp_path):
    # On the first three speakers conv1d misses one happy clip of two; the house alone meets, and fails on, the fourth.
    few = CLIPS[CLIPS["speaker"] != "d"]
    recorded(tmp_path, wrong(0, 4, 8)[: len(few)], clips=few, model="conv1d")
    recorded(tmp_path, wrong(12, 13, 14, 15))
    row = zoo_table(CLIPS, results_dir=tmp_path).set_index("name").loc["conv1d"]
    assert [row["difference"], row["difference_low"], row["difference_high"]] == pytest.approx([0.25] * 3)
    # Three networks are the house as soon as there are three; here they are as good as conv1d.
    recorded(tmp_path, wrong(1, 5, 9), n_members=3)
    table = zoo_table(CLIPS, results_dir=tmp_path).set_index("name")
    assert table.loc["conv1d", "difference"] == 0 and np.isnan(table.loc["cnn, 3 networks", "difference"])
    assert table.loc["cnn", "difference"] == pytest.approx(13 / 16 - 12 / 16)


def test_seeds_are_averaged_within_a_fold_before_folds_are_compared():
    table = pd.DataFrame({"fold": ["0", "0", "1", "1"], "uar": [0.3, 0.4, 0.5, 0.6], "accuracy": 1.0, "macro_f1": 0.5})
    spread = over_folds(table)["uar"]
    assert spread.to_dict() == pytest.approx({"mean": 0.45, "std": 0.02**0.5})


def proba_of(*answers, share=0.7):
    rest = (1 - share) / 7
    return np.array([[share if emotion == answer else rest for emotion in EMOTIONS] for answer in answers])


def test_answers_are_scored_by_the_emotions_both_sides_have():
    clips = pd.DataFrame({"emotion": ["angry", "calm", "disgust", "sad"], "speaker": list("abcd")})
    row = score_shared(clips, proba_of("angry", "neutral", "angry", "sad"), trained_on=("angry", "neutral", "sad"))
    assert (row["n_test"], row["n_emotions"], row["uar"]) == (3, 3, 1)  # disgust is unknown, calm is neutral
    assert np.isnan(row["low"]) and row["surest_third"] == 1
    whole = score_shared(clips, proba_of("angry", "angry", "angry", "sad"))
    assert (whole["uar"], whole["low"], whole["top_label"], whole["top_share"]) == (0.5, 0.0, "angry", 0.75)


def test_left_out_corpora_are_laid_side_by_side(tmp_path):
    parts = [CLIPS.assign(corpus=name, clip=name + CLIPS["clip"], speaker=name + CLIPS["speaker"]) for name in "xy"]
    both = pd.concat(parts, ignore_index=True)
    answers = [*TRUTH, *["happy"] * 16]
    options = {"clips": both, "protocol": "leave_one_corpus_out", "folds": both["corpus"]}
    recorded(tmp_path, answers, recipe="any_voice", **options)
    recorded(tmp_path, TRUTH + TRUTH, **options)
    table = corpora_table(both, recipe="any_voice", results_dir=tmp_path)
    assert table[["name", "tested_on", "uar"]].values.tolist() == [
        ["cnn, any_voice", "x", 1.0], ["cnn, any_voice", "y", 0.5],
    ]  # fmt: skip
    assert len(corpora_table(both, results_dir=tmp_path)) == 4
