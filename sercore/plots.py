"""plots: slide-ready figures in one style; every `plot_*` draws on an Axes, and only `save_figure` writes.

Every `plot_*` takes `ax=None` (None opens a new 16:9 or 1:1 figure), returns its Axes, and raises
`ConfigError` for data that lack what it draws. Scores arrive as fractions and are drawn in per cent.
"""

import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sercore import settings
from sercore.errors import ConfigError
from sercore.labels import COLORS, EMOTIONS

if TYPE_CHECKING:  # explain brings torch, for which a figure need not wait
    from sercore.explain import Explanation

WIDE, SQUARE = (10, 5.625), (10, 10)  # inches: 16:9 and 1:1
INK, PLAIN, PALE, LEAKY = "black", "#44546A", "#8C8C8C", "#D55E00"
HATCHES = ("", "//", "xx", "--", "\\\\", "||", "++", "////")
SLANTED = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
SYNTHETIC = "synthetic speech – not a result"
#: Line, mark and colour of series that are no emotions; told apart without the colour too.
SERIES = (
    ("-", "o", PLAIN),
    ("--", "s", LEAKY),
    (":", "^", "#009E73"),
    ("-.", "D", "#CC79A7"),
    ((0, (1, 3)), "v", "#661100"),
)

Where = Axes | None

# Text stays text, and element names come from a fixed salt: the same figure gives the same bytes.
_SVG = {"svg.fonttype": "none", "svg.hashsalt": "sercore", "savefig.bbox": None}
_STYLE = _SVG | dict.fromkeys(("font.size", "axes.titlesize"), 16) | {
    "font.family": "DejaVu Sans", "figure.figsize": WIDE, "figure.dpi": 72, "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.12, "figure.constrained_layout.h_pad": 0.12, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "lines.linewidth": 2.5,
    "grid.color": "#D9D9D9", "hatch.linewidth": 1.5,
    **dict.fromkeys(("axes.labelsize", "xtick.labelsize", "ytick.labelsize", "legend.fontsize"), "medium"),
}  # fmt: skip


def use_style() -> None:
    """Set the one figure style (16 pt text at 10 in wide); calling it again changes nothing."""
    mpl.rcParams.update(_STYLE)


def save_figure(fig: Figure, name: str, *, synthetic: bool | None = None) -> Path:
    """Write `settings.figures_dir()`/name.png (300 dpi) and name.svg, each whole or not at all; return the PNG's path.

    `name` is the notebook's two digits, then lower-case words: "05_confusion"; any other raises ConfigError. A figure
    of synthetic speech (by default: one of the smoke profile) is marked as such.
    """
    if not re.fullmatch(r"[0-9]{2}_[a-z0-9_]+", str(name)):
        raise ConfigError(f"Bad figure name {name!r}: expected two digits and a-z, 0-9, _, as in '05_confusion'.")
    if settings.profile() == "smoke" if synthetic is None else synthetic:
        mark_synthetic(fig)
    # A date would change the bytes at every run; 100 dpi keeps the images inside an SVG small.
    for kind, dpi, metadata in (("svg", 100, {"Date": None}), ("png", 300, None)):
        file = io.BytesIO()
        with mpl.rc_context(_SVG):
            fig.savefig(file, format=kind, dpi=dpi, metadata=metadata)
        path = settings.write_atomic(settings.figures_dir() / f"{name}.{kind}", file.getvalue())
    return path


def mark_synthetic(fig: Figure) -> None:
    """Write "synthetic speech – not a result" once in the lower right corner."""
    if SYNTHETIC not in [text.get_text() for text in fig.texts]:
        fig.text(0.99, 0.01, SYNTHETIC, ha="right", va="bottom", size=12, style="italic", color="#595959")
        if fig.get_constrained_layout():
            strip = 0.25 / fig.get_figheight()  # keeps the stamp clear of the axis labels
            fig.get_layout_engine().set(rect=(0, strip, 1, 1 - strip))


def plot_counts(clips: pd.DataFrame, *, by: str = "emotion", hue: str | None = None, ax: Where = None) -> Axes:
    """Draw the number of clips per value of the column `by`, split by hatches for the column `hue`."""
    ax = _open(ax, clips, [by, hue] if hue else [by])
    known = clips.astype(object).where(clips.notna(), "not stated")
    counts = pd.crosstab(known[by], known[hue]) if hue else known[by].value_counts().to_frame("clips")
    _draw_bars(ax, counts.loc[_in_order(counts.index), _in_order(counts.columns)])
    for bars in ax.containers:
        ax.bar_label(bars, padding=3, **({"rotation": 90, "fontsize": 12} if counts.size > 20 else {}))
    ax.margins(y=0.12)
    return _label(ax, _title(by), "Number of clips")


def plot_distribution(table: pd.DataFrame, *, value: str, label: str, ax: Where = None) -> Axes:
    """Draw the column `value` per emotion as violins with quartiles; `label` carries its unit: "Duration (s)"."""
    import seaborn as sns  # with scipy.stats it takes a second, for which other figures need not wait

    ax, order = _open(ax, table, ["emotion", value]), _in_order(table["emotion"].dropna().unique())
    sns.violinplot(data=table, x=value, y="emotion", order=order, hue="emotion", palette=COLORS, ax=ax, cut=0,
                   saturation=1, density_norm="width", width=0.85, linecolor=INK, linewidth=1.2,
                   inner_kws={"box_width": 7, "whis_width": 2}, legend=False)  # fmt: skip
    return _label(ax, label, "Emotion", grid="x")


def plot_waveform(y: np.ndarray, *, sr: int, ax: Where = None) -> Axes:
    """Draw a waveform (n_samples,) over seconds: the least and greatest sample of each 1/2000 of it."""
    y, ax = _numbers(y, 1), _open(ax)
    starts = np.arange(0, len(y), max(1, len(y) // 2000))
    low, high = np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)
    ax.fill_between(starts / sr, low, high, color=PLAIN, linewidth=0.8)
    return _label(ax, "Time (s)", "Amplitude (full scale = 1)", xlim=(0, len(y) / sr))


def plot_spectrogram(
    S_db: np.ndarray,
    *,
    sr: int,
    hop_length: int,
    y_axis: str = "mel",
    colorbar: bool = True,
    ax: Where = None,
    **options,
) -> Axes:
    """Draw a spectrogram (y_axis "mel" or "linear"), "mfcc" or "chroma" matrix, of shape (n_rows, n_frames).

    In dB; for "chroma" the relative energy of 12 pitch classes, from 0 to 1. `options` go to
    `librosa.display.specshow`: fmin, fmax (range of the mel filters, Hz), vmin, vmax (colours).
    """
    from librosa.display import specshow

    hz = ("Frequency (Hz)", "Level (dB)")
    names = {"mel": hz, "linear": hz, "mfcc": ("Coefficient (number)", "Coefficient (dB)"),
             "chroma": ("Pitch class", "Relative energy (0 to 1)")}  # fmt: skip
    if y_axis not in names:
        raise ConfigError(f"Bad y_axis {y_axis!r}: expected one of {list(names)}.")
    S_db, ax, (ylabel, unit) = _numbers(S_db, 2), _open(ax), names[y_axis]
    if mfcc := y_axis == "mfcc":  # coefficient 0 would drown the others
        limit = np.percentile(np.abs(S_db[1:] if len(S_db) > 1 else S_db), 99)
        options = {"vmin": -limit, "vmax": limit} | options
    image = specshow(S_db, sr=sr, hop_length=hop_length, x_axis="s", y_axis=None if mfcc else y_axis,
                     cmap="RdBu_r" if mfcc else "magma", rasterized=True, ax=ax, **options)  # fmt: skip
    if mfcc:
        ax.set_yticks(range(0, len(S_db), 5))
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label=unit, pad=0.02)
    return _label(ax, "Time (s)", ylabel)


def plot_spectrogram_grid(
    named: dict, *, shape: tuple = (2, 4), label: str = "Level (dB)", ax: np.ndarray | None = None, **options
) -> np.ndarray:
    """Draw spectrograms (dict of title to S_db) on one colour scale and one time axis; return the array of Axes.

    A None instead of S_db (n_rows, n_frames) leaves its place empty. `options` (sr, hop_length, fmin, …) go to
    `plot_spectrogram`; `ax` is an array of Axes of this shape.
    """
    drawn = [_numbers(S_db, 2) for S_db in named.values() if S_db is not None]
    if not drawn or len(named) > np.prod(shape):
        raise ConfigError(f"Bad number of spectrograms {len(drawn)}: expected 1 to {np.prod(shape)}.")
    ax = _open(ax, shape=shape)
    options = {"vmin": min(map(np.min, drawn)), "vmax": max(map(np.max, drawn))} | options
    longest = max(S_db.shape[1] for S_db in drawn) * options["hop_length"] / options["sr"]
    for place, title in itertools.zip_longest(np.ravel(ax), named, fillvalue=""):
        place.set_title(title)
        place.set_axis_off()
        if named.get(title) is not None:
            plot_spectrogram(named[title], **options, colorbar=False, ax=place).label_outer()
            place.set_axis_on()
            place.set_xlim(0, longest)
            place.xaxis.set_major_locator(mpl.ticker.MaxNLocator(3, integer=longest > 2))
            image = place.collections[0]
    np.ravel(ax)[0].figure.colorbar(image, ax=ax, label=label, pad=0.02)
    return ax


def plot_confusion(counts: np.ndarray, *, labels: Sequence[str] = EMOTIONS, ax: Where = None) -> Axes:
    """Draw counts (n_labels, n_labels): per cent of the true row, the count beneath, "–" in an empty row."""
    import seaborn as sns

    counts, n = _numbers(counts, 2), len(labels)
    if counts.shape != (n, n) or not (counts >= 0).all():
        raise ConfigError(f"Bad confusion counts {counts.tolist()}: expected the shape {(n, n)}, none negative.")
    totals, ax = counts.sum(axis=1)[:, None], _open(ax, size=SQUARE)
    percent = 100 * counts / np.maximum(totals, 1)
    texts = [f"{share:.0f} %\n{count:.0f}" for share, count in zip(percent.flat, counts.flat, strict=True)]
    texts = np.where(totals > 0, np.reshape(texts, (n, n)), "–")
    sns.heatmap(percent, annot=texts, fmt="", cmap="Blues", vmin=0, vmax=100, cbar=False, ax=ax)
    ax.set_xticks(ax.get_xticks(), labels, **SLANTED)
    ax.set_yticks(ax.get_yticks(), labels, rotation=0)
    return _label(ax, "Predicted emotion", "True emotion (% of its clips, number beneath)")


def plot_per_class(table: pd.DataFrame, *, ax: Where = None) -> Axes:
    """Draw the columns recall, precision and f1 per emotion (column emotion), told apart by hatches."""
    ax = _open(ax, table, ["emotion", "recall", "precision", "f1"])
    values = 100 * table.set_index("emotion")[["recall", "precision", "f1"]].astype(float)
    _draw_bars(ax, values.loc[_in_order(values.index)].rename(columns={"f1": "F1"}))
    return _label(ax, "Emotion", "Score (%)", grid="y", ylim=(0, 100))


def plot_scores_by_group(
    table: pd.DataFrame, *, group: str, value: str = "uar", chance: float | None = 1 / len(EMOTIONS), ax: Where = None
) -> Axes:
    """Draw one score per group, the best on top, with its interval and the level of chance.

    `table` has the columns `group` and `value`, and for an interval `low` and `high`. `chance` is the score of
    guessing, by default one of the emotions; None draws no line.
    """
    ax = _open(ax, table, [group, value], size=SQUARE if len(table) > 12 else WIDE)
    table, rows, top = table.sort_values(value, na_position="first"), np.arange(len(table)), len(table) - 0.4
    if {"low", "high"} <= set(table.columns):
        ax.hlines(rows, 100 * table["low"], 100 * table["high"], color=PALE, linewidth=4)
    colors = [COLORS.get(name, PLAIN) for name in table[group]]
    ax.scatter(100 * table[value], rows, s=140, color=colors, edgecolor=INK, zorder=3)
    if chance is not None:
        ax.axvline(100 * chance, color=INK, linestyle="--", linewidth=1.5)
        ax.text(100 * chance, top, f"chance {100 * chance:.3g} %", ha="center", va="bottom")
    ax.set_yticks(rows, table[group].astype(str))
    return _label(ax, f"{_title(value)} (%)", _title(group), grid="x", xlim=(0, 100), ylim=(-0.6, top))


def plot_reliability(table: pd.DataFrame, *, ece: float | None = None, ax: Where = None) -> Axes:
    """Draw how often a confidence comes true, one point per bin, as large as it has clips.

    `table` has the columns confidence and accuracy (means) and n (clips); empty bins are left out. `ece` is
    the expected calibration error to write in (Guo et al., 2017, "On calibration of modern neural networks").
    """
    ax = _open(ax, table, ["confidence", "accuracy", "n"], size=SQUARE)
    points = table.loc[table["n"] > 0, ["confidence", "accuracy", "n"]].to_numpy(float) * (100, 100, 1)
    ax.plot([0, 100], [0, 100], "--", color=PALE)
    ax.text(3, 5, "perfect", rotation=45, rotation_mode="anchor", va="bottom", color="#595959")
    ax.plot(points[:, 0], points[:, 1], color=PLAIN)
    ax.scatter(points[:, 0], points[:, 1], s=20 + 380 * points[:, 2] / points[:, 2].max(), color=PLAIN, zorder=3)
    note = f"largest: {points[:, 2].max():.0f} clips"
    ax.text(2, 98, note if ece is None else f"ECE {100 * ece:.1f} %\n{note}", va="top")
    return _label(ax, "Confidence (%)", "Accuracy (%)", xlim=(0, 100), ylim=(0, 100), aspect="equal")


def plot_leak(table: pd.DataFrame, *, ax: Where = None) -> Axes:
    """Draw uar and accuracy by protocol, a row per fold: mean ± sample sd; random protocols are called leaky."""
    ax, names = _open(ax, table, ["protocol", "fold", "uar", "accuracy"]), []
    leaky, words = table["protocol"].str.startswith("random"), {True: "Unseen voices", False: "Known voices (leaky)"}
    for row, ((honest, protocol), folds) in enumerate(table.groupby([~leaky, "protocol"])):
        names.append(protocol if honest and protocol != "speaker_5fold" else words[honest])
        color = PLAIN if honest else LEAKY
        for measure, y, marker, hatch in (("uar", row - 0.2, "o", ""), ("accuracy", row + 0.2, "D", "//")):
            mean, sd = 100 * folds[measure].mean(), 100 * folds[measure].std()  # sd of a single fold is NaN
            ax.barh(y, mean, 0.36, color=color, alpha=0.25, hatch=hatch, edgecolor="white")
            ax.errorbar(mean, y, xerr=np.nan_to_num(sd), color=INK, capsize=6)
            ax.plot(100 * folds[measure], [y] * len(folds), marker, color=color, mec="white", markersize=10)
            # Beside a short bar, inside a long one: never under the marks.
            x = 1 if mean > 50 else 100 * folds[measure].max() + 4
            ax.text(x, y, f"{_title(measure)} {mean:.1f}{'' if np.isnan(sd) else f' ± {sd:.1f}'} %", va="center")
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    return _label(ax, "Score (%), one mark per fold; bar: mean ± sd", "Test speakers", xlim=(0, 100))


def plot_probabilities(probabilities: dict[str, float], *, ax: Where = None) -> Axes:
    """Draw the probabilities (dict of emotion to a number in [0, 1]), the greatest one marked by ▶."""
    if set(probabilities) != set(EMOTIONS):
        raise ConfigError(f"Bad emotions {list(probabilities)} of probabilities: expected {list(EMOTIONS)}.")
    ax, values = _open(ax), [100 * float(probabilities[emotion]) for emotion in EMOTIONS]
    best = int(np.argmax(values))
    bars = ax.barh(range(len(EMOTIONS)), values, color=[COLORS[emotion] for emotion in EMOTIONS])
    texts = ax.bar_label(bars, [f"{value:.0f} %" for value in values], padding=5)
    ax.set_yticks(range(len(EMOTIONS)), [f"▶ {e}" if i == best else e for i, e in enumerate(EMOTIONS)])
    for text in (texts[best], ax.get_yticklabels()[best]):
        text.set_fontweight("bold")
    return _label(
        ax, "Probability (%)", "Emotion", xlim=(0, 110), ylim=(len(EMOTIONS) - 0.4, -0.6), xticks=range(0, 101, 25)
    )


def plot_timeline(table: pd.DataFrame, *, ax: Where = None) -> Axes:
    """Draw a recording: a row per emotion as high as its probability, the predicted one in full colour.

    `table` has one row per window, as `Predictor.timeline` gives it: start_s, end_s, label and a column per
    emotion. Silence is hatched. Windows that overlap are each drawn around their centre.
    """
    ax = _open(ax, table, ["start_s", "end_s", "label", *EMOTIONS])
    table = table.sort_values("start_s", ignore_index=True)
    centres = table[["start_s", "end_s"]].mean(axis=1).to_numpy()
    edges = np.r_[table["start_s"].iloc[0], (centres[1:] + centres[:-1]) / 2, table["end_s"].iloc[-1]]
    for base, emotion in enumerate(EMOTIONS[::-1]):
        top = base + 0.85 * table[emotion].to_numpy(float)
        for height, alpha in ((top, 0.35), (np.where(table["label"] == emotion, top, np.nan), 1)):
            ax.stairs(height, edges, baseline=base, fill=True, color=COLORS[emotion], alpha=alpha)
        ax.axhline(base, color=PALE, linewidth=0.8)
    inch = ax.get_window_extent().width / ax.figure.dpi / (edges[-1] - edges[0])  # inches for one second
    for _, run in table.groupby((table["label"] != table["label"].shift()).cumsum()):
        label, start, end = run["label"].iloc[0], edges[run.index[0]], edges[run.index[-1] + 1]
        if label == "silence":
            ax.axvspan(start, end, fc="#F2F2F2", ec="#BFBFBF", hatch="//", linewidth=0, zorder=0)
        if (end - start) * inch > 0.14 * len(label):  # a name wider than its span would meet the next one
            ax.text((start + end) / 2, len(EMOTIONS) + 0.05, label, ha="center", va="bottom")
    ax.set_yticks(np.arange(len(EMOTIONS)) + 0.4, EMOTIONS[::-1])
    return _label(ax, "Time (s)", "Probability (row = 100 %)", xlim=edges[[0, -1]], ylim=(0, len(EMOTIONS)))


def plot_explanation(
    explanation: "Explanation", *, sr: int = 16_000, fmin: float = 50, fmax: float = 8_000, share: float = 0.1,
    ax: Where = None,
) -> Axes:  # fmt: skip
    """Draw a clip's spectrogram in grey, and over it what spoke for the emotion, the strongest of it hatched.

    `explanation` is `sercore.explain.explain`'s; `sr`, `fmin` and `fmax` (Hz) are those of its FeatureConfig. Weights
    differ from cell to cell, so each is drawn as the mean around it (Gaussian, sd of 1 mel band and 2 frames), in
    shares of the greatest; what spoke against is left out. The `share` of the cells that spoke most is hatched.
    """
    S_db, weights = _numbers(explanation.S_db, 2), _numbers(explanation.weights, 2)
    if weights.shape != S_db.shape or not 0 < share < 1:
        raise ConfigError(f"Bad weights of shape {weights.shape} or share {share}: expected one weight for each cell, "
                          f"shape {S_db.shape}, and a share between 0 and 1.")  # fmt: skip
    hop_length = round(explanation.hop_s * sr)
    ax = plot_spectrogram(S_db, sr=sr, hop_length=hop_length, fmin=fmin, fmax=fmax, colorbar=False, ax=ax)
    grey = ax.collections[-1]
    # Black speech would hide the colours: the greys end half way.
    grey.set(cmap=mpl.colors.LinearSegmentedColormap.from_list("pale", ["white", "#7F7F7F"]))
    weights = explanation.shares
    corners = grey.get_coordinates()
    glow = mpl.colors.LinearSegmentedColormap.from_list("glow", [(LEAKY, 0), (LEAKY, 0.75), ("#6E1400", 1)])
    over = ax.pcolormesh(*np.moveaxis(corners, 2, 0), weights, cmap=glow, vmin=0, vmax=1, rasterized=True)
    if (level := np.quantile(weights, 1 - share)) > 0 and weights.shape[1] > 1:  # one frame has no outline
        x, y = np.moveaxis(corners[1:, 1:] + corners[:-1, :-1], 2, 0) / 2
        ax.contourf(x, y, weights, [level, 2], colors="none", hatches=["//"])
        ax.contour(x, y, weights, [level], colors=INK, linewidths=2)
    ax.figure.colorbar(over, ax=ax, label=f"Spoke for {explanation.emotion} (1: most)", pad=0.02)
    return ax


def _open(ax, table=None, columns=(), *, size=WIDE, shape=(1, 1)):
    if table is not None and (table.empty or not set(columns) <= set(table.columns)):
        raise ConfigError(f"Bad table of {len(table)} rows with the columns {list(table.columns)}: "
                          f"expected at least one row and the columns {list(columns)}.")  # fmt: skip
    return plt.subplots(*shape, figsize=size)[1] if ax is None else ax


def _numbers(values, ndim):
    values = np.asarray(values, dtype=float)
    if values.ndim != ndim or values.size == 0:
        raise ConfigError(f"Bad array of shape {values.shape}: expected {ndim} dimension(s), not empty.")
    return values


def _label(ax, xlabel, ylabel, *, grid=None, **limits):
    if grid:
        ax.grid(axis=grid)
    ax.set(xlabel=xlabel, ylabel=ylabel, **limits)
    return ax


def _title(column):
    return {"uar": "UAR", "macro_f1": "Macro F1"}.get(column, column.replace("_", " ").capitalize())


def _in_order(values):
    rank = {name: place for place, name in enumerate(EMOTIONS)} | {"not stated": 9}
    return sorted(values, key=lambda v: (rank.get(v, 8), str(v)))


def _draw_bars(ax, values):
    n_parts, names = values.shape[1], [str(row) for row in values.index]
    for k, part in enumerate(values):
        places = np.arange(len(values)) + (k - (n_parts - 1) / 2) * 0.86 / n_parts
        colors = [COLORS.get(part, COLORS.get(row, PLAIN)) for row in values.index]
        ax.bar(places, values[part], 0.81 / n_parts, color=colors, hatch=HATCHES[k % 8], ec="white", lw=0, label=part)
    ax.set_xticks(range(len(names)), names, **(SLANTED if len("".join(names)) > 60 else {}))
    if n_parts > 1:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=min(4, n_parts), handlelength=2.5)
