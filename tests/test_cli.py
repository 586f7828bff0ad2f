"""cli: what each command prints, writes and exits with; all on synthetic speech."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from typer.testing import CliRunner

from sercore import __version__, crossval, records, robustness, settings
from sercore.batch import Parts
from sercore.cli import app
from sercore.corpora import CORPORA, load_corpus, synthetic
from sercore.labels import EMOTIONS
from sercore.models import build_model, load_checkpoint, save_checkpoint
from sercore.predict import COLUMNS, Predictor
from sercore.records import SCORE_COLUMNS, read_scores
from sercore.train import TrainConfig

LEVELS = [f"synthetic-{number:02d}" for number in (1, 5, 6, 11, 17)]


@pytest.fixture(autouse=True, scope="module")
def one_process():
    with joblib.parallel_config(backend="sequential"):
        yield


@pytest.fixture(autouse=True)
def smoke(monkeypatch, own_folders, tmp_path):
    """No real corpus, no profile set, and a results folder that must stay empty."""
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("SERCORE_RUNS", str(own_folders / "cli-runs"))
    monkeypatch.setenv("SERCORE_RESULTS", str(tmp_path / "results"))
    monkeypatch.delenv("SERCORE_PROFILE", raising=False)
    yield
    assert not (tmp_path / "results").exists()


@pytest.fixture
def corpus(five_speakers):
    """Five speakers, each emotion once: 40 clips."""
    return five_speakers


def checkpoint_with(path, info):
    torch.manual_seed(0)
    return save_checkpoint(path, build_model("cnn"), name="cnn", info=info)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An untrained network that says it was trained on two of the five speakers."""
    info = {"corpus": "synthetic", "train_speakers": LEVELS[:2]}
    return checkpoint_with(tmp_path_factory.mktemp("model") / "two.safetensors", info)


@pytest.fixture
def clip(tmp_path, voice):
    sf.write(tmp_path / "clip.wav", voice, 16_000)
    return tmp_path / "clip.wav"


def sercore(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def assert_error(result, message):
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("Error: ") and message in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


# --- the frame -------------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from sercore.cli import app;"
        "result = CliRunner().invoke(app, ['--help']); print(result.output);"
        "print('loaded:', sorted({'torch', 'librosa', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in (
        "sample predict timeline train evaluate crossval ablate noise matrix transfer deletion export extract verify download"
    ).split():
        assert f"  {command} " in output
    assert "loaded: []" in output


def test_version():
    result = sercore("--version")
    assert (result.exit_code, result.output) == (0, f"sercore {__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("predict", "clip.wav", "--checkpoint", "none.safetensors"), "No checkpoint at none.safetensors"),
        (("timeline", "clip.wav", "--checkpoint", "none.safetensors"), "No checkpoint at none.safetensors"),
        (("verify", "radvess"), "Bad corpus 'radvess'"),
        (("verify", "ravdess"), "No ravdess folder at"),
        (("download", "radvess"), "Bad corpus 'radvess'"),
        (("download", "own"), "there is nothing to fetch"),
        (("download", "savee"), "By hand: register at http://kahlan.eps.surrey.ac.uk/savee/"),
        (("extract", "--corpus", "ravdess", "--root", "nowhere"), "No ravdess folder at nowhere"),
        (("crossval", "--seeds", "0,x"), "Bad seeds '0,x'"),
        (("train", "--seeds", "0,"), "Bad seeds '0,': expected numbers with commas between, such as 0,1."),
        (("ablate", "--seeds", "x"), "Bad seeds 'x'"),
        (("noise", "--seeds", "-1"), "Bad seeds '-1'"),
        (("crossval", "--corpus", "synthetic", "--recipe", "hapy"), "Bad recipe 'hapy': expected one of ['standard'"),
        (("crossval", "--corpus", "synthetic", "--model", "cmm"), "Bad model 'cmm': expected one of ['cnn', 'cnn_ba"),
        (("crossval", "--corpus", "synthetic", "--model", "ensemble"), "Bad model 'ensemble': expected one of ['cnn'"),
        (("crossval", "--corpus", "tess+emodb", "--root", "x"), "Bad root 'x' for tess+emodb: expected one corpus"),
        (("crossval", "--corpus", "synthetic+synthetic"), "each once"),
        (("matrix", "--corpus", "synthetic"), "Bad corpus 'synthetic': expected several"),
        (("sample", "clip.mp3"), "Bad suffix '.mp3' of clip.mp3"),
        (("sample", "clip.wav", "--emotion", "hapy"), "Bad emotion 'hapy'"),
        (("sample", "clip.wav", "--speaker", "25"), "Bad speaker 25"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_error(sercore(*words), message)


# --- sample, predict, timeline ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "emotion", "speaker"),
    [
        ("sad.wav", ("--speaker", "1"), "sad", 1),
        ("clip.flac", ("--speaker", "2"), "angry", 2),
        ("sad.wav", ("--emotion", "angry", "--speaker", "4"), "angry", 4),
    ],
)
def test_sample_writes_the_emotion_that_was_asked_for(tmp_path, name, options, emotion, speaker):
    result = sercore("sample", tmp_path / "new" / name, *options)
    assert result.exit_code == 0, result.output
    assert f"s of synthetic speech, {emotion}. Nobody spoke it." in result.output
    y, sr = sf.read(tmp_path / "new" / name)
    assert sr == 16_000
    np.testing.assert_allclose(y, synthetic.synthesize(emotion, speaker=speaker), atol=2 / 32768)


def test_sample_is_real_speech_with_its_licence_and_synthetic_where_there_is_none(tmp_path, monkeypatch):
    result = sercore("sample", tmp_path / "calm.wav")
    assert result.exit_code == 0 and "real speech, calm" in result.output and "samples" in result.output
    y, sr = sf.read(tmp_path / "calm.wav", dtype="int16")
    expected, expected_sr = sf.read(settings.samples_dir() / "calm.flac", dtype="int16")
    assert sr == expected_sr and np.array_equal(y, expected)
    monkeypatch.setenv("SERCORE_SAMPLES", str(tmp_path / "none"))
    assert "synthetic speech, calm" in sercore("sample", tmp_path / "calm.wav").output


def test_every_sample_clip_has_its_row_and_nothing_else_lies_there():
    folder = settings.samples_dir()
    table = pd.read_csv(folder / "samples.csv")
    assert sorted(table.emotion) == sorted(EMOTIONS) and set(table.licence) == {"CC BY-NC-SA 4.0"}
    assert {path.name for path in folder.iterdir()} == {*table.file, "README.md", "samples.csv"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1.5e6


def test_json_is_the_library_s_answer_in_full_precision(clip, checkpoint):
    result = sercore("predict", clip, "--checkpoint", checkpoint, "--json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)
    expected = Predictor(checkpoint).predict(clip)
    assert (row["file"], row["label"]) == (str(clip), expected.label)
    assert row["confidence"] == pytest.approx(expected.confidence, abs=1e-6)
    assert {emotion: row[emotion] for emotion in EMOTIONS} == pytest.approx(expected.probabilities, abs=1e-6)
    assert "Synthetic speech: no score here is a result." in result.stderr


def test_the_table_shows_per_cent_and_the_csv_full_precision(clip, checkpoint, tmp_path):
    result = sercore("predict", clip, "--checkpoint", checkpoint, "--csv", tmp_path / "new" / "out.csv")
    assert result.exit_code == 0, result.output
    assert result.stdout == "" and "1 answered by two, 0 not in" in result.stderr  # quiet where a file is written
    expected = Predictor(checkpoint).predict(clip)
    head, row = sercore("predict", clip, "--checkpoint", checkpoint).stdout.splitlines()
    assert head.split() == ["file", "label", "confidence", *EMOTIONS, "remarks"]
    shown = [f"{100 * p:.1f}" for p in (expected.confidence, *expected.probabilities.values())]
    assert row.split()[:11] == [str(clip), expected.label, *shown]
    assert "Not sure" in row
    written = pd.read_csv(tmp_path / "new" / "out.csv").iloc[0]
    assert {e: written[e] for e in EMOTIONS} == pytest.approx(expected.probabilities, abs=1e-12)


def test_a_bad_file_is_reported_and_the_others_go_on(clip, checkpoint, tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    clip.rename(tmp_path / "folder" / "deep" / "good.wav")
    (tmp_path / "folder" / "junk.wav").write_text("junk")
    (tmp_path / "folder" / "notes.txt").write_text("not audio")
    words = ("predict", tmp_path / "none.wav", tmp_path / "folder", "--checkpoint", checkpoint)

    rows = json.loads((result := sercore(*words, "--json")).stdout)
    assert result.exit_code == 1
    assert [row["file"].removeprefix(f"{tmp_path}/") for row in rows] == [
        "none.wav", "folder/deep/good.wav", "folder/junk.wav",
    ]  # fmt: skip
    assert "No file at" in rows[0]["error"] and "Cannot read junk.wav" in rows[2]["error"]
    assert rows[1]["error"] == "" and "label" not in rows[0]

    lines = (result := sercore(*words)).stdout.splitlines()
    assert result.exit_code == 1 and "left out 1 files that are no recordings: .txt 1" in result.stderr
    assert "1 answered by two, 2 not." in result.stderr
    assert "No file at" in lines[1] and "Not sure" in lines[2] and "Cannot read junk.wav" in lines[3]


def test_a_killed_run_resumes_and_every_clip_has_one_row(clip, checkpoint, tmp_path):
    names = ["a.wav", "caf\udce9.wav", 'b,"c".wav', "d.wav"]
    for name in names:
        (tmp_path / name).write_bytes(clip.read_bytes())
    words = ("predict", "--checkpoint", checkpoint, *(tmp_path / name for name in names))
    for table in (tmp_path / "t.csv", tmp_path / "t.jsonl"):
        assert sercore(*words[:-2], "--csv", table).exit_code == 0
        whole = table.read_bytes()
        table.write_bytes(whole[:-20])  # killed while it wrote
        result = sercore(*words, "--csv", table, "--resume")
        assert (result.exit_code, result.stdout) == (0, ""), result.output
        assert "3 answered by two, 0 not, 1 were there" in result.stderr
        text = table.read_text(errors="surrogateescape")
        if table.suffix == ".csv":
            rows = list(csv.DictReader(text.splitlines()))
        else:
            rows = [json.loads(line) for line in text.splitlines()]
        assert [row["file"] for row in rows] == [str(tmp_path / name) for name in names]
        assert {row["network"] for row in rows} == {"two"}


def test_a_folder_of_parquet_parts_resumes_whole(clip, checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    monkeypatch.setattr("sercore.batch.PART_ROWS", 2)
    names = ["a.wav", "none.wav", "caf\udce9.wav", "d.wav", "e.wav"]
    for name in set(names) - {"none.wav"}:
        (tmp_path / name).write_bytes(clip.read_bytes())
    words = (
        "predict",
        "--checkpoint",
        checkpoint,
        *(tmp_path / name for name in names),
        "--csv",
        tmp_path / "t.parquet",
    )
    written = []

    def dying(table):
        if written:
            raise KeyboardInterrupt
        written.append(table)
        return close(table)

    close = Parts.close
    monkeypatch.setattr(Parts, "close", dying)  # killed as the second part is full
    sercore(*words)
    monkeypatch.setattr(Parts, "close", close)
    assert len(list((tmp_path / "t.parquet").iterdir())) == 1
    assert_error(sercore(*words), "holds 1 parts: expected --resume")
    result = sercore(*words, "--resume")
    assert "3 answered by two, 0 not, 2 were there" in result.stderr, result.output
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert table["file"].tolist() == [str(tmp_path / name).replace("\udce9", "\\udce9") for name in names]
    assert table["error"].str.len().gt(0).tolist() == [False, True, False, False, False]
    assert table["confidence"].isna().sum() == 1 and list(table) == COLUMNS
    assert "0 answered by two, 0 not, 5 were there" in sercore(*words, "--resume").stderr


def test_a_file_that_is_listed_twice_overwrites_no_part(clip, checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="needs pyarrow: pip install pyarrow")
    monkeypatch.setattr("sercore.batch.PART_ROWS", 2)
    (tmp_path / "b.wav").write_bytes(clip.read_bytes())
    words, table = ("predict", "--checkpoint", checkpoint), ("--csv", tmp_path / "t.parquet")
    assert sercore(*words, clip, clip, tmp_path / "b.wav", tmp_path / "b.wav", *table).exit_code == 0
    (tmp_path / "c.wav").write_bytes(clip.read_bytes())
    assert sercore(*words, clip, tmp_path / "c.wav", *table, "--resume").exit_code == 0
    files = pd.read_parquet(tmp_path / "t.parquet")["file"]
    assert files.tolist() == [str(clip)] * 2 + [str(tmp_path / "b.wav")] * 2 + [str(tmp_path / "c.wav")]


def test_recordings_are_listed_in_a_file_or_on_standard_input(clip, checkpoint, tmp_path):
    (tmp_path / "list.txt").write_text(f"{clip}\n\n{tmp_path}/none.wav\n")
    words = ("predict", "--checkpoint", str(checkpoint), "--json", "--files-from")
    for result in (
        sercore(*words, tmp_path / "list.txt"),
        CliRunner().invoke(app, [*words, "-"], input=(tmp_path / "list.txt").read_text()),
    ):
        assert [bool(row["error"]) for row in json.loads(result.stdout)] == [False, True]
    assert_error(sercore("predict", "--checkpoint", checkpoint), "No audio: expected recordings")
    assert_error(sercore("predict", clip, "--resume"), "Bad --resume")


def test_a_table_goes_where_a_link_points_and_is_opened_first(clip, checkpoint, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")
    assert sercore("predict", clip, "--checkpoint", checkpoint, "--csv", tmp_path / "link.csv").exit_code == 0
    assert (tmp_path / "link.csv").is_symlink() and len(pd.read_csv(tmp_path / "real.csv")) == 1
    result = sercore("predict", clip, "--checkpoint", checkpoint, "--csv", tmp_path)
    assert_error(result, "Is a directory")
    if Path("/dev/full").exists():  # a disk without room, on Linux
        result = sercore("predict", clip, "--checkpoint", checkpoint, "--csv", "/dev/full")
        assert_error(result, "No space left on device: '/dev/full'")


def test_what_must_fail_fails_before_the_work(corpus, clip, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("sercore.cache.extract", lambda *args, **options: pytest.fail("features were computed"))
    monkeypatch.setattr(Predictor, "timeline", lambda *args, **options: pytest.fail("a timeline was computed"))
    where = ("--corpus", "synthetic", "--root", corpus)
    assert_error(sercore("train", *where, "--out", tmp_path), "Is a directory")
    assert_error(sercore("timeline", clip, "--checkpoint", checkpoint, "--csv", tmp_path), "Is a directory")
    assert_error(sercore("crossval", *where, "--folds", "9", "--protocol", "leave_one_speaker_out"), "Bad folds ['9']")
    assert_error(sercore("crossval", *where, "--protocol", "nope"), "Bad protocol 'nope'")


def test_a_decoder_that_dies_takes_no_other_clip_along(clip, checkpoint, tmp_path):
    """The process that decodes "deadly.wav" is killed, as by a fault in a native decoder."""
    for name in ("a.wav", "deadly.wav", "b.wav", "c.wav"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    code = f"""
import os, signal, joblib
from sercore import predict
def ask(checkpoint, paths):
    if any(path.name == "deadly.wav" for path in paths):
        os.kill(os.getpid(), signal.SIGSEGV)
    return predict.kept(checkpoint)._rows(paths)
predict._ask = ask
names = ("a.wav", "deadly.wav", "b.wav", "c.wav")
paths = [{str(tmp_path)!r} + "/" + name for name in names]
for row in predict.Predictor({str(checkpoint)!r}).predict_files(paths, jobs=2):
    print(row["error"] or row["label"])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(out) == 4 and "Decoder died on deadly.wav" in out[1]
    assert len({out[0], out[2], out[3]}) == 1 and out[0] in EMOTIONS


def test_timeline_has_a_row_a_window(checkpoint, tmp_path, voice):
    sf.write(tmp_path / "long.wav", np.tile(voice, 3), 16_000)
    result = sercore("timeline", tmp_path / "long.wav", "--checkpoint", checkpoint, "--hop-s", 0.5, "--csv",
                     tmp_path / "t.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = Predictor(checkpoint).timeline(tmp_path / "long.wav", hop_s=0.5)
    assert len(result.stdout.splitlines()) == 1 + len(expected) > 4
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), expected)


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_leaves_out_the_speakers_that_were_trained_on(checkpoint, corpus):
    result = sercore("evaluate", checkpoint, "--corpus", "synthetic", "--root", corpus)
    assert result.exit_code == 0, result.output
    assert "trained on 2 of these speakers: they are left out." in result.stdout
    assert "24 clips, 0 unusable; guessing would reach 0.125 (UAR)" in result.stdout
    assert [name in result.stdout for name in LEVELS] == [False, False, True, True, True]
    assert "Synthetic speech: no score here is a result." in result.stderr

    rows = Predictor(checkpoint).predict_files(
        path for n in ("06", "11", "17") for path in sorted(corpus.rglob(f"*-{n}.wav"))
    )
    uar = np.mean([row["label"] for row in rows] == np.tile(EMOTIONS, 3))
    assert f"uar      {uar:.3f}, 95 % interval over 3 speakers" in result.stdout

    result = sercore("evaluate", checkpoint, "--corpus", "synthetic", "--root", corpus, "--include-seen")
    assert "trained on 2 of these speakers: THESE SCORES ARE NOT HONEST." in result.stdout
    assert "40 clips, 0 unusable" in result.stdout and LEVELS[0] in result.stdout


def test_guessing_is_measured_by_the_emotions_that_there_are(checkpoint, corpus, tmp_path):
    for path in corpus.rglob("03-01-0[1-4]-*.wav"):
        place = tmp_path / EMOTIONS[int(path.name[7]) - 1] / path.parent.name / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path)
    result = sercore("evaluate", checkpoint, "--corpus", "own", "--root", tmp_path)
    assert "20 clips, 0 unusable; guessing would reach 0.250 (UAR)" in result.stdout


@pytest.mark.parametrize("info", [{"train_speakers": LEVELS}, {}], ids=["all", "does not say"])
def test_evaluate_refuses_when_every_speaker_was_trained_on(info, corpus, tmp_path):
    path = checkpoint_with(tmp_path / "m.safetensors", info)
    result = sercore("evaluate", path, "--corpus", "synthetic", "--root", corpus)
    assert_error(result, "No unseen speaker: m.safetensors")
    assert "`sercore crossval`" in result.stderr and "uar" not in result.stdout


# --- train, crossval and the other measurements ----------------------------------------------------------------------


def test_train_writes_a_checkpoint_that_names_its_speakers(corpus, clip, tmp_path):
    out = tmp_path / "model.safetensors"
    words = ("train", "--corpus", "synthetic", "--root", corpus, "--out", out, "--epochs", 1, "--seeds", "3,4")
    result = sercore(*words, "--hold-out", LEVELS[0])
    assert result.exit_code == 0, result.output
    assert f"{out}: trained on 4 speakers" in result.stdout and "sercore crossval" in result.stdout
    model, metadata = load_checkpoint(out)
    assert metadata["info"]["train_speakers"] == LEVELS[1:]
    assert (metadata["info"]["seeds"], len(model.members)) == ([3, 4], 2)
    assert sercore("predict", clip, "--checkpoint", out).exit_code == 0
    assert_error(sercore(*words, "--hold-out", "synthetic-99"), "Bad speakers ['synthetic-99']")


@pytest.fixture
def measured(monkeypatch):
    """Stands in for the training of `cross_validate`; keeps what it was asked for."""
    calls = []

    def cross_validate(clips, **asked):
        calls.append(asked)
        row = dict.fromkeys(SCORE_COLUMNS, 0) | {"model": "cnn", "recipe": "standard", "n_members": 1}
        rows = [
            row | {"fold": fold, "seed": seed, "accuracy": accuracy + seed / 10, "uar": accuracy + seed / 10 - 0.1}
            for seed in asked["seeds"]
            for fold, accuracy in (("0", 0.4), ("1", 0.6))
        ]
        return pd.DataFrame(rows, columns=list(SCORE_COLUMNS))

    monkeypatch.setattr(crossval, "cross_validate", cross_validate)
    return calls


def test_crossval_trains_and_keeps_synthetic_scores_apart(corpus, own_folders):
    result = sercore("crossval", "--corpus", "synthetic", "--root", corpus, "--protocol", "leave_one_speaker_out",
                     "--folds", "1", "--epochs", 1)  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "over 1 folds" in result.stdout and "leaky" not in result.stdout
    kept = own_folders / "cli-runs" / "trial_results"
    assert f"Recorded in {kept}" in result.stderr
    scored = read_scores(load_corpus("synthetic", corpus), protocol="leave_one_speaker_out", results_dir=kept)
    assert scored["n_test"].tolist() == [8]


def test_crossval_repeats_over_seeds_and_sums_up(corpus, measured):
    result = sercore("crossval", "--corpus", "synthetic", "--root", corpus, "--seeds", "0,1", "--folds", "0,1")
    assert result.exit_code == 0, result.output
    assert [(call["seeds"], call["folds"], call["recipe"].train.epochs) for call in measured] == [
        ((0, 1), ["0", "1"], 12)
    ]
    # Folds differ by 0.2 for each seed; the seeds, 0.1 apart, are averaged within a fold.
    assert "cnn: accuracy 0.550 ± 0.141 over 2 folds" in result.stdout
    assert "cnn: uar      0.450 ± 0.141 over 2 folds" in result.stdout


def test_a_random_split_is_called_leaky_beside_the_honest_score(corpus, measured, monkeypatch):
    words = ("crossval", "--corpus", "synthetic", "--root", corpus, "--protocol", "random_5fold")
    leaky = "leaky: the test speakers were in the training. UAR of one network on unseen speakers:"
    assert f"{leaky} unknown, run `sercore crossval`" in sercore(*words).stdout
    monkeypatch.setattr(records, "read_scores", lambda *_, **__: pd.DataFrame({"uar": [0.25, 0.35]}))
    assert f"{leaky} 0.300" in sercore(*words).stdout


@pytest.mark.parametrize("options", [(), ("--epochs", "2")])
def test_only_the_documented_recipe_on_the_whole_corpus_is_recorded(measured, corpus, tmp_path, monkeypatch, options):
    """Clips of RAVDESS's names, in RAVDESS's place, stand in for it here."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ravdess").symlink_to(corpus)
    monkeypatch.setenv("SERCORE_DATA", str(tmp_path / "data"))
    result = sercore("crossval", *options)
    assert result.exit_code == 0, result.output
    assert "Synthetic" not in result.stderr and "ravdess: 40 clips of 5 speakers" in result.stderr
    assert measured[0]["results_dir"].name == ("trial_results" if options else "results")
    assert measured[0]["recipe"].train.epochs == (2 if options else TrainConfig().epochs)


def test_ablate_trains_variants_and_shows_them_in_their_order(five_speakers, own_folders):
    words = ("ablate", "--corpus", "synthetic", "--root", five_speakers, "--epochs", 1, "--folds", "1")
    result = sercore(*words, "--variants", "half the width,recipe")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["variant", "uar", "loss", "minutes"]
    assert [" ".join(line[:-3]) for line in lines[1:]] == ["half the width", "recipe"]
    kept = own_folders / "cli-runs" / "trial_results" / "ablation.csv"
    assert f"Recorded in {kept.parent}" in result.stderr
    assert pd.read_csv(kept)["variant"].tolist() == ["half the width", "recipe"]


def test_noise_shows_what_was_measured_with_the_seeds_and_model_asked_for(corpus, own_folders, monkeypatch):
    asked = []

    def noise_robustness(clips, *, recipe, seeds, results_dir):
        asked.append((len(clips), recipe.model, recipe.train.epochs, seeds, results_dir))
        return pd.DataFrame({"noise": ["none", "white"], "snr_db": [np.inf, 20.0], "uar": [0.75, 0.5]})

    monkeypatch.setattr(robustness, "noise_robustness", noise_robustness)
    words = ("noise", "--corpus", "synthetic", "--root", corpus, "--model", "conv1d", "--seeds", "0,2", "--epochs", 3)
    result = sercore(*words)
    assert result.exit_code == 0, result.output
    trial = own_folders / "cli-runs" / "trial_results"
    assert asked == [(40, "conv1d", 3, (0, 2), trial)]
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["noise", "none", "white"]
    assert "inf" in result.stdout and f"Recorded in {trial}" in result.stderr


def test_deletion_and_transfer_record_what_they_measure(checkpoint, corpus, own_folders):
    trial = own_folders / "cli-runs" / "trial_results"
    words = ("--corpus", "synthetic", "--root", corpus, "--checkpoint", checkpoint)
    result = sercore("deletion", *words, "--n-clips", 2)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(trial / "deletion.csv")[["network", "n_clips"]].values.tolist() == [["two", 2]]
    path = checkpoint_with(own_folders / "else.safetensors", {"train_speakers": ["ravdess-01"]})
    result = sercore("transfer", "synthetic", "--root", corpus, "--checkpoint", path)
    assert result.exit_code == 0, result.output
    assert pd.read_csv(trial / "transfer.csv")["n_test"].tolist() == [40]


# --- extract, verify -------------------------------------------------------------------------------------------------


def test_extract_fills_the_cache_and_counts(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("SERCORE_CACHE", str(tmp_path / "cache"))
    result = sercore("extract", "--corpus", "synthetic", "--root", corpus)
    assert result.exit_code == 0, result.output
    assert f"log_mel of 40 of 40 clips is in {tmp_path / 'cache' / 'features'}" in result.stdout
    entries = list((tmp_path / "cache" / "features").rglob("*.npy"))
    assert len(entries) == 40 and np.load(io.BytesIO(entries[0].read_bytes())).shape[0] == 64


def test_verify_lists_what_is_wrong(corpus, tmp_path):
    broken = tmp_path / "Actor_01" / "03-01-01-01-01-01-01.wav"
    broken.parent.mkdir()
    broken.write_text("junk")
    (tmp_path / "music.wav").write_text("junk")
    result = sercore("verify", "ravdess", "--root", tmp_path)
    assert result.exit_code == 1
    assert "ravdess: expected 1440, found 0" in result.stdout
    assert "missing 1439" in result.stdout and "… and 1419 more" in result.stdout
    assert f"  {broken} " in result.stdout and "Bad RAVDESS file name 'music.wav'" in result.stdout


def test_download_shows_licence_and_citation_and_verifies(tmp_path, monkeypatch):
    emodb = CORPORA["emodb"]
    monkeypatch.setitem(CORPORA, "emodb", replace(emodb, n_files=1))
    sf.write(tmp_path / "03a01Fa.wav", np.tile([0.1, -0.1], 100), 16_000)
    with zipfile.ZipFile(tmp_path / "download.zip", "w") as zipped:
        zipped.write(tmp_path / "03a01Fa.wav", "wav/03a01Fa.wav")
    (tmp_path / "03a01Fa.wav").unlink()
    result = sercore("download", "emodb", "--root", tmp_path)
    assert f"Licence: {emodb.licence}" in result.stdout and f"Please cite: {emodb.citation}" in result.stdout
    assert "emodb: expected 1, found 1" in result.stdout and result.exit_code == 0


def test_one_s_own_recordings_are_a_corpus(corpus, tmp_path):
    clip = next(corpus.rglob("*.wav"))
    (tmp_path / "clips.csv").write_text(f"path,emotion,speaker\n{clip},happy,anna\n{clip},bored,anna\n")
    result = sercore("verify", "own", "--root", tmp_path / "clips.csv")
    assert result.exit_code == 1 and "own: expected 1, found 1" in result.stdout
    assert "Bad emotion 'bored' (clips.csv, line 3): expected one of" in result.stdout


def test_an_answer_loads_nothing_that_it_does_not_need(voice, tmp_path):
    sf.write(file := tmp_path / "clip.wav", voice, 16_000)
    heavy = "numba pandas matplotlib sklearn captum scipy.signal audiomentations joblib IPython".split()
    code = (
        "import sys; from sercore.cli import app\n"
        f"try: app(['predict', {str(file)!r}, '--checkpoint', 'small'])\n"
        f"except SystemExit as end: assert not end.code; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


OWN_EMOTIONS = """
import json, sys
from typer.testing import CliRunner
from sercore.batch import Parts
from sercore.cli import app

for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(app, words)
    print(json.dumps({"code": result.exit_code, "out": result.stdout, "err": result.stderr}))
"""


def with_emotions(emotions, *commands, tmp_path):
    """Run commands in a new process, since the emotions are read once."""
    own = {"SERCORE_EMOTIONS": emotions, "SERCORE_PROFILE": "smoke", "SERCORE_RUNS": str(tmp_path / "runs")}
    words = json.dumps([[str(word) for word in command] for command in commands])
    code = [sys.executable, "-c", OWN_EMOTIONS, words]
    done = subprocess.run(code, capture_output=True, text=True, timeout=300, env=os.environ | own)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_set_of_one_s_own_is_trained_evaluated_and_answered(corpus, tmp_path):
    said = {"calm": "calm", "angry": "Upset", "fearful": "very urgent", "sad": "tired"}
    clips = load_corpus("synthetic", corpus)
    clips = clips[clips["emotion"].isin(said)].reset_index(drop=True)
    for k, path in enumerate(clips["path"]):  # by names that are no corpus's
        shutil.copy(path, tmp_path / f"{k}.wav")
    rows = [f"{c.Index}.wav,{said[c.emotion]},{c.speaker}" for c in clips.itertuples()]
    (tmp_path / "clips.csv").write_text("\n".join(["path,emotion,speaker", *rows, f"{corpus},bored,anna"]))
    clip, out = tmp_path / "0.wav", tmp_path / "four.safetensors"
    own = ("--corpus", "own", "--root", tmp_path / "clips.csv")
    trained, scored, folds, answer, shipped, bar = with_emotions(
        "calm,Upset,very urgent,tired",
        ("train", *own, "--epochs", 1, "--out", out, "--hold-out", "own-synthetic-01"),
        ("evaluate", out, *own),
        ("crossval", *own, "--epochs", 1, "--folds", "0"),
        ("predict", clip, "--checkpoint", out, "--json"),
        ("predict", clip, "--checkpoint", "small"),
        ("predict", clip, "--checkpoint", out),
        tmp_path=tmp_path,
    )
    assert trained["code"] == 0 and "20 clips of 5 speakers" in trained["err"], trained
    assert "guessing would reach 0.250 (UAR)" in scored["out"], scored
    assert folds["code"] == 0 and "Recorded in" in folds["err"], folds
    (row,) = json.loads(answer["out"])
    names = ["calm", "upset", "very urgent", "tired"]
    assert row["label"] in names and sum(row[name] for name in names) == pytest.approx(1) and "happy" not in row
    assert shipped["code"] == 2 and "unset SERCORE_EMOTIONS" in shipped["err"]
    assert bar["code"] == 0 and "very urgent" in bar["out"]
    assert_error(sercore("predict", clip, "--checkpoint", out), "set SERCORE_EMOTIONS=calm,upset,very urgent,tired")


def test_a_known_corpus_gives_what_it_has_of_a_set_of_one_s_own(corpus, tmp_path):
    command = ("extract", "--corpus", "synthetic", "--root", corpus)
    (result,) = with_emotions("sad,angry,bored", command, tmp_path=tmp_path)
    assert result["code"] == 0 and "synthetic: 10 clips of 5 speakers" in result["err"], result


@pytest.mark.parametrize("emotions", ["sad", "sad,Sad", "sad,,angry", "sad,label", ",".join("abcdefghi")])
def test_a_bad_set_of_emotions_is_one_line(emotions):
    words = [sys.executable, "-m", "sercore", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | {"SERCORE_EMOTIONS": emotions})
    assert done.returncode == 2 and done.stderr.startswith(f"Error: Bad SERCORE_EMOTIONS {emotions!r}: ")


def test_the_failures_alone_are_a_table(clip, checkpoint, tmp_path):
    (tmp_path / "junk.wav").write_text("junk")
    table, failures = tmp_path / "all.csv", tmp_path / "bad.csv"
    words = ("predict", clip, tmp_path / "junk.wav", "--checkpoint", checkpoint, "--csv", table, "--failures", failures)
    assert sercore(*words).exit_code == 1
    assert pd.read_csv(table)["error"].notna().tolist() == [False, True]
    assert pd.read_csv(failures)["file"].tolist() == [str(tmp_path / "junk.wav")]
    table.write_text("file,network\n")
    assert_error(sercore(*words, "--resume"), "Bad table")
