"""card: the player of a recording, drawn by the browser; what a visitor asks and says of it; its picture without a browser."""

import io
from numbers import Real

import anywidget
import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import soundfile as sf
import traitlets
from matplotlib.figure import Figure

from sercore import plots
from sercore.errors import AudioError
from sercore.explain import explain
from sercore.features import log_mel, mel_filters
from sercore.labels import COLORS, EMOTIONS
from sercore.live import in_words, runs, timeline_picture
from sercore.pieces import PICTURE, Pieces, script
from sercore.predict import MAX_CLIP_S, Prediction, Predictor

#: A longer recording [s] gets a timeline, of so many windows at most.
TIMELINE_S, MAX_WINDOWS = 5.0, 120
#: So many columns are drawn at most; a shorter part than this [s] is not asked about.
MAX_COLUMNS, MIN_PART_S = 1200, 0.2
#: Where the frequency axis has its marks [Hz].
MARKS_HZ = (500, 1000, 2000, 4000)


class Player(anywidget.AnyWidget):
    """Waveform, spectrogram and timeline with one playhead; the browser draws them from small numbers.

    `told` is the emotion that it was, as the visitor says, or "". `answer` has what is said about a part.
    """

    _esm = script("player")
    words, about = traitlets.Dict().tag(sync=True), traitlets.Dict().tag(sync=True)
    # Bytes: FLAC; for each column the lowest and highest sample, int8; n_mels rows of levels, and of what the network
    # listened to, uint8, the lowest pitch first.
    sound, envelope = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)
    levels, shares = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)
    timeline, spoken = traitlets.List().tag(sync=True), traitlets.Unicode().tag(sync=True)
    told = traitlets.Enum(("", *EMOTIONS), "").tag(sync=True)

    def __init__(self, pieces: Pieces, predictor: Predictor, name: str, y: np.ndarray, prediction: Prediction):
        config, file = predictor.config, io.BytesIO()
        # What the network heard: every browser plays it, unlike AIFF, and it is never large.
        sf.write(file, y, config.sr, format="FLAC")
        # Here as well, for the browser can change what is synchronised.
        self._pieces, self._predictor, self._name, self._label = pieces, predictor, name, prediction.label
        self._sound, self._duration_s, self.sr = file.getvalue(), len(y) / config.sr, config.sr
        self._table = self._explanation = None
        self.answer = widgets.HTML()
        S_db = log_mel(y, sr=config.sr, config=config)
        super().__init__(
            words=pieces.words["player"],
            sound=self._sound,
            envelope=_envelope(y).tobytes(),
            levels=_bytes(_columns((S_db - S_db.min()) / max(np.ptp(S_db), 1.0))),
            about=self._about(prediction, *S_db.shape),
        )
        self.on_msg(self._receive)

    @property
    def n_bytes(self) -> int:
        """The sound, and what the network listened to: most of what a card holds."""
        kept = self._explanation
        return len(self._sound) + (kept.S_db.nbytes + kept.weights.nbytes if kept else 0)

    @property
    def is_long(self) -> bool:
        """Whether it gets a timeline."""
        return self._duration_s > TIMELINE_S

    @property
    def is_explicable(self) -> bool:
        """Whether it can be shown what the network listened to."""
        return self._duration_s <= MAX_CLIP_S and self._predictor.model.kind == "log_mel"

    def load(self) -> np.ndarray:
        """Give the waveform (n_samples,) at the rate of the network."""
        return sf.read(io.BytesIO(self._sound), dtype="float32")[0]

    def follow(self):
        """Compute the timeline, and show it."""
        hop_s = max(1.0, self._duration_s / MAX_WINDOWS)
        self._table = self._predictor.timeline((self.load(), self.sr), hop_s=hop_s)
        parts = runs(self._table)
        title = self._pieces.say("card.timeline", name=self._name)
        self.spoken, self.timeline = f"{title}: {in_words(parts, self._pieces)}", [list(part) for part in parts]

    def explain(self):
        """Compute what the network listened to, for the visitor to switch on."""
        y, config = self.load(), self._predictor.config
        explanation = explain(self._predictor, (y, self.sr), emotion=self._label)
        self._explanation = explanation.over_whole(y, config)
        self.shares = _bytes(_columns(self._explanation.shares))

    def ask(self, start_s: float, end_s: float) -> Prediction:
        """Ask the network of this card about a part alone; AudioError if the part cannot be used."""
        times = (start_s, end_s)
        known = all(isinstance(time, Real) and not isinstance(time, bool) for time in times)
        duration = self._pieces.number(self._duration_s)
        if not (known and 0 <= start_s < end_s <= self._duration_s + 0.01):
            start, end = (f"{time!r:.20}" for time in times)
            raise AudioError(self._pieces.say("card.bad_part", start=start, end=end, duration=duration))
        if end_s - start_s < MIN_PART_S:
            seconds, least = self._pieces.number(end_s - start_s, 2), self._pieces.number(MIN_PART_S)
            raise AudioError(self._pieces.say("card.short_part", seconds=seconds, least=least))
        y = self.load()[round(start_s * self.sr) : round(end_s * self.sr)]
        return self._predictor.predict((y, self.sr))

    def _receive(self, _, message, buffers):
        start_s, end_s = message.get("start"), message.get("end")
        try:
            self.answer.value = self._pieces.html.part(start_s, end_s, self.ask(start_s, end_s))
        except AudioError as error:
            self.answer.value = self._pieces.html.part(None, None, None, str(error))
        finally:
            self.send({"kind": "answered"})

    @mpl.rc_context(PICTURE)
    def picture(self) -> str:
        """Draw it for a saved notebook, as HTML that needs no browser's help."""
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
        parts = [self._pieces.img(under.figure, self._pieces.say("card.picture", name=self._name))]
        if self._explanation is not None:
            parts.append(self._pieces.html.listened(self._label))
        if self._table is not None:
            title = self._pieces.say("card.timeline", name=self._name)
            parts.append(timeline_picture(self._table, self._pieces, title))
        return "".join(parts)

    def _about(self, prediction, n_mels, n_frames):
        config, names = self._predictor.config, [self._pieces.emotion(name) for name in (*EMOTIONS, "silence")]
        peaks_hz = np.argmax(mel_filters(config), axis=1) * config.sr / config.n_fft
        return {
            "name": self._name or self._pieces.say("card.no_name"),
            "network": prediction.network,
            "verdict": self._pieces.verdict(prediction),
            "doubts": [self._pieces.doubt(doubt) for doubt in prediction.warnings if doubt.code != "unsure"],
            "label": prediction.label,
            "emotions": dict(zip((*EMOTIONS, "silence"), names, strict=True)),
            "colors": COLORS,
            "probabilities": prediction.probabilities,
            "duration_s": self._duration_s,
            "column_s": _step(n_frames) * config.hop_length / config.sr,
            "n_mels": n_mels,
            "marks": [[hz, float(np.interp(hz, peaks_hz, np.arange(n_mels))) / n_mels] for hz in MARKS_HZ],
        }


class Card(widgets.VBox):
    """What is shown of one recording, and the row of the table that belongs to it."""

    def __init__(self, row, parts, buttons, player=None):
        self.row, self.player = row, player
        super().__init__([*parts, widgets.Box(buttons).add_class("ser-actions")])
        self.add_class("ser-card")


def without_browser(widget: widgets.Widget) -> str:
    """Give what a widget shows as HTML that needs no kernel; nothing for buttons."""
    if isinstance(widget, Player):
        return widget.picture()
    if isinstance(widget, widgets.HTML):
        return widget.value
    inside = "".join(without_browser(child) for child in getattr(widget, "children", ()))
    return f'<div class="{" ".join(widget._dom_classes)}">{inside}</div>' if inside else ""


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
    return np.round(127 * both / max(np.abs(y).max(), 1e-9)).astype(np.int8)
