"""crossval: no test clip is trained on, every clip keeps its answer, and a finished fold is not trained again."""

from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from scipy.special import softmax

from sercore import crossval, train
from sercore.audio import load_audio
from sercore.augment import SpectrogramWarp, WaveformAugment
from sercore.corpora import load_corpus, synthetic
from sercore.crossval import cross_validate, prepare, train_final, train_fold
from sercore.errors import ConfigError
from sercore.evaluate import fit_temperature, scores, targets_of
from sercore.features import compute
from sercore.labels import EMOTIONS
from sercore.models import load_checkpoint, predict_logits
from sercore.models.cnn import CNN
from sercore.recipes import WHISPER_FEATURES, Recipe, recipe_for
from sercore.records import SCORE_COLUMNS, read_answers, read_scores
from sercore.train import TrainConfig

SMALL = Recipe(
    model_config={"widths": (4, 8, 8)}, copies=0, n_val_speakers=1, train=TrainConfig(epochs=2, batch_size=8, lr=0.02)
)
ONCE = replace(SMALL, calibrate=False, train=replace(SMALL.train, epochs=1))


@pytest.fixture(autouse=True, scope="module")
def one_process():
    with joblib.parallel_config(backend="sequential"):  # few clips are not worth the start of processes
        yield


@pytest.fixture
def clips(five_speakers):
    return load_corpus("synthetic", five_speakers)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A runs folder of the test's own, and the epochs that were trained."""
    monkeypatch.setenv("SERCORE_RUNS", str(tmp_path / "runs"))
    trained, original = [], train._train_epoch
    monkeypatch.setattr(train, "_train_epoch", lambda *args: trained.append(args) or original(*args))
    return trained


def run(clips, folder, recipe=SMALL, **options):
    return cross_validate(
        clips, **{"recipe": recipe, "folds": ["1"], "results_dir": folder, "progress": False} | options
    )


def speak(path, emotion, speaker):
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, synthetic.synthesize(emotion, speaker=speaker), synthetic.SR)


# --- what is trained on ----------------------------------------------------------------------------------------------


def test_a_network_is_shown_training_clips_alone(clips, runs, monkeypatch):
    shown, original = [], crossval.TrainingSet

    def spy(features, targets, **options):
        shown.append({id(feature) for feature in features})
        return original(features, targets, **options)

    monkeypatch.setattr(crossval, "TrainingSet", spy)
    prepared = prepare(clips, recipe=SMALL, progress=False)
    [fold] = crossval.folds_of(clips, "speaker_5fold", recipe=SMALL, names=["1"])
    crossval.train_and_refit(prepared, fold, recipe=SMALL, progress=False)
    ids = np.array([id(feature) for feature in prepared.features])
    assert shown == [set(ids[fold.train]), set(ids[fold.train]) | set(ids[fold.val])]
    assert len(fold.test) == 8 and not shown[1] & set(ids[fold.test])


HEAD = Recipe(
    model="whisper_head", model_config={"layers": 1, "hidden": 8}, across=True, n_val_speakers=1, other_voices=True,
    train=TrainConfig(epochs=2, batch_size=16, mixup_alpha=0.3),
)  # fmt: skip


STUDENT = replace(SMALL, teacher="whisper_head", calibrate=False, train=replace(SMALL.train, epochs=1))


def summaries(n_corpora=3, n_speakers=2, poisoned=()):
    """Prepared clips as Whisper might sum them up, eight of each speaker; those in some rows, and their copies, NaN."""
    rng, n = np.random.default_rng(0), n_corpora * n_speakers * 8
    row = np.arange(n)
    clips = pd.DataFrame({"corpus": [f"c{k}" for k in row // (n_speakers * 8)], "speaker": [f"s{k}" for k in row // 8]})
    clips["emotion"] = np.array(EMOTIONS)[row % 8]
    clips["clip"], clips["sex"] = [f"clip{k}" for k in row], "female"
    features = (rng.normal(size=(n, 2, 512)) + (row % 8)[:, None, None] / 4).astype(np.float32)
    features[list(poisoned)] = np.nan
    clips.loc[list(poisoned), "emotion"] = "angry"
    return crossval.Prepared(clips, list(features[:, 0]), [[x] for x in features[:, 1]])


@pytest.mark.parametrize("seed", [0, 1])  # odd seeds are shown other voices
@pytest.mark.parametrize("protocol", ["leave_one_corpus_out", "corpora_5fold"])
def test_nothing_of_a_test_clip_enters_weights_scaler_voices_or_temperature(protocol, seed):
    def learned(poisoned=()):
        prepared = summaries(poisoned=poisoned)
        [(network, facts)] = crossval.train_members(prepared, fold, recipe=HEAD, seeds=(seed,), progress=False)
        temperature = crossval.temperature_of([(network, facts)], prepared, fold, recipe=HEAD)
        return network.state_dict() | {"temperature": torch.tensor(temperature)}

    fold = crossval.folds_of(summaries().clips, protocol, recipe=HEAD)[0]
    clean, poisoned = learned(), learned(fold.test)
    assert {"scaler.running_mean", "dense.1.weight"} < set(clean)
    assert all(torch.equal(clean[key], poisoned[key]) for key in clean)
    touched = learned([fold.train[0]])  # so that the comparison could fail
    assert not torch.equal(clean["scaler.running_mean"], touched["scaler.running_mean"])


def test_nothing_of_a_test_clip_enters_teacher_or_student(monkeypatch):
    def learned(poisoned=()):
        teacher = summaries(poisoned=poisoned)
        features = [np.full((64, 40), S.mean(), dtype=np.float32) for S in summaries(poisoned=poisoned).features]
        prepared = crossval.Prepared(teacher.clips, features, teacher=teacher)
        goals = crossval.taught(prepared, fold.train, recipe=STUDENT)
        [(network, _)] = crossval.train_members(prepared, fold, recipe=STUDENT, seeds=(0,), progress=False)
        return goals, network.state_dict()

    monkeypatch.setattr(crossval, "teacher_of", lambda recipe, clips: replace(HEAD, across=False, calibrate=False))
    fold = crossval.folds_of(summaries().clips, "leave_one_corpus_out", recipe=STUDENT)[0]
    (goals, clean), (again, poisoned) = learned(), learned(fold.test)
    np.testing.assert_array_equal(goals, again)
    assert all(torch.equal(clean[key], poisoned[key]) for key in clean)
    labels = targets_of(summaries().clips)[fold.train]
    assert (
        goals.argmax(axis=1) == labels
    ).all() and goals.max() < 1  # the teacher has a say, and the label the last word
    np.testing.assert_allclose(goals.sum(axis=1), 1, atol=1e-6)
    assert not np.array_equal(learned([fold.train[0]])[0], goals, equal_nan=True)


def test_a_temperature_across_corpora_is_that_of_corpora_left_out():
    prepared, rows = summaries(), np.arange(48)
    fold = crossval.Fold("all", rows[8:], rows[:8], rows[:0])
    found = []
    for corpus in ("c0", "c1", "c2"):
        out = (prepared.clips["corpus"] == corpus).to_numpy()
        network = crossval._fit(prepared, rows[~out], HEAD, progress=False).model
        logits = crossval.logits_of([network], prepared, rows[out], recipe=HEAD)
        found.append(fit_temperature(logits, targets_of(prepared.clips)[out]))
    members = crossval.train_members(prepared, fold, recipe=HEAD, seeds=(0,), progress=False)
    together = crossval.temperature_of(members, prepared, fold, recipe=HEAD)
    assert together == pytest.approx(np.exp(np.mean(np.log(found))), rel=0.01)


def test_heads_over_whisper_become_one_network_that_reads_log_mel(clips, runs, tmp_path):
    recipe = replace(HEAD, model_config={"hidden": 8}, features=WHISPER_FEATURES, augment=None, copies=1, across=False,
                     n_val_speakers=1, warp=SpectrogramWarp())  # fmt: skip
    facts = train_final(clips, path := tmp_path / "w.safetensors", recipe=recipe, seeds=(0, 1), progress=False)
    model, metadata = load_checkpoint(path)
    assert (metadata["model"], metadata["model_config"]["n_heads"]) == ("whisper_encoder", 2)
    assert facts["pretrained"] is True and metadata["outliers"] is not None
    prepared = prepare(clips, recipe=recipe, progress=False)
    assert prepared.features[0].shape == (3 * 512,) and len(prepared.copies[0]) == 1
    logits = predict_logits(model, [compute(load_audio(clips["path"][3], sr=16_000), config=WHISPER_FEATURES)],
                            config=WHISPER_FEATURES)  # fmt: skip
    heads = [predict_logits(head, [prepared.features[3]]) for head in model.heads]
    np.testing.assert_allclose(logits, np.mean(heads, axis=0), atol=1e-4)


def test_a_model_is_given_what_its_kind_reads(clips):
    vectors = prepare(clips[:2], recipe=replace(SMALL, model="conv1d", model_config={}, copies=1), progress=False)
    assert [feature.shape for feature in vectors.features] == [(196,), (196,)]
    assert [[copy.shape for copy in row] for row in vectors.copies] == [[(196,)], [(196,)]]
    words = replace(SMALL, model="transcript_rnn", model_config={}, copies=1)
    assert [(feature > 0).sum() for feature in prepare(clips[:2], recipe=words).features] == [6, 6]
    with pytest.raises(ConfigError, match="No statement of 1 of 2 clips, which transcript_rnn reads"):
        prepare(clips[:2].assign(statement=["Kids", None]), recipe=words)


def test_copies_are_made_of_every_clip_and_one_that_cannot_be_used_is_left_out(clips, tmp_path, caplog):
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF not really")
    few = clips[:3].assign(path=[clips["path"][0], str(bad), clips["path"][2]])
    recipe = replace(SMALL, copies=2, augment=WaveformAugment(max_semitones=1.0))
    prepared = prepare(few, recipe=recipe, progress=False)
    assert len(prepared.clips) == len(prepared.features) == 2 and "bad.wav" in caplog.text
    assert [len(row) for row in prepared.copies] == [2, 2]
    one, other = prepared.copies[0]
    assert one.shape != other.shape or not np.array_equal(one, other)


# --- what is recorded ------------------------------------------------------------------------------------------------


def test_scores_are_recorded_with_what_the_run_was_and_a_second_run_trains_nothing(clips, runs, tmp_path):
    first = run(clips, tmp_path)
    assert len(runs) == 4 and list(first) == list(SCORE_COLUMNS)
    [row] = read_scores(clips, results_dir=tmp_path).to_dict("records")
    assert (row["corpora"], row["fold"], row["model"], row["recipe"]) == ("synthetic", "1", "cnn", "standard")
    assert (row["threads"], row["device"]) == (str(torch.get_num_threads()), "cpu")
    assert row["precision"] in ("float32", "bf16") and row["processor"]
    tested, proba = read_answers(clips, results_dir=tmp_path)
    assert set(tested["speaker"]) == {"synthetic-06"} and len(tested) == 8
    assert scores(targets_of(tested), proba.argmax(axis=1))["uar"] == pytest.approx(row["uar"])
    pd.testing.assert_frame_equal(first, run(clips, tmp_path))
    assert len(runs) == 4 and len(read_scores(clips, results_dir=tmp_path)) == 1


def test_several_seeds_are_scored_each_and_together(clips, runs, tmp_path):
    table = run(clips, tmp_path, seeds=(4, 2))
    assert table[["n_members", "seed"]].values.tolist() == [[1, 4], [1, 2], [2, 2]]
    size = table["parameters"][0]
    assert table["parameters"].tolist() == [size, size, 2 * size] and table["epochs"].tolist() == [2, 2, 2]
    assert table["minutes"][2] == pytest.approx(table["minutes"][0] + table["minutes"][1])
    which = [{"seed": 4}, {"seed": 2}, {"seed": 2, "n_members": 2}]
    asked = {"results_dir": tmp_path, "columns": ["temperature"]}
    temperatures = [read_answers(clips, **one, **asked)[1][0, 0].astype(float) for one in which]
    logits = [
        temperature * np.log(read_answers(clips, **one, results_dir=tmp_path)[1])
        for one, temperature in zip(which, temperatures, strict=True)
    ]
    # Together they answer by the mean of their logits, at the temperature that this mean needs.
    expected = softmax((logits[0] + logits[1]) / 2, axis=1)
    np.testing.assert_allclose(softmax(logits[2], axis=1), expected, atol=1e-3)
    run(clips, tmp_path, seeds=(2, 4, 7))
    assert len(runs) == 2 * 4 + 4  # those that were there are read


def test_the_temperature_is_that_of_the_last_weights_and_of_networks_together(clips, runs, tmp_path):
    recipe = replace(SMALL, train=replace(SMALL.train, epochs=3))
    prepared = prepare(clips, recipe=recipe, progress=False)
    [fold] = crossval.folds_of(clips, "speaker_5fold", recipe=recipe, names=["0"])
    run(clips, tmp_path, recipe, folds=["0"], seeds=(0, 1))
    folder = crossval.runs_dir_of(clips, recipe) / "speaker_5fold" / "fold0"
    logits = []
    for seed in (0, 1):
        first = train_fold(
            prepared, fold, recipe=recipe.seeded(seed), run_dir=folder / f"validation_seed{seed}", progress=False
        )
        logits.append(predict_logits(first.last, prepared.at(fold.val), config=recipe.features))
        best = predict_logits(first.model, prepared.at(fold.val), config=recipe.features)
        assert first.best_epoch == 3 or np.abs(best - logits[-1]).max() > 1e-4
    truth = targets_of(clips)[fold.val]
    for n_members, seed, expected in ((1, 0, logits[0]), (1, 1, logits[1]), (2, 0, np.mean(logits, axis=0))):
        which = {"n_members": n_members, "seed": seed, "results_dir": tmp_path, "columns": ["temperature"]}
        recorded = read_answers(clips, **which)[1][0, 0]
        assert recorded == pytest.approx(fit_temperature(expected, truth), abs=1e-3)


def test_files_of_one_name_keep_an_answer_each(runs, tmp_path):
    codes = {"a": "angry", "d": "disgust", "f": "fearful", "h": "happy", "n": "neutral", "sa": "sad", "su": "surprised"}
    for number, speaker in enumerate(("DC", "JE", "JK", "KL"), start=1):
        for code, emotion in codes.items():
            speak(tmp_path / "savee" / speaker / f"{code}01.wav", emotion, number)
    clips = load_corpus("savee", tmp_path / "savee")
    recipe = replace(ONCE, model="functionals_svm", model_config={})
    run(clips, tmp_path, recipe, protocol="leave_one_speaker_out", folds=None)
    where = {"protocol": "leave_one_speaker_out", "model": "functionals_svm", "results_dir": tmp_path}
    tested, proba = read_answers(clips, **where)
    assert len(tested) == 28 and len(np.unique(proba, axis=0)) == 28
    recorded = read_scores(clips, **where)["accuracy"].mean()
    assert (proba.argmax(axis=1) == targets_of(tested)).mean() == pytest.approx(recorded, abs=1e-6)


def test_recordings_laid_out_as_the_error_advises_can_be_cross_validated(runs, tmp_path):
    for speaker, name in enumerate(("anna", "ben", "cleo"), start=1):
        for emotion in EMOTIONS[2:6]:
            speak(tmp_path / "own" / emotion / name / "01.wav", emotion, speaker)
    clips = load_corpus("own", tmp_path / "own")
    run(clips, tmp_path, replace(ONCE, model="functionals_svm", model_config={}), protocol="leave_one_speaker_out",
        folds=None)  # fmt: skip
    where = {"protocol": "leave_one_speaker_out", "model": "functionals_svm", "results_dir": tmp_path}
    assert len(read_answers(clips, **where)[0]) == 12


def test_what_a_run_was_is_written_by_the_run(clips, runs, tmp_path, monkeypatch):
    monkeypatch.setattr(CNN, "warm_start", lambda self: False)  # offline
    assert run(clips, tmp_path, ONCE)["pretrained"].tolist() == [False]
    monkeypatch.setattr(CNN, "warm_start", lambda self: True)  # online
    assert run(clips, tmp_path, ONCE)["pretrained"].tolist() == [False]
    assert len(runs) == 1
    assert run(clips, tmp_path, ONCE, folds=["2"])["pretrained"].tolist() == [True]


def test_tempos_change_the_answers_and_train_nothing_anew(clips, runs, tmp_path):
    run(clips, tmp_path, SMALL)
    _, before = read_answers(clips, results_dir=tmp_path)
    run(clips, tmp_path, replace(SMALL, tempos=(0.7, 1.0)))
    _, after = read_answers(clips, results_dir=tmp_path)
    assert len(runs) == 4 and np.abs(after - before).max() > 1e-4


def test_other_clips_by_the_same_recipe_are_another_run(clips, runs, tmp_path):
    run(clips, tmp_path, ONCE, folds=["0"])
    few = clips[clips["emotion"] != "calm"].reset_index(drop=True)
    run(few, tmp_path, ONCE, folds=["0"])
    assert len(runs) == 2


def test_words_tell_nothing_on_given_sentences(clips, runs, tmp_path):
    table = run(clips, tmp_path, replace(ONCE, model="transcript_rnn", model_config={}))
    assert table["uar"].tolist() == [1 / 8]


def test_folds_and_protocols_that_are_not_there_are_named(clips, runs, tmp_path):
    with pytest.raises(ConfigError, match=r"Bad folds \['9'\] of speaker_5fold: expected some of \['0', '1', '2'"):
        run(clips, tmp_path, folds=["9"])
    with pytest.raises(ConfigError, match="Bad protocol 'speaker_7fold'"):
        run(clips, tmp_path, protocol="speaker_7fold")


# --- the network that is shipped -------------------------------------------------------------------------------------


def test_the_final_network_is_trained_on_everyone_and_says_so(clips, runs, tmp_path):
    facts = train_final(clips, tmp_path / "one.safetensors", recipe=replace(SMALL, tempos=(0.7, 1.0)), progress=False)
    model, metadata = load_checkpoint(tmp_path / "one.safetensors")
    assert metadata["info"] == facts
    assert facts["train_speakers"] == sorted(clips["speaker"].unique()) and len(facts["temperature_from"]) == 1
    assert (facts["corpus"], facts["n_train_clips"], facts["recipe"]) == ("synthetic", 40, "standard")
    assert (metadata["model"], model.tempos, len(model.members)) == ("ensemble", (0.7, 1.0), 1)
    assert metadata["outliers"] is not None


def test_several_seeds_make_one_checkpoint_of_as_many_members(clips, runs, tmp_path):
    facts = train_final(clips, tmp_path / "e.safetensors", recipe=SMALL, seeds=(0, 1), progress=False)
    model, metadata = load_checkpoint(tmp_path / "e.safetensors")
    assert {"member": "cnn", "n_members": 2}.items() <= metadata["model_config"].items()
    assert facts["seeds"] == [0, 1] and len(runs) == 8
    one, other = (member.head.weight for member in model.members)
    assert not torch.equal(one, other)


# --- the recipes -----------------------------------------------------------------------------------------------------


def test_recipes_go_by_name_and_designs_have_their_needs():
    standard, warped, slow = (
        recipe_for(name, model=model, profile="full")
        for name, model in (("standard", "cnn"), ("warped", "cnn"), ("standard", "resnet18"))
    )
    assert (standard.name, standard.calibrate, standard.tempos) == ("standard", True, (1.0,))
    assert (warped.train.epochs, warped.tempos) == (2 * standard.train.epochs, (0.9, 1.0, 1.1))
    assert (slow.calibrate, slow.train.epochs, slow.model_config) == (False, 20, {"pretrained": True})
    assert recipe_for("warped", model="conv1d", profile="full").tempos == (1.0,)
    assert recipe_for("any_voice", profile="full").features.level == "clip"
    assert recipe_for("warped", profile="smoke").train.epochs == 12
    head, abroad = (recipe_for(name, model="whisper_head", profile="full") for name in ("standard", "any_voice"))
    assert (head.kind, head.embed.layers, head.across, abroad.across) == ("log_mel", 3, False, True)
    assert (head.other_voices, abroad.other_voices) == (False, True)
    assert standard.embed is None and recipe_for("small").teacher == "whisper_head"
    with pytest.raises(ConfigError, match=r"Bad recipe 'house': expected one of \['standard', 'warped', 'any_voice',"):
        recipe_for("house")
    with pytest.raises(ConfigError, match=r"Bad model 'ensemble': expected one of \['cnn', 'cnn_basic'"):
        recipe_for(model="ensemble")


def test_the_key_is_of_what_is_trained_and_of_nothing_else():
    standard = recipe_for("standard", profile="full")
    same = replace(standard.seeded(5), calibrate=False, tempos=(0.9, 1.0), name="mine")
    spelled_out = replace(standard, model_config={"widths": (16, 32, 64, 128), "excite": True})
    others = [replace(standard, copies=0), replace(standard, model_config={"excite": False})]
    assert same.key == spelled_out.key == standard.key == "7aac027a"
    assert standard.key not in [other.key for other in [*others, recipe_for("warped", profile="full")]]


@pytest.mark.real
def test_recorded_scores_are_those_of_the_recorded_probabilities():
    clips = load_corpus("ravdess")
    folder = Path(crossval.__file__).parents[1] / "data" / "results"
    for protocol in ("speaker_5fold", "random_5fold"):
        table = read_scores(clips, protocol=protocol, model="cnn", recipe="warped", n_members=3, results_dir=folder)
        which = {"protocol": protocol, "recipe": "warped", "n_members": 3, "results_dir": folder}
        tested, proba = read_answers(clips, **which)
        assert len(tested) == table["n_test"].sum() == 1440
        accuracy = scores(targets_of(tested), proba.argmax(axis=1))["accuracy"]
        assert accuracy == pytest.approx(np.average(table["accuracy"], weights=table["n_test"]), abs=1e-4)
