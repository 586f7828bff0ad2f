"""plots: what the figures say: numbers, labels, marks, files."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from sercore import plots
from sercore.errors import ConfigError
from sercore.explain import Explanation
from sercore.labels import COLORS, EMOTIONS

pytestmark = pytest.mark.usefixtures("style")


def texts(ax):
    return [text.get_text() for text in ax.texts]


def ticks(axis):
    return [text.get_text() for text in axis.get_ticklabels()]


def places(collection):
    return np.ma.filled(collection.get_offsets(), np.nan).tolist()


CLIPS = pd.DataFrame(
    {
        "emotion": ["angry", "neutral", "angry", "sad"],
        "sex": ["male", "female", pd.NA, "male"],
        "duration_s": [3.0, 3.5, np.nan, 4.0],
    }
)
FOLDS = pd.DataFrame(
    {
        "protocol": ["speaker_5fold"] * 2 + ["random_5fold"] * 2,
        "fold": [0, 1, 0, 1],
        "uar": [0.5, 0.6, 0.8, 0.8],
        "accuracy": [0.5, 0.7, 0.9, 0.9],
    }
)


def timeline():
    nothing = dict.fromkeys(EMOTIONS, 0.0)
    windows = [
        ("angry", nothing | {"angry": 0.9}),
        ("silence", dict.fromkeys(EMOTIONS)),
        ("sad", nothing | {"sad": 1.0}),
    ]
    rows = [{"start_s": 3.0 * k, "end_s": 3.0 * k + 3, "label": label} | p for k, (label, p) in enumerate(windows)]
    return pd.DataFrame(rows)


def test_style_is_slide_ready_and_idempotent():
    once = dict(matplotlib.rcParams)
    plots.use_style()
    assert dict(matplotlib.rcParams) == once
    ax = plots.plot_counts(CLIPS)
    assert ax.figure.get_size_inches() == pytest.approx([10, 10 * 9 / 16])
    assert {ax.xaxis.label.get_size(), ax.get_xticklabels()[0].get_size(), ax.texts[0].get_size()} == {16}


def test_counts_writes_each_number_in_the_emotion_colours_and_hatches_parts():
    ax = plots.plot_counts(CLIPS)
    assert ticks(ax.xaxis) == ["neutral", "sad", "angry"] and texts(ax) == ["1", "1", "2"]
    assert [to_hex(bar.get_facecolor()).upper() for bar in ax.patches] == [COLORS[e] for e in ticks(ax.xaxis)]
    ax = plots.plot_counts(CLIPS, hue="sex")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["female", "male", "not stated"]
    assert len(ax.patches) == 9 and len({bar.get_hatch() for bar in ax.patches}) == 3
    assert texts(ax) == ["1", "0", "0", "0", "1", "1", "0", "0", "1"]


def test_distribution_names_emotions_and_unit():
    ax = plots.plot_distribution(CLIPS, value="duration_s", label="Duration (s)")
    assert ticks(ax.yaxis) == ["neutral", "sad", "angry"] and ax.get_xlabel() == "Duration (s)"


def test_waveform_keeps_a_single_click_of_a_long_recording():
    y = np.zeros(160_000)
    y[81_234] = 0.9
    ax = plots.plot_waveform(y, sr=16_000)
    outline = ax.collections[0].get_paths()[0].vertices
    assert outline[:, 1].max() == pytest.approx(0.9) and ax.get_xlim() == (0, 10)
    assert outline[outline[:, 1].argmax(), 0] == pytest.approx(81_234 / 16_000, abs=0.01)


@pytest.mark.parametrize(
    ("y_axis", "n_rows", "ylabel", "unit"),
    [
        ("mel", 64, "Frequency (Hz)", "Level (dB)"),
        ("linear", 513, "Frequency (Hz)", "Level (dB)"),
        ("mfcc", 40, "Coefficient (number)", "Coefficient (dB)"),
        ("chroma", 12, "Pitch class", "Relative energy (0 to 1)"),
    ],
)
def test_spectrogram_has_units_and_a_rasterised_mesh(y_axis, n_rows, ylabel, unit):
    S_db = np.linspace(0, 1, n_rows * 63).reshape(n_rows, 63)
    ax = plots.plot_spectrogram(S_db, sr=16_000, hop_length=256, y_axis=y_axis)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.figure.axes[1].get_ylabel()) == ("Time (s)", ylabel, unit)
    assert ax.collections[0].get_rasterized() and ax.get_xlim()[1] == pytest.approx(1.0, abs=0.02)


def test_spectrogram_grid_shares_time_and_colours():
    named = {"short": np.full((64, 10), -40.0), "long": np.full((64, 30), -10.0), "none": None}
    axes = plots.plot_spectrogram_grid(named, shape=(1, 4), sr=16_000, hop_length=1_600)
    assert [len(ax.collections) for ax in axes] == [1, 1, 0, 0]
    assert [ax.get_xlim() for ax in axes[:2]] == [(0, 3), (0, 3)]
    assert {ax.collections[0].get_clim() for ax in axes[:2]} == {(-40, -10)}
    with pytest.raises(ConfigError, match="number of spectrograms 3"):
        plots.plot_spectrogram_grid(dict.fromkeys("abc", np.ones((2, 2))), shape=(1, 2), sr=16_000, hop_length=256)


def test_confusion_gives_per_cent_counts_and_a_dash_for_no_clips():
    counts = np.zeros((8, 8), int)
    counts[0, :2] = 3, 1
    ax = plots.plot_confusion(counts)
    cells = np.array(texts(ax)).reshape(8, 8)
    assert cells[0, :3].tolist() == ["75 %\n3", "25 %\n1", "0 %\n0"] and set(cells[1]) == {"–"}
    assert ax.get_xlabel() == "Predicted emotion" and ax.get_ylabel().startswith("True emotion")
    assert ticks(ax.yaxis) == list(EMOTIONS) and ax.figure.get_figwidth() == ax.figure.get_figheight()


@pytest.mark.parametrize("counts", [np.ones((8, 7)), -np.ones((8, 8)), np.full((8, 8), np.nan), np.ones(8)])
def test_confusion_refuses_what_is_no_count_matrix(counts):
    with pytest.raises(ConfigError, match="expected"):
        plots.plot_confusion(counts)


def test_per_class_draws_three_hatched_bars_an_emotion():
    table = pd.DataFrame({"emotion": EMOTIONS, "recall": 0.5, "precision": 0.25, "f1": 1 / 3})
    ax = plots.plot_per_class(table)
    assert len(ax.patches) == 24 and len({bar.get_hatch() for bar in ax.patches}) == 3
    assert {round(bar.get_height(), 1) for bar in ax.patches} == {50, 25, 33.3}


def test_scores_by_group_sorts_and_labels_chance():
    table = pd.DataFrame({"sex": ["female", "male"], "uar": [0.7, 0.6], "low": [0.65, 0.5], "high": [0.75, 0.7]})
    ax = plots.plot_scores_by_group(table, group="sex")
    assert ticks(ax.yaxis) == ["male", "female"] and texts(ax) == ["chance 12.5 %"]
    assert [segment[:, 0].round(6).tolist() for segment in ax.collections[0].get_segments()] == [[50, 70], [65, 75]]
    bare = plots.plot_scores_by_group(table[["sex", "uar"]], group="sex", chance=None)
    assert len(bare.collections) == 1 and not texts(bare)


def test_reliability_leaves_empty_bins_out():
    table = pd.DataFrame({"confidence": [0.1, 0.5, 0.9], "accuracy": [np.nan, 0.4, 0.8], "n": [0, 3, 9]})
    ax = plots.plot_reliability(table, ece=0.053)
    assert {"ECE 5.3 %\nlargest: 9 clips", "perfect"} == set(texts(ax))
    assert ax.lines[1].get_ydata() == pytest.approx([40, 80])
    few, many = ax.collections[0].get_sizes()
    assert (few - 20) / (many - 20) == pytest.approx(3 / 9)


def test_leak_names_the_random_protocol_leaky():
    ax = plots.plot_leak(FOLDS)
    assert ticks(ax.yaxis) == ["Known voices (leaky)", "Unseen voices"]
    assert texts(ax) == ["UAR 80.0 ± 0.0 %", "Accuracy 90.0 ± 0.0 %", "UAR 55.0 ± 7.1 %", "Accuracy 60.0 ± 14.1 %"]
    assert texts(plots.plot_leak(FOLDS[:1])) == ["UAR 50.0 %", "Accuracy 50.0 %"]


def test_probabilities_mark_the_prediction_without_colour():
    ax = plots.plot_probabilities(dict.fromkeys(EMOTIONS, 0.05) | {"sad": 0.65})
    assert ticks(ax.yaxis)[3] == "▶ sad" and sum("▶" in label for label in ticks(ax.yaxis)) == 1
    assert texts(ax)[3] == "65 %" and ax.texts[3].get_fontweight() == "bold"
    with pytest.raises(ConfigError, match="hapy"):
        plots.plot_probabilities({"hapy": 1.0})


def test_timeline_writes_the_labels_and_hatches_silence_on_the_axes_it_is_given():
    given = plt.figure().add_subplot()
    ax = plots.plot_timeline(timeline(), ax=given)
    assert ax is given and texts(ax) == ["angry", "silence", "sad"] and ticks(ax.yaxis) == list(EMOTIONS[::-1])
    hatched = [patch for patch in ax.patches if patch.get_hatch()]
    assert len(hatched) == 1 and hatched[0].get_x() == pytest.approx(3) and hatched[0].get_width() == pytest.approx(3)


def explanation(weights, n_frames=50):
    """What spoke for "sad" in a clip of 64 bands that gets louder; 16 ms a frame."""
    S_db = np.linspace(-80, -20, 64 * n_frames).reshape(64, n_frames)
    return Explanation("sad", S_db, np.asarray(weights, dtype=np.float32), 0.016)


def test_explanation_hatches_and_colours_what_spoke_for_the_emotion():
    weights = np.zeros((64, 50))
    weights[28:34, 10:20], weights[28:34, 30:40] = 0.3, -0.3
    ax = plots.plot_explanation(explanation(weights), share=0.02)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Time (s)", "Frequency (Hz)")
    assert [other.get_ylabel() for other in ax.figure.axes] == ["Frequency (Hz)", "Spoke for sad (1: most)"]
    grey, over, hatch, outline = ax.collections
    assert np.ptp(grey.cmap([0.0, 0.5, 1.0])[:, :3], axis=1) == pytest.approx(0)
    shown = over.get_array().reshape(64, 50)
    assert shown[30, 15] == pytest.approx(1, abs=0.1) and shown[:, 28:].max() == 0
    assert over.cmap(0.0)[3] == 0 and over.cmap(1.0)[3] == 1
    assert hatch.hatches == ["//"] and hatch.get_paths() and outline.get_paths()
    (left, low), (right, high) = outline.get_datalim(ax.transData).get_points()
    assert 0.13 < left < 0.19 < 0.29 < right < 0.35  # frames 10 to 19
    assert 1_350 < low < 1_500 and 1_850 < high < 2_000  # bands 28 to 33


def test_explanation_without_anything_that_spoke_for_it_stays_grey():
    for weights in (np.zeros((64, 50)), np.full((64, 50), -0.1)):
        ax = plots.plot_explanation(explanation(weights))
        assert len(ax.collections) == 2 and ax.collections[1].get_array().max() == 0
    assert plots.plot_explanation(explanation(np.ones((64, 1)), n_frames=1)).get_xlabel() == "Time (s)"


@pytest.mark.parametrize(("weights", "share"), [(np.zeros((64, 49)), 0.1), (np.zeros((64, 50)), 0.0)])
def test_explanation_refuses_weights_of_another_clip_and_a_share_of_nothing(weights, share):
    with pytest.raises(ConfigError, match=rf"Bad weights .*\(64, {weights.shape[1]}\) or share {share}: expected"):
        plots.plot_explanation(explanation(weights), share=share)


@pytest.mark.parametrize(
    ("draw", "column"),
    [
        (plots.plot_counts, "emotion"),
        (plots.plot_per_class, "recall"),
        (plots.plot_reliability, "confidence"),
        (plots.plot_leak, "protocol"),
        (plots.plot_timeline, "surprised"),
    ],
)
def test_a_table_that_lacks_columns_says_so(draw, column):
    with pytest.raises(ConfigError, match=rf"\['nonsense'\].*expected.*'{column}'"):
        draw(pd.DataFrame({"nonsense": [1]}))
    assert not plt.get_fignums()


def test_an_empty_table_or_array_is_refused():
    with pytest.raises(ConfigError, match="0 rows"):
        plots.plot_counts(CLIPS[:0])
    with pytest.raises(ConfigError, match=r"shape \(0,\)"):
        plots.plot_waveform([], sr=16_000)
    with pytest.raises(ConfigError, match="'bark'"):
        plots.plot_spectrogram(np.ones((4, 4)), sr=16_000, hop_length=256, y_axis="bark")


def test_save_figure_writes_both_files_with_the_same_bytes_each_time(tmp_path):
    saved = []
    for _ in range(2):
        ax = plots.plot_counts(CLIPS, hue="sex")
        inset = ax.figure.add_axes((0.7, 0.5, 0.2, 0.2))
        plots.plot_spectrogram(np.eye(64), sr=16_000, hop_length=256, ax=inset, colorbar=False)
        path = plots.save_figure(ax.figure, "01_counts", synthetic=False)
        saved.append((path.read_bytes(), path.with_suffix(".svg").read_bytes()))
    assert path == tmp_path / "figures" / "01_counts.png" and saved[0] == saved[1]
    svg = saved[0][1].decode()
    assert "Number of clips</text>" in svg and "dc:date" not in svg and plots.SYNTHETIC not in svg
    assert plt.imread(path).shape[:2] == (1687, 3000)
    assert sorted(file.name for file in path.parent.iterdir()) == ["01_counts.png", "01_counts.svg"]


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_save_figure_marks_synthetic_speech_once(profile, monkeypatch):
    monkeypatch.setenv("SERCORE_PROFILE", profile)
    figure = plots.plot_counts(CLIPS).figure
    for _ in range(2):
        plots.save_figure(figure, "01_counts")
    assert [text.get_text() for text in figure.texts] == [plots.SYNTHETIC] * (profile == "smoke")


@pytest.mark.parametrize("name", ["confusion", "5_confusion", "05-confusion", "05_x\n", "../05_x", "٠٥_x", None])
def test_save_figure_refuses_other_names(name, tmp_path):
    with pytest.raises(ConfigError, match="05_confusion"):
        plots.save_figure(plt.figure(), name)
    assert not (tmp_path / "figures").exists()
