"""live: the microphone of a browser, one answer a second, and the timeline of what was heard."""

from collections import deque
from dataclasses import replace

import anywidget
import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import pandas as pd
import traitlets
from matplotlib.figure import Figure

from sercore import plots
from sercore.audio import MAX_SR, MIN_SR
from sercore.errors import AudioError, SerError, SilenceError
from sercore.labels import EMOTIONS
from sercore.pieces import PICTURE, Pieces, half, script, wrap
from sercore.predict import TIMES

#: What the microphone records at most [s]: below the 10 MB that Jupyter takes as one message.
MAX_RECORDING_S = 120
#: Live, an answer is given every so many seconds, the last so many are shown, and the verdict is the mean of so many.
LIVE_HOP_S, LIVE_WINDOWS, SMOOTHED = 1.0, 60, 3


class Microphone(anywidget.AnyWidget):
    """Record (`recording`: a WAV file of 16 kHz, mono, 16 bit, at most `max_s` long), or listen live.

    Without a browser, set `recording` or call `listen`.
    """

    _esm = script("microphone")
    words = traitlets.Dict().tag(sync=True)
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

    def __init__(self, pieces: Pieces):
        self._pieces = pieces
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
        self._verdict.value, self._bars.value = self._pieces.html.live(shown), self._pieces.html.bars(shown)
        self._picture.value = timeline_picture(self.heard, self._pieces, self._pieces.say("card.live_timeline"))
        self.layout.display = ""

    def _smoothed(self, prediction):
        """Mean of the last answers, so that one word does not flicker through five emotions; silence ends it."""
        if prediction is None:
            return self._recent.clear()
        self._recent.append(list(prediction.probabilities.values()))
        means = dict(zip(prediction.probabilities, np.mean(self._recent, axis=0).tolist(), strict=True))
        label = max(means, key=means.get)
        return replace(prediction, label=label, confidence=means[label], probabilities=means)


@mpl.rc_context(PICTURE)
def timeline_picture(table: pd.DataFrame, pieces: Pieces, title: str) -> str:
    """Draw a timeline as an image with its words."""
    # A Figure of its own: pyplot would keep it, and a notebook would show it a second time.
    ax = plots.plot_timeline(table, ax=Figure(figsize=(4.4, 2.6), layout="constrained").subplots())
    ax.set(xlabel=pieces.say("card.seconds"), ylabel="")
    ax.set_yticks(ax.get_yticks(), [pieces.emotion(emotion) for emotion in EMOTIONS[::-1]])
    for text in ax.texts:
        text.set_text(pieces.emotion(text.get_text()))
    return pieces.img(ax.figure, f"{title}: {in_words(runs(table), pieces)}")


def runs(table: pd.DataFrame) -> list[tuple[float, float, str]]:
    """List from when to when [s] each emotion, or silence, was heard; where windows overlap, their centres divide."""
    centres = table[["start_s", "end_s"]].mean(axis=1).to_numpy()
    edges = [table["start_s"].iloc[0], *(centres[1:] + centres[:-1]) / 2, table["end_s"].iloc[-1]]
    same = table.groupby((table["label"] != table["label"].shift()).cumsum().to_numpy())
    parts = [(indices[0], indices[-1] + 1) for indices in same.indices.values()]
    return [(float(edges[first]), float(edges[end]), table["label"].iloc[first]) for first, end in parts]


def in_words(parts: list[tuple[float, float, str]], pieces: Pieces) -> str:
    """Say what `runs` found; of a long recording, how it begins."""
    said = [pieces.say("card.until", emotion=pieces.emotion(label), seconds=f"{end:.0f}") for _, end, label in parts]
    return ", ".join(said[:8]) + (f" {pieces.say('card.more', n=len(said) - 8)}" if len(said) > 8 else "")
