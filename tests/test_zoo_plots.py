"""What the figures of the model zoo say: places, marks, names that do not meet."""

import itertools

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sercore import plots
from sercore.errors import ConfigError

pytestmark = pytest.mark.usefixtures("style")

TABLE = pd.DataFrame(
    {"model": ["conv1d", "two_channel", "transcript_rnn", "cnn"], "parameters": [800_000, 32_000, 58_000, 712_000],
     "minutes": [3.0, 5.0, 0.2, 6.0], "uar_speaker": [0.4, np.nan, 0.125, 0.6], "low": [0.35, np.nan, 0.125, 0.55],
     "high": [0.45, np.nan, 0.125, 0.65], "uar_random": [0.6, 0.7, 0.13, np.nan]}
)  # fmt: skip
NOISE = pd.DataFrame(
    {"noise": ["none", "white", "white", "babble", "babble"], "snr_db": [np.inf, 20, 0, 20, 0],
     "uar": [0.6, 0.5, 0.2, 0.55, 0.4], "low": [0.5, 0.4, 0.1, 0.5, 0.3], "high": [0.7, 0.6, 0.3, 0.6, 0.5]}
)  # fmt: skip


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def places(collection):
    return np.ma.filled(collection.get_offsets(), np.nan).tolist()


def test_zoo_puts_the_best_on_unseen_speakers_on_top_and_stars_the_house():
    ax = plots.plot_zoo(TABLE)
    assert ticks(ax.yaxis) == ["two_channel", "transcript_rnn", "conv1d", "★ cnn"]
    assert texts(ax) == ["chance 12.5 %"] and ax.get_xlim() == (0, 100)
    random, speaker = ax.collections[-2:]
    assert places(speaker)[1:] == [[12.5, 1], [40, 2], [60, 3]]
    assert places(random)[:3] == [[70, 0], [13, 1], [60, 2]]
    assert random.get_paths()[0].vertices.tolist() != speaker.get_paths()[0].vertices.tolist()
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["unseen speakers, 95 % interval", "random split (leaky)"]


@pytest.mark.parametrize("x", ["parameters", "minutes"])
def test_tradeoff_leaves_out_what_was_not_measured(x):
    ax = plots.plot_tradeoff(TABLE, x=x)
    known = TABLE.drop(index=1)
    others, house = ax.collections[1:3]
    assert places(others) + places(house) == [[row[x], 100 * row["uar_speaker"]] for _, row in known.iterrows()]
    assert ax.get_xscale() == "log" and set(texts(ax)[1:]) == set(known["model"])
    weights = {text.get_text(): text.get_fontweight() for text in ax.texts}
    assert weights["cnn"] == "bold" and weights["conv1d"] == "normal"


def test_tradeoff_has_units_and_refuses_other_costs():
    labels = [
        plots.plot_tradeoff(TABLE.assign(milliseconds=9.0), x=x).get_xlabel() for x in ("minutes", "milliseconds")
    ]
    assert labels == ["Training time (minutes a fold)", "Time for one answer (ms)"]
    with pytest.raises(ConfigError, match=r"'euro'.*'parameters'"):
        plots.plot_tradeoff(TABLE, x="euro")


def test_names_in_a_crowd_do_not_meet_and_stay_inside():
    rng = np.random.default_rng(0)
    crowd = pd.DataFrame({"model": [f"some_model_{k}" for k in range(11)], "minutes": 5 * 2 ** rng.random(11)})
    crowd["uar_speaker"] = 0.5 + 0.1 * rng.random(11)
    ax = plots.plot_tradeoff(
        crowd.assign(low=crowd["uar_speaker"] - 0.05, high=crowd["uar_speaker"] + 0.05), x="minutes"
    )
    ax.figure.draw_without_rendering()
    boxes = [matplotlib.text.Text.get_window_extent(text) for text in ax.texts]
    assert len(boxes) == 12 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(ax.bbox.padded(1).contains(*corner) for box in boxes for corner in (box.min, box.max))
    marks = ax.transData.transform(crowd[["minutes", "uar_speaker"]].to_numpy() * (1, 100))
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_agreement_writes_every_kappa_without_a_negative_zero():
    matrix = pd.DataFrame([[1, -0.001], [np.nan, 0.456]], index=["cnn", "conv1d"], columns=["cnn", "conv1d"])
    ax = plots.plot_agreement(matrix)
    assert texts(ax) == ["1.00", "0.00", "–", "0.46"] and ticks(ax.yaxis) == ["cnn", "conv1d"]
    assert ax.texts[0].get_color() == "white" and "kappa" in ax.get_title()


def test_ablation_sorts_and_fills_what_is_sure():
    uar = {
        "recipe": (0.5, 0.6, 0.7),
        "mixup": (0.52, 0.58, 0.7),
        "no masks": (0.45, 0.545, 0.6475),
        "half": (0.6, 0.71),
    }
    table = pd.DataFrame([
        {"variant": name, "fold": str(fold), "seed": 0, "uar": value}
        for name, values in uar.items() for fold, value in enumerate(values)
    ])  # fmt: skip
    ax = plots.plot_ablation(table)
    assert ticks(ax.yaxis) == ["no masks (3)", "mixup (3)", "half (2)"]
    sure, unsure = ax.collections[-2:]
    np.testing.assert_allclose(places(sure), [[-5.25, 0]])
    # Two folds that agree are no proof.
    np.testing.assert_allclose(places(unsure), [[0, 1], [10.5, 2]], atol=1e-9)
    np.testing.assert_allclose(ax.collections[0].get_segments()[2][:, 0], [10, 11])
    assert ax.get_xlabel() == "UAR minus the recipe's (points)"


def test_noise_gets_worse_to_the_right_and_names_its_levels():
    ax = plots.plot_noise(NOISE)
    assert texts(ax) == ["quiet 60 %", "chance 12.5 %"] and ax.get_xlim()[0] > ax.get_xlim()[1]
    white, babble = ax.lines[:2]
    assert (white.get_xdata().tolist(), white.get_ydata().tolist()) == ([0, 20], [20, 50])
    assert (white.get_marker(), white.get_linestyle()) != (babble.get_marker(), babble.get_linestyle())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["white", "babble"]
    assert [band.get_hatch() for band in ax.collections] == ["//", "\\\\"]


@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (plots.plot_zoo, "uar_random"),
        (lambda table: plots.plot_tradeoff(table, x="minutes"), "minutes"),
        (plots.plot_ablation, "variant"),
        (plots.plot_noise, "snr_db"),
    ],
)
def test_a_table_that_lacks_columns_says_so(draw, column):
    with pytest.raises(ConfigError, match=rf"\['nonsense'\].*expected.*'{column}'"):
        draw(pd.DataFrame({"nonsense": [1]}))
    assert not plt.get_fignums()
