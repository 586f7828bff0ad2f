"""records: what was measured is kept by its keys, read back in the order of the clips, and refused where damaged."""

import multiprocessing
import time

import numpy as np
import pandas as pd
import pytest

from sercore import records, settings
from sercore.errors import ConfigError
from sercore.evaluate import PROBA_COLUMNS
from sercore.records import KEYS, SCORE_COLUMNS, label, read_answers, read_scores, read_table, record, results_dir_of

CLIPS = pd.DataFrame({"path": [f"/corpus/{k}.wav" for k in "abcd"], "clip": [f"ravdess/{k}" for k in "abcd"]})
CLIPS["corpus"] = "ravdess"


def row(fold="0", seed=0, uar=0.5, **changes):
    where = {"corpora": "ravdess", "protocol": "speaker_5fold", "fold": fold, "seed": seed, "model": "cnn"}
    where |= {"recipe": "standard", "n_members": 1, "transductive": False, "pretrained": False, "n_test": 2}
    rest = dict.fromkeys(("accuracy", "macro_f1", "val_uar", "minutes"), uar) | {"parameters": 9, "epochs": 3}
    told = {"device": "cpu", "precision": "float32", "threads": 2, "processor": "One", "commit": "0012345678"}
    return where | {"uar": uar} | rest | told | {"answers": "cnn.csv"} | changes


def write(folder, *rows):
    record(folder / "scores.csv", pd.DataFrame(rows)[list(SCORE_COLUMNS)], keys=KEYS["scores"])


def answers(folder, clips, proba, *, fold="0", name="cnn.csv"):
    table = pd.DataFrame(proba, columns=PROBA_COLUMNS)
    table.insert(0, "clip", list(clips))
    table.insert(1, "fold", fold)
    table.insert(2, "temperature", 1.7)
    record(folder / "out_of_fold" / name, table, keys=("clip",))


def test_a_row_takes_the_place_of_the_one_with_its_keys(tmp_path):
    write(tmp_path, row("1", uar=0.1), row("0", uar=0.2), row("0", 1, uar=0.3))
    write(tmp_path, row("1", uar=0.1234567), row("2", n_members=3))
    table = records.read(tmp_path / "scores.csv", keys=KEYS["scores"])
    assert table[["fold", "seed", "uar"]].values.tolist() == [
        ["0", 0, 0.2], ["0", 1, 0.3], ["1", 0, 0.123457], ["2", 0, 0.5],
    ]  # fmt: skip
    assert set(table["commit"]) == {"0012345678"} and set(table["threads"]) == {"2"}


def test_a_level_without_end_is_a_key_like_others_and_a_new_column_is_added(tmp_path):
    rows = pd.DataFrame({"noise": ["none", "white"], "snr_db": [np.inf, 0.0], "uar": [0.8, 0.2]})
    record(tmp_path / "noise.csv", rows, keys=("noise", "snr_db"))
    record(tmp_path / "noise.csv", rows[1:].assign(ece=0.1), keys=("noise", "snr_db"))
    table = pd.read_csv(tmp_path / "noise.csv")
    assert table["noise"].tolist() == ["none", "white"] and table["ece"].isna().tolist() == [True, False]


def test_scores_are_read_by_any_of_their_columns(tmp_path):
    write(tmp_path, row("0", uar=0.1), row("1", uar=0.2), row("0", 3, uar=0.7), row("0", recipe="warped", n_members=3))
    assert read_scores(CLIPS, seed=0, recipe="standard", results_dir=tmp_path)["uar"].tolist() == [0.1, 0.2]
    assert read_scores(CLIPS, seed=3, results_dir=tmp_path)["uar"].tolist() == [0.7]
    assert len(read_scores(CLIPS, results_dir=tmp_path)) == 4
    with pytest.raises(ConfigError, match=r"Bad columns \['sed'\]"):
        read_scores(CLIPS, sed=0, results_dir=tmp_path)


@pytest.mark.parametrize(
    ("where", "command"),
    [
        ({"protocol": "random_5fold"}, "sercore crossval --corpus ravdess --protocol random_5fold`"),
        ({"model": "cnn", "recipe": "warped", "n_members": 3}, "--model cnn --recipe warped --seeds 0,1,2`"),
    ],
)
def test_scores_that_were_never_recorded_are_asked_for_by_their_command(tmp_path, where, command):
    with pytest.raises(ConfigError, match=command):
        read_scores(CLIPS, **where, results_dir=tmp_path)


@pytest.mark.parametrize(("name", "command"), [("ablation", "sercore ablate"), ("noise", "sercore noise")])
def test_a_table_is_asked_for_by_its_command_too(tmp_path, name, command):
    with pytest.raises(ConfigError, match=command):
        read_table(CLIPS, name, results_dir=tmp_path)
    with pytest.raises(ConfigError, match="Bad table 'nose'"):
        read_table(CLIPS, "nose", results_dir=tmp_path)


def test_a_table_gives_the_rows_of_the_corpora(tmp_path):
    rows = pd.DataFrame({"corpora": ["ravdess", "tess"], "variant": "recipe", "fold": "0", "seed": 0, "uar": 0.5})
    record(tmp_path / "ablation.csv", rows, keys=KEYS["ablation"])
    assert read_table(CLIPS, "ablation", results_dir=tmp_path)["corpora"].tolist() == ["ravdess"]


def test_probabilities_are_read_in_the_order_of_the_clips_that_have_them(tmp_path):
    proba = np.random.default_rng(0).dirichlet(np.ones(8), size=2)
    write(tmp_path, row("0", n_test=2), row("1", n_test=1))
    answers(tmp_path, ["ravdess/d", "ravdess/a"], proba)
    answers(tmp_path, ["ravdess/b"], proba[:1], fold="1")
    clips, read = read_answers(CLIPS.iloc[[1, 2, 3, 0]], results_dir=tmp_path)
    assert clips["clip"].tolist() == ["ravdess/b", "ravdess/d", "ravdess/a"]
    np.testing.assert_allclose(read, proba[[0, 0, 1]], atol=1e-5)
    assert read_answers(CLIPS, results_dir=tmp_path, columns=["temperature"])[1].tolist() == [[1.7]] * 3
    with pytest.raises(ConfigError, match=r"No clip of these in cnn\.csv"):
        read_answers(CLIPS.assign(clip="ravdess/" + CLIPS["path"]), results_dir=tmp_path)


def test_recordings_of_one_name_in_two_folders_keep_an_answer_each(tmp_path):
    clips = CLIPS.assign(clip=["own/happy/anna/01.wav", "own/happy/ben/01.wav", "own/sad/anna/01.wav", "own/x.wav"])
    write(tmp_path, row(n_test=4))
    answers(tmp_path, clips["clip"], np.eye(8)[:4])
    assert read_answers(clips, results_dir=tmp_path)[1].argmax(axis=1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-1], "its last line is cut"),
        (lambda text: text[: text.index("float32")] + "\n", "line 2 has 19 fields, expected 23"),
        (lambda text: text.replace("float32", "float32,1", 1), "line 2 has 24 fields, expected 23"),
        (lambda text: text.replace("corpora", "corpus"), "no column corpora"),
        (lambda text: text + text.splitlines()[-1] + "\n", "line 4 repeats an earlier line"),
        (lambda text: text.replace("ravdess,", ",", 1), "line 2 lacks a key"),
        (lambda text: "", "no column corpora"),
        (lambda text: text.replace("0.5", "half"), "holds what is no number"),
        (lambda text: "<<<<<<< HEAD\n" + text, "no column corpora"),
    ],
)
def test_a_damaged_record_is_named_and_neither_believed_nor_written_over(tmp_path, damage, message):
    write(tmp_path, row("0"), row("1"))
    path = tmp_path / "scores.csv"
    path.write_text(broken := damage(path.read_text()))
    with pytest.raises(ConfigError, match=f"Damaged record .*scores.csv: .*({message})"):
        read_scores(CLIPS, results_dir=tmp_path)
    with pytest.raises(ConfigError, match="Damaged record"):
        write(tmp_path, row("2"))
    assert path.read_text() == broken


def test_answers_that_are_not_those_of_the_scores_are_no_answers(tmp_path):
    write(tmp_path, row("0", n_test=3))
    answers(tmp_path, ["ravdess/a", "ravdess/b"], np.eye(8)[:2])
    with pytest.raises(ConfigError, match=r"cnn.csv: 2 clips of fold 0, expected the 3 of scores.csv"):
        read_answers(CLIPS, results_dir=tmp_path)
    answers(tmp_path, ["ravdess/c"], 2 * np.eye(8)[:1])
    with pytest.raises(ConfigError, match="do not add up to 1"):
        read_answers(CLIPS, results_dir=tmp_path)


def write_many(folder, seed, started):
    while time.time() < started:
        time.sleep(0.001)
    for fold in range(20):
        write(folder, row(str(fold), seed))


def test_two_processes_that_record_at_once_lose_no_row(tmp_path):
    context, started = multiprocessing.get_context("fork"), time.time() + 0.3
    writers = [context.Process(target=write_many, args=(tmp_path, seed, started)) for seed in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(read_scores(CLIPS, results_dir=tmp_path)) == 40


def test_scores_on_synthetic_speech_are_kept_apart(tmp_path):
    synthetic = CLIPS.assign(corpus=["ravdess", "ravdess", "synthetic", "ravdess"])
    assert results_dir_of(CLIPS) == settings.results_dir()
    assert results_dir_of(synthetic) == settings.runs_dir() / "synthetic_results"
    assert results_dir_of(synthetic, str(tmp_path)) == tmp_path


def test_a_row_has_a_name_in_words():
    assert label(row()) == "cnn"
    assert label(row(recipe="warped", n_members=3)) == "cnn, warped, 3 networks"
    assert label(row(model="resnet18", pretrained=True)) == "resnet18, pretrained"


def test_the_shipped_records_are_whole():
    folder = settings.Path(settings.__file__).parent.parent / "data" / "results"
    for name, keys in KEYS.items():
        if (folder / f"{name}.csv").is_file():
            assert len(records.read(folder / f"{name}.csv", keys=keys)) > 0
    scored = records.read(folder / "scores.csv", keys=KEYS["scores"])
    assert set(scored["answers"]) == {path.name for path in (folder / "out_of_fold").glob("*.csv")}
    for name, rows in scored.groupby("answers"):
        assert len(records.read(folder / "out_of_fold" / name, keys=("clip",))) == rows["n_test"].sum()
