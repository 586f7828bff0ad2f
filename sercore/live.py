"""live: what a microphone sends once a second, an answer to each, and the timeline of what was heard."""

from collections import deque
from dataclasses import replace

import numpy as np
import pandas as pd

from sercore.audio import MAX_SR, MIN_SR
from sercore.errors import AudioError, SilenceError
from sercore.pieces import Pieces
from sercore.predict import TIMES

#: An answer is given every so many seconds, the last so many are shown, and the verdict is the mean of so many.
LIVE_HOP_S, LIVE_WINDOWS, SMOOTHED = 1.0, 60, 3


class Live:
    """What is heard live: the last window of samples and the last answers; nothing older is kept. `html` shows it."""

    def __init__(self, pieces: Pieces):
        self._pieces = pieces

    @property
    def heard(self) -> pd.DataFrame:
        """The last `LIVE_WINDOWS` answers, with the columns of `Predictor.timeline`."""
        return pd.DataFrame(self._rows, columns=TIMES)

    def forget(self, predictor):
        """Begin anew; from now on this predictor answers."""
        self._predictor, self._rows, self._recent = predictor, deque(maxlen=LIVE_WINDOWS), deque(maxlen=SMOOTHED)
        self._y, self._sr = np.empty(0, np.float32), None
        self._end_s = self._asked_s = 0.0
        self.html = ""

    def listen(self, samples: np.ndarray, *, sr: int, anew: bool = False, skipped_s: float = 0.0):
        """Take the next piece (n_samples,) of sound, and answer if a second has gone by; see `Demo.listen`."""
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
        parts = runs(self.heard)
        said = self._pieces.heard(parts, self._pieces.say("card.live_timeline"))
        self.html = self._pieces.html.live(self._smoothed(prediction), parts, said)

    def _smoothed(self, prediction):
        """Mean of the last answers, so that one word does not flicker through five emotions; silence ends it."""
        if prediction is None:
            return self._recent.clear()
        self._recent.append(list(prediction.probabilities.values()))
        means = dict(zip(prediction.probabilities, np.mean(self._recent, axis=0).tolist(), strict=True))
        label = max(means, key=means.get)
        return replace(prediction, label=label, confidence=means[label], probabilities=means)


def runs(table: pd.DataFrame) -> list[tuple[float, float, str]]:
    """List from when to when [s] each emotion, or silence, was heard; where windows overlap, their centres divide."""
    centres = table[["start_s", "end_s"]].mean(axis=1).to_numpy()
    edges = [table["start_s"].iloc[0], *(centres[1:] + centres[:-1]) / 2, table["end_s"].iloc[-1]]
    same = table.groupby((table["label"] != table["label"].shift()).cumsum().to_numpy())
    parts = [(indices[0], indices[-1] + 1) for indices in same.indices.values()]
    return [(float(edges[first]), float(edges[end]), table["label"].iloc[first]) for first, end in parts]
