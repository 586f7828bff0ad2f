"""Designs side by side: what is recorded, what is missing, who fails on the same clips, what a change buys."""

import numpy as np
import pandas as pd
import pytest

from sercore import studies
from sercore.errors import ConfigError
from sercore.experiments import TEMPOS
from sercore.labels import EMOTIONS
from sercore.results import RESULT_COLUMNS, out_of_fold_table, read_table

#: Four speakers, each with two clips of happy and two of sad.
CLIPS = pd.DataFrame(
    [
        {"path": f"/corpus/{speaker}-{emotion}-{k}.wav", "corpus": "ravdess", "speaker": speaker, "emotion": emotion}
        for speaker in ("s1", "s2", "s3", "s4")
        for emotion in ("happy", "sad")
        for k in (0, 1)
    ]
)
TRUTH = CLIPS["emotion"].tolist()


def record(folder, model, protocol, answers, *, clips=CLIPS, uar=(0.5, 0.7), seed=0):
    """Write what `cross_validate` would have written of a model that gives these answers."""
    rows = [
        {"model": model, "protocol": protocol, "fold": str(fold), "seed": seed, "n_test": 8, "accuracy": value + 0.1,
         "uar": value, "macro_f1": value, "parameters": 1000, "minutes": 2.0 + fold, "device": "cpu", "commit": "abc"}
        for fold, value in enumerate(uar)
    ]  # fmt: skip
    pd.DataFrame(rows, columns=list(RESULT_COLUMNS)).to_csv(folder / f"{model}_{protocol}.csv", index=False)
    logits = 9 * np.eye(8)[[EMOTIONS.index(answer) for answer in answers]]
    (folder / "out_of_fold").mkdir(exist_ok=True)
    table = out_of_fold_table(clips, logits, fold="0", temperature=1.0)
    table.to_csv(folder / "out_of_fold" / f"{model}_{protocol}_seed{seed}.csv", index=False)


def wrong(*places):
    """The truth, but for some places, where the other emotion is answered."""
    other = {"happy": "sad", "sad": "happy"}
    return [other[truth] if k in places else truth for k, truth in enumerate(TRUTH)]


def test_a_row_holds_means_deviations_and_the_interval_over_speakers(tmp_path):
    record(tmp_path, "cnn_basic", "speaker_5fold", wrong(0, 1, 4, 5, 8, 9, 12, 13))
    record(tmp_path, "cnn_basic", "random_5fold", TRUTH, uar=(0.8, 0.8))
    [row] = studies.zoo_table(CLIPS, results_dir=tmp_path).to_dict("records")
    assert (row["model"], row["parameters"], row["minutes"], row["folds"]) == ("cnn_basic", 1000, 2.5, 2)
    assert [row["uar_random"], row["uar_random_std"]] == pytest.approx([0.8, 0.0])
    assert [row["uar_speaker"], row["uar_speaker_std"]] == pytest.approx([0.6, 0.02**0.5])
    assert [row["accuracy_random"], row["accuracy_speaker"]] == pytest.approx([0.9, 0.7])
    # Every happy clip of every speaker is taken for sad: no draw of speakers changes that.
    assert (row["low"], row["high"]) == (0.5, 0.5)
    assert np.isnan([row["difference"], row["difference_low"], row["difference_high"]]).all()


def test_models_come_in_the_order_of_the_zoo_and_only_if_recorded(tmp_path):
    for name in ("cnn", "conv1d", "functionals_svm"):
        record(tmp_path, name, "speaker_5fold", TRUTH)
    record(tmp_path, "cnn_basic", "speaker_5fold", TRUTH, seed=7)
    table = studies.zoo_table(CLIPS, results_dir=tmp_path)
    assert table["model"].tolist() == ["functionals_svm", "conv1d", "cnn"]
    assert studies.zoo_table(CLIPS, seed=7, results_dir=tmp_path)["model"].tolist() == ["cnn_basic"]
    with pytest.raises(ConfigError, match=r"resnet18.*sercore crossval"):
        studies.zoo_table(CLIPS, models=["resnet18"], results_dir=tmp_path)


def test_a_protocol_that_was_not_run_is_left_open(tmp_path):
    record(tmp_path, "conv1d", "random_5fold", TRUTH)
    record(tmp_path, "cnn", "speaker_5fold", TRUTH)
    conv1d, cnn = studies.zoo_table(CLIPS, results_dir=tmp_path).to_dict("records")
    assert (conv1d["folds"], conv1d["folds_random"], conv1d["uar_random"]) == (0, 2, pytest.approx(0.6))
    assert np.isnan([conv1d[key] for key in ("uar_speaker", "uar_speaker_std", "low", "high", "difference")]).all()
    assert np.isnan([cnn["uar_random"], cnn["accuracy_random"]]).all() and cnn["low"] == 1


def test_the_house_is_compared_on_the_clips_that_both_were_scored_on(tmp_path):
    # On the first three speakers conv1d misses one happy clip of two; the house alone meets, and fails on, the fourth.
    few = CLIPS[CLIPS["speaker"] != "s4"]
    record(tmp_path, "conv1d", "speaker_5fold", wrong(0, 4, 8)[: len(few)], clips=few)
    record(tmp_path, "cnn", "speaker_5fold", wrong(12, 13, 14, 15))
    row = studies.zoo_table(CLIPS, results_dir=tmp_path).set_index("model").loc["conv1d"]
    assert [row["difference"], row["difference_low"], row["difference_high"]] == pytest.approx([0.25] * 3)
    # An ensemble is the house as soon as there is one; here it is as good as conv1d.
    record(tmp_path, "cnn_ensemble", "speaker_5fold", wrong(1, 5, 9))
    table = studies.zoo_table(CLIPS, results_dir=tmp_path).set_index("model")
    assert table.loc["conv1d", "difference"] == 0 and np.isnan(table.loc["cnn_ensemble", "difference"])
    assert table.loc["cnn", "difference"] == pytest.approx(13 / 16 - 12 / 16)


def test_shared_errors_are_counted_on_common_clips(tmp_path):
    record(tmp_path, "cnn", "speaker_5fold", wrong(0, 1))
    record(tmp_path, "conv1d", "speaker_5fold", wrong(0, 1))
    record(tmp_path, "cnn_basic", "speaker_5fold", wrong(0, 15)[1:], clips=CLIPS[1:])
    kappa, heard = studies.shared_errors(CLIPS, models=["cnn", "conv1d", "cnn_basic"], results_dir=tmp_path)
    assert kappa.index.tolist() == kappa.columns.tolist() == ["cnn", "conv1d", "cnn_basic"]
    # Of 15 clips cnn and conv1d miss the second, cnn_basic the last one: they agree on 13, chance has it on 13.13.
    expected = (13 / 15 - 197 / 225) / (1 - 197 / 225)
    np.testing.assert_allclose(kappa, [[1, 1, expected], [1, 1, expected], [expected, expected, 1]])
    assert heard["path"].tolist() == CLIPS["path"][1:].tolist()
    assert heard["n_right"].tolist() == [1] + [3] * 13 + [2]
    assert heard["taken_for"].tolist() == ["sad", *TRUTH[2:]]


def ablation(**uar):
    """Scores of folds "0", "1", … by variant; None is a fold that was not run."""
    return pd.DataFrame(
        [
            {"variant": variant.replace("_", " "), "fold": str(fold), "seed": 0, "uar": value}
            for variant, values in uar.items()
            for fold, value in enumerate(values)
            if value is not None
        ]
    )


def test_variants_are_compared_on_the_folds_they_share_with_the_recipe():
    table = ablation(recipe=[0.5, 0.6, 0.9], no_masks=[0.4, 0.4, None], mixup=[0.7, None, None], late=[None] * 3)
    differences = studies.ablation_differences(table)
    assert differences["variant"].tolist() == ["mixup", "no masks"] and differences["n"].tolist() == [1, 2]
    assert differences["difference"].tolist() == pytest.approx([0.2, -0.15])
    assert np.isnan(differences["error"][0]) and differences["error"][1] == pytest.approx(0.05)


def test_variants_are_compared_with_the_mean_over_the_recipe_s_seeds():
    more = ablation(recipe=[0.7, None]).assign(seed=1)
    table = pd.concat([ablation(recipe=[0.5, 0.6], mixup=[0.5, 0.5]), more])
    [row] = studies.ablation_differences(table).to_dict("records")
    assert (row["variant"], row["n"], row["difference"]) == ("mixup", 2, pytest.approx(-0.1))  # 0.5 - 0.6, twice


def test_a_comparison_without_the_recipe_is_refused():
    with pytest.raises(ConfigError, match=r"'recipe'.*\['mixup'\]"):
        studies.ablation_differences(ablation(mixup=[0.5]))
    with pytest.raises(ConfigError, match="sercore ablate"):
        studies.ablation_differences(ablation(recipe=[None, 0.5], mixup=[0.5, None]))


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ablation", "sercore ablate`"),
        ("noise_two_channel_speaker_5fold", "sercore noise --model two_channel`"),
        ("noise_cnn_ensemble_speaker_5fold", "sercore noise --model cnn --seeds 0,1,2`"),
        ("noise_cnn_warped_ensemble_speaker_5fold", "sercore noise --model cnn --recipe warped --seeds 0,1,2`"),
        ("transfer", "sercore transfer`"),
    ],
)
def test_a_missing_table_is_asked_for_by_its_command(tmp_path, name, command):
    with pytest.raises(ConfigError, match=command):
        read_table(CLIPS, name, results_dir=tmp_path)


def test_a_table_is_read_with_folds_as_names(tmp_path):
    (tmp_path / "ablation.csv").write_text("variant,fold,seed,uar,commit\nrecipe,0,0,0.5,0123456789\n")
    [row] = read_table(CLIPS, "ablation", results_dir=tmp_path).to_dict("records")
    assert (row["fold"], row["commit"], row["uar"]) == ("0", "0123456789", 0.5)


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("resnet18_imagenet", 1),
        ("cnn_ensemble", 3),
        ("two_channel", 1),
        ("cnn", 1),
        ("cnn_warped", 1),
        ("cnn_warped_ensemble", 3),
    ],
)
def test_rows_of_the_zoo_are_built_by_name(name, members):
    model, design = (
        studies.zoo_model(name),
        name.removesuffix("_imagenet").removesuffix("_ensemble").removesuffix("_warped"),
    )
    assert getattr(model, "tempos", (1.0,)) == (TEMPOS if "warped" in name else (1.0,))
    assert studies.count_parameters(model) == members * studies.count_parameters(studies.build_model(design))


@pytest.mark.parametrize("name", ["functionals_svm", "conv1d", "cnn", "transcript_rnn"])
def test_an_answer_takes_time_whatever_a_model_reads(name):
    assert 0 < studies.milliseconds_a_clip(name, n=2) < 60_000
