"""card: what the demo shows of one recording, as small numbers that a browser draws; what a visitor asks and says of it."""

import io
import itertools
from numbers import Real

import matplotlib as mpl
import numpy as np
import soundfile as sf
from matplotlib.figure import Figure

from sercore import plots
from sercore.errors import AudioError
from sercore.explain import explain
from sercore.features import log_mel, mel_filters
from sercore.live import runs
from sercore.pieces import Pieces
from sercore.predict import MAX_CLIP_S, Prediction, Predictor

#: A longer recording [s] gets a timeline, of so many windows at most.
TIMELINE_S, MAX_WINDOWS = 5.0, 120
#: So many columns are drawn at most; a shorter part than this [s] is not asked about.
MAX_COLUMNS, MIN_PART_S = 1200, 0.2
#: Where the frequency axis has its marks [Hz].
MARKS_HZ = (500, 1000, 2000, 4000)
# A small picture with large letters: on a phone it is 300 px wide.
PICTURE = {"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9, "lines.linewidth": 1.5}


_IDS = itertools.count()


class Card:
    """A recording that cannot be used: `row` is its line of the table, `shown` what the browser is told of it."""

    n_bytes, later, buffers = 0, (), ()

    def __init__(self, row: dict, head: str):
        self.id, self.row, self.shown = next(_IDS), row, {"head": head}

    def html(self) -> str:
        """Give it as HTML that needs no kernel."""
        return self.shown["head"]


class Answered(Card):
    """A recording with its answer: the browser draws `shown` and `buffers`; `later` names what can follow.

    Buffers: FLAC; for each column the lowest and the highest sample, int8; n_mels rows of levels, and of what the network
    listened to, uint8, the lowest pitch first.
    """

    def __init__(self, pieces: Pieces, row: dict, predictor: Predictor, y: np.ndarray, prediction: Prediction):
        config, sound, html = predictor.config, io.BytesIO(), pieces.html
        # What the network heard: every browser plays it, unlike AIFF, and it is never large.
        sf.write(sound, y, config.sr, format="FLAC")
        super().__init__(row, html.head(row["file"], prediction))
        self._pieces, self._predictor, self._explanation = pieces, predictor, None
        self._duration_s, self._sr = len(y) / config.sr, config.sr
        S_db = log_mel(y, sr=config.sr, config=config)
        levels = _bytes(_columns((S_db - S_db.min()) / max(np.ptp(S_db), 1.0)))
        self.buffers = [sound.getvalue(), _envelope(y), levels, b""]
        self.shown |= {"bars": html.bars(prediction), "about": self._about(prediction, *S_db.shape)}
        self.shown |= {"other": "", "part": "", "timeline": [], "spoken": ""}
        # The answer is there; what takes longer follows when all of a queue is answered.
        self.later = ("follow",) if self._duration_s > TIMELINE_S else ()
        if self._duration_s <= MAX_CLIP_S and predictor.model.kind == "log_mel":
            self.later += ("explain",)

    @property
    def n_bytes(self) -> int:
        """The sound, and what the network listened to: most of what a card holds."""
        kept = self._explanation
        return len(self.buffers[0]) + (kept.S_db.nbytes + kept.weights.nbytes if kept else 0)

    def load(self) -> np.ndarray:
        """Give the waveform (n_samples,) at the rate of the network."""
        return sf.read(io.BytesIO(self.buffers[0]), dtype="float32")[0]

    def follow(self):
        """Compute the timeline."""
        hop_s = max(1.0, self._duration_s / MAX_WINDOWS)
        parts = runs(self._predictor.timeline((self.load(), self._sr), hop_s=hop_s))
        title = self._pieces.say("card.timeline", name=self.row["file"])
        self.shown |= {"timeline": [list(part) for part in parts], "spoken": self._pieces.heard(parts, title)}

    def explain(self):
        """Compute what the network listened to."""
        explanation = explain(self._predictor, (y := self.load(), self._sr), emotion=self.row["label"])
        self._explanation = explanation.over_whole(y, self._predictor.config)
        self.buffers[3] = _bytes(_columns(self._explanation.shares))

    def ask_part(self, start_s: float, end_s: float):
        """Ask the network of this card about a part alone, and show its answer, or why there is none."""
        try:
            self.shown["part"] = self._pieces.html.part(start_s, end_s, self._predict_part(start_s, end_s))
        except AudioError as error:
            self.shown["part"] = self._pieces.html.part(None, None, None, str(error))

    def ask_other(self, predictor: Predictor):
        """Show what another network answers."""
        self.shown["other"] = self._pieces.html.other(predictor.predict((self.load(), self._sr)))

    def _predict_part(self, start_s, end_s):
        times = (start_s, end_s)
        known = all(isinstance(time, Real) and not isinstance(time, bool) for time in times)
        duration = self._pieces.number(self._duration_s)
        if not (known and 0 <= start_s < end_s <= self._duration_s + 0.01):
            start, end = (f"{time!r:.20}" for time in times)
            raise AudioError(self._pieces.say("card.bad_part", start=start, end=end, duration=duration))
        if end_s - start_s < MIN_PART_S:
            seconds, least = self._pieces.number(end_s - start_s, 2), self._pieces.number(MIN_PART_S)
            raise AudioError(self._pieces.say("card.short_part", seconds=seconds, least=least))
        y = self.load()[round(start_s * self._sr) : round(end_s * self._sr)]
        return self._predictor.predict((y, self._sr))

    def html(self) -> str:
        """Give it as HTML that needs no kernel, with a still picture in place of the player."""
        return self._pieces.html.still(self.shown, self._picture(), self._explanation and self.row["label"])

    @mpl.rc_context(PICTURE)
    def _picture(self):
        y, config = self.load(), self._predictor.config
        # A Figure of its own: pyplot would keep it, and a notebook would show it a second time.
        over, under = Figure((4.4, 3.4), layout="constrained").subplots(2, sharex=True, height_ratios=(1, 1.8))
        plots.plot_waveform(y, sr=config.sr, ax=over).set(xlabel="", ylabel="Amplitude")
        mel = {"sr": config.sr, "fmin": config.fmin_hz, "fmax": config.fmax_hz, "ax": under}
        if self._explanation is None:
            S_db = log_mel(y, sr=config.sr, config=config)
            step = -(-S_db.shape[1] // 2000)  # no more frames than that, however long the recording
            plots.plot_spectrogram(S_db[:, ::step], hop_length=config.hop_length * step, colorbar=False, **mel)
        else:
            plots.plot_explanation(self._explanation, **mel)
            under.collections[-1].set(linewidth=1)  # in a picture as small as this
            under.figure.axes[-1].set_ylabel("1: spoke most")
        under.set(xlabel=self._pieces.say("card.seconds"), ylabel="Mel (Hz)", xlim=(0, len(y) / config.sr), title="")
        return self._pieces.img(under.figure, self._pieces.say("card.picture", name=self.row["file"]))

    def _about(self, prediction, n_mels, n_frames):
        config = self._predictor.config
        peaks_hz = np.argmax(mel_filters(config), axis=1) * config.sr / config.n_fft
        return {
            "name": self.row["file"] or self._pieces.say("card.no_name"),
            "network": prediction.network,
            "verdict": self._pieces.verdict(prediction),
            "doubts": [self._pieces.doubt(doubt) for doubt in prediction.warnings if doubt.code != "unsure"],
            "label": prediction.label,
            "probabilities": prediction.probabilities,
            "duration_s": self._duration_s,
            "column_s": _step(n_frames) * config.hop_length / config.sr,
            "n_mels": n_mels,
            "marks": [[hz, float(np.interp(hz, peaks_hz, np.arange(n_mels))) / n_mels] for hz in MARKS_HZ],
        }


def _step(n_frames):
    return -(-n_frames // MAX_COLUMNS)


def _columns(S):
    """Keep the loudest of neighbouring frames, so that no more columns are left than are drawn."""
    n_frames = S.shape[1]
    return np.maximum.reduceat(S, np.arange(0, n_frames, _step(n_frames)), axis=1)


def _bytes(shares):
    return np.round(255 * shares).astype(np.uint8).tobytes()


def _envelope(y):
    """Lowest and highest sample of each column, in shares of the loudest [shape=(2, n)]."""
    starts = np.linspace(0, len(y), min(MAX_COLUMNS, len(y)), endpoint=False).astype(int)
    both = np.stack([np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)])
    return np.round(127 * both / max(np.abs(y).max(), 1e-9)).astype(np.int8).tobytes()
