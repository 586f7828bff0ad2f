"""What the figures of several corpora say: places, marks, names that do not meet."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

from sercore import plots
from sercore.errors import ConfigError
from sercore.labels import COLORS

pytestmark = pytest.mark.usefixtures("style")

MATRIX = pd.DataFrame(
    {"trained_on": ["emodb", "emodb", "tess", "tess"], "tested_on": ["emodb", "tess", "emodb", "tess"],
     "n_emotions": [6, 6, 6, 7], "uar": [0.7, 0.31, 0.25, 0.42]}
)  # fmt: skip
LEFT_OUT = pd.DataFrame(
    {"model": ["fixed", "fixed", "varied", "varied"], "tested_on": ["emodb", "tess", "emodb", "tess"],
     "n_emotions": [6, 7, 6, 7], "uar": [0.4, 0.3, 0.5, 0.45], "low": [0.3, np.nan, 0.4, np.nan],
     "high": [0.5, np.nan, 0.6, np.nan]}
)  # fmt: skip


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def test_spectra_differ_in_more_than_colour_and_their_names_do_not_meet():
    curves = pd.DataFrame({"a": [-40, -60.0], "b": [-42, -60.1], "c": [-50, -90.0]}, index=[100.0, 8000.0])
    ax = plots.plot_spectra(curves)
    assert [line.get_ydata().tolist() for line in ax.lines] == curves.T.to_numpy().tolist()
    assert len({line.get_linestyle() for line in ax.lines}) == 3
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert sorted(texts(ax)) == ["a", "b", "c"]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])
    assert "dB" in ax.get_ylabel() and "Hz" in ax.get_xlabel()
    with pytest.raises(ConfigError, match="Bad number of spectra 9"):
        plots.plot_spectra(pd.DataFrame(np.zeros((2, 9)), index=[1.0, 2.0]))


def test_the_matrix_names_each_score_and_what_guessing_has():
    ax = plots.plot_corpus_matrix(MATRIX)
    assert ticks(ax.xaxis) == ticks(ax.yaxis) == ["emodb", "tess"]
    placed = {text.get_position()[:2]: text.get_text() for text in ax.texts if text.get_fontsize() == 20}
    assert placed == {(0, 0): "70.0 %", (1, 0): "31.0 %", (0, 1): "25.0 %", (1, 1): "42.0 %"}
    assert [text for text in texts(ax) if "chance" in text] == ["chance 16.7 %"] * 3 + ["chance 14.3 %"]
    assert [patch.get_xy() for patch in ax.patches] == [(-0.48, -0.48), (0.52, 0.52)]


def test_a_cell_that_was_not_measured_stays_empty():
    assert len(texts(plots.plot_corpus_matrix(MATRIX.iloc[:3]))) == 6
    with pytest.raises(ConfigError, match="trained_on"):
        plots.plot_corpus_matrix(MATRIX.drop(columns="trained_on"))


def test_left_out_corpora_get_a_place_each_with_chance_and_target():
    emodb, tess = plots.plot_left_out(LEFT_OUT, targets={"tess": 0.55})
    assert [place.get_title() for place in (emodb, tess)] == ["emodb\nchance 17 %", "tess\nchance 14 %"]
    assert texts(emodb) == ["40.0", "50.0"] and texts(tess) == ["30.0", "45.0"]
    assert emodb.collections[1].get_offsets().tolist() == [[40, 0], [50, 1]]
    assert emodb.collections[0].get_segments()[1].tolist() == [[40, 1], [60, 1]]
    assert [line.get_xdata()[0] for line in tess.lines] == pytest.approx([100 / 7, 55]) and len(emodb.lines) == 1
    assert ticks(emodb.yaxis) == ["fixed", "varied"]


def test_a_corpus_that_a_model_was_not_tried_on_leaves_its_row_empty():
    emodb, tess = plots.plot_left_out(LEFT_OUT.iloc[:3])
    assert texts(emodb) == ["40.0", "50.0"] and texts(tess) == ["30.0"]
    with pytest.raises(ConfigError, match="expected at least one row"):
        plots.plot_left_out(LEFT_OUT.iloc[:0])


def test_the_map_marks_groups_by_shape_too():
    points = np.array([[0.0, 0], [1, 1], [2, 0], [3, 1]])
    ax = plots.plot_map(points, ["sad", "happy", "sad", "angry"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["happy", "sad", "angry"]
    assert [part.get_offsets().tolist() for part in ax.collections] == [[[1, 1]], [[0, 0], [2, 0]], [[3, 1]]]
    assert matplotlib.colors.to_hex(ax.collections[1].get_facecolor()[0]) == COLORS["sad"].lower()
    outlines = [part.get_paths()[0].vertices.tolist() for part in ax.collections]
    assert all(outlines[i] != outlines[j] for i in range(3) for j in range(i))
    with pytest.raises(ConfigError, match=r"\(4, 2\).*expected \(3, 2\)"):
        plots.plot_map(points, ["a", "b", "c"])
