"""live: the microphone of a browser, one answer a second, and the pictures and pieces of HTML that widgets shows."""

import base64
import io
from collections import deque
from dataclasses import replace
from pathlib import Path

import anywidget
import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import pandas as pd
import traitlets
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from sercore import plots
from sercore.audio import MAX_SR, MIN_SR
from sercore.errors import AudioError, SerError, SilenceError
from sercore.labels import COLORS
from sercore.predict import MIN_CONFIDENCE, TIMES

#: What the microphone records at most [s]: below the 10 MB that Jupyter takes as one message.
MAX_RECORDING_S = 120
#: Live, an answer is given every so many seconds, the last so many are shown, and the verdict is the mean of so many.
LIVE_HOP_S, LIVE_WINDOWS, SMOOTHED = 1.0, 60, 3

HERE = Path(__file__).parent
# Small pictures with large letters: on a phone they are 300 px wide.
PICTURE = {"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9, "lines.linewidth": 1.5}
_TEMPLATES = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
#: Every piece of HTML; the template escapes names and messages.
PIECES = _TEMPLATES.get_template("widgets.html", globals={"COLORS": COLORS, "MIN_CONFIDENCE": MIN_CONFIDENCE}).module


class Microphone(anywidget.AnyWidget):
    """Record (`recording`: a WAV file of 16 kHz, mono, 16 bit, at most `max_s` long), or listen live.

    Without a browser, set `recording` or call `listen`.
    """

    _esm = HERE / "microphone.js"
    # Without an echo: the browser has the bytes already.
    recording = traitlets.CBytes().tag(sync=True, echo_update=False)
    max_s = traitlets.Int(MAX_RECORDING_S).tag(sync=True)

    def __init__(self, listen, **options):
        super().__init__(**options)
        self.listen = listen
        self.on_msg(self._receive)

    def _receive(self, _, message, buffers):
        try:
            samples = np.frombuffer(buffers[0], dtype="<f4")
            self.listen(samples, sr=message["sr"], anew=message["anew"], skipped_s=message["skipped_s"])
        except SerError as error:
            self.send({"kind": "error", "text": str(error)})
        finally:
            self.send({"kind": "heard"})  # the browser sends no more before this: nothing queues up


class Live(widgets.VBox):
    """What is heard live: the last window of samples and the last answers; nothing older is kept."""

    def __init__(self):
        self._verdict, self._bars, self._picture = widgets.HTML(), widgets.HTML(), widgets.HTML()
        super().__init__([self._verdict, wrap(half(self._bars), half(self._picture))])
        self.add_class("ser-live")

    @property
    def heard(self) -> pd.DataFrame:
        """The last `LIVE_WINDOWS` answers, with the columns of `Predictor.timeline`."""
        return pd.DataFrame(self._rows, columns=TIMES)

    def forget(self, predictor):
        """Begin anew; from now on this predictor answers."""
        self._predictor, self._rows = predictor, deque(maxlen=LIVE_WINDOWS)
        self._recent = deque(maxlen=SMOOTHED)
        self._y, self._sr = np.empty(0, np.float32), None
        self._end_s = self._asked_s = 0.0
        self._verdict.value = self._bars.value = self._picture.value = ""
        self.layout.display = "none"

    def listen(self, samples: np.ndarray, *, sr: int = 16_000, anew: bool = False, skipped_s: float = 0.0):
        """Take the next piece (n_samples,) of live audio, mono, full scale ±1, and answer if a second has gone by.

        `anew` forgets what was heard before; `skipped_s` was lost before this piece, because the kernel was busy.
        Samples that cannot be used raise AudioError; silence can be used.
        """
        samples = np.asarray(samples)
        if not (samples.ndim == 1 and np.issubdtype(samples.dtype, np.floating) and np.isfinite(samples).all()):
            found = f"{samples.dtype} of shape {samples.shape}"
            raise AudioError(f"Bad live samples, {found}: expected finite floating point, mono.")
        if not MIN_SR <= sr <= MAX_SR:
            raise AudioError(f"Bad rate {sr} Hz of live audio: expected {MIN_SR} to {MAX_SR} Hz.")
        if anew:
            self.forget(self._predictor)
        if sr != self._sr or skipped_s > 0:
            self._y, self._sr = self._y[:0], sr
        window = round(self._predictor.config.window_s * sr)
        self._y = np.concatenate([self._y, samples])[-window:]
        self._end_s += skipped_s + len(samples) / sr
        if self._end_s - self._asked_s >= LIVE_HOP_S - 0.01:
            self._asked_s = self._end_s
            self._answer(self._ask())

    def _ask(self):
        try:
            prediction = self._predictor.predict((self._y, self._sr))
        except SilenceError:
            return None
        # A room that hums is no voice; without this, live would name its emotion all day.
        doubts = {doubt.code for doubt in prediction.warnings}
        return None if doubts & {"quiet", "no_speech"} else prediction

    def _answer(self, prediction):
        row = {"start_s": self._end_s - len(self._y) / self._sr, "end_s": self._end_s, "label": "silence"}
        if prediction:
            row |= {"label": prediction.label, "confidence": prediction.confidence} | prediction.probabilities
        self._rows.append(row)
        shown = self._smoothed(prediction)
        self._verdict.value, self._bars.value = PIECES.live(shown), PIECES.bars(shown)
        self._picture.value = timeline_picture(self.heard, "Emotion over time, live")
        self.layout.display = ""

    def _smoothed(self, prediction):
        """Mean of the last answers, so that one word does not flicker through five emotions; silence ends it."""
        if prediction is None:
            return self._recent.clear()
        self._recent.append(list(prediction.probabilities.values()))
        means = dict(zip(prediction.probabilities, np.mean(self._recent, axis=0).tolist(), strict=True))
        label = max(means, key=means.get)
        return replace(prediction, label=label, confidence=means[label], probabilities=means)


def half(*children) -> widgets.VBox:
    """Make one of two columns."""
    return widgets.VBox(children).add_class("ser-half")


def wrap(*children) -> widgets.Box:
    """Put columns beside each other, or below where there is no room."""
    return widgets.Box(children).add_class("ser-wrap")


@mpl.rc_context(PICTURE)
def timeline_picture(table: pd.DataFrame, title: str) -> str:
    """Draw a timeline as an image with its words."""
    figure = Figure(figsize=(4.4, 2.6), layout="constrained")
    plots.plot_timeline(table, ax=figure.subplots()).set_ylabel("")
    runs = table.groupby((table["label"] != table["label"].shift()).cumsum())
    ends = [f"{run['label'].iloc[0]} until {run['end_s'].iloc[-1]:.0f} s" for _, run in runs]
    more = f" and {len(ends) - 8} more" if len(ends) > 8 else ""
    return img(figure, f"{title}: {', '.join(ends[:8])}{more}")


def img(figure: Figure, text: str) -> str:
    """Make an image element of a figure, with an alternative text."""
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=200)
    # Not widgets.Image: that has no alternative text, and its tooltip keeps the browser from showing it.
    return PIECES.picture(base64.b64encode(png.getvalue()).decode(), text)
