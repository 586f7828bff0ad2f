"""widgets: upload or speak in a notebook or web page, and see emotion, certainty and doubts of each recording.

Browser and kernel exchange bytes; nothing is written to disk. The HTML is in widgets.html, which escapes names and
messages.
"""

import base64
import io
from collections import deque
from importlib.util import find_spec
from pathlib import Path

import anywidget
import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
import pandas as pd
import soundfile as sf
import traitlets
from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from sercore import plots
from sercore.audio import MAX_SR, MIN_SR
from sercore.decoder import SUFFIXES
from sercore.errors import AudioError, ConfigError, SerError, SilenceError
from sercore.explain import explain
from sercore.features import log_mel
from sercore.labels import COLORS
from sercore.predict import COLUMNS, MAX_CLIP_S, MIN_CONFIDENCE, TIMES, Prediction, kept, prediction_row

#: Largest recording [MB] that is taken, unless `build_demo` is told otherwise.
MAX_UPLOAD_MB = 30
#: So many cards stay open, and so many MB of sound in them; older ones keep their row in the table.
MAX_CLIPS, MAX_KEPT_MB = 50, 100
#: A longer recording [s] gets a timeline, of so many windows at most.
TIMELINE_S, MAX_WINDOWS = 5.0, 120
#: What the microphone records at most [s]: below the 10 MB that Jupyter takes as one message.
MAX_RECORDING_S = 120
#: Live, an answer is given every so many seconds, and the last so many answers are shown.
LIVE_HOP_S, LIVE_WINDOWS = 1.0, 60
ACCEPT = ",".join(["audio/*", *sorted(SUFFIXES)])
#: What a visitor chooses from: the shipped networks, and what each is meant for.
CHOICE = (
    ("Any voice: for recordings of your own; trained on four corpora in three languages", "any_voice"),
    ("RAVDESS: the CNN of the notebooks, which knows RAVDESS alone", "ravdess"),
)

_HERE = Path(__file__).parent
# Small pictures with large letters: on a phone they are 300 px wide.
_PICTURE = {"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9, "lines.linewidth": 1.5}
_TEMPLATES = Environment(loader=FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PIECES = _TEMPLATES.get_template("widgets.html", globals={"COLORS": COLORS, "MIN_CONFIDENCE": MIN_CONFIDENCE}).module


class Upload(anywidget.AnyWidget):
    """A drop zone with a button, which hands each file on as ``on_file(name, content, size)``.

    A file comes in parts, since Jupyter drops a message above 10 MB without a word; one above `max_mb` stays in the
    browser, and comes with its size and no content.
    """

    _esm = _HERE / "upload.js"
    accept = traitlets.Unicode(ACCEPT).tag(sync=True)
    max_mb = traitlets.Float(MAX_UPLOAD_MB).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def __init__(self, on_file, **options):
        super().__init__(**options)
        # Here, for the browser can change what is synchronised.
        self._on_file, self._parts, self._max_bytes = on_file, bytearray(), self.max_mb * 10**6
        self.on_msg(self._receive)

    def _receive(self, _, message, buffers):
        name, size, offset = str(message["name"]), int(message["size"]), int(message["offset"])
        try:
            if offset == 0:
                self._parts = bytearray()
            # Two pages on one kernel may send at once; a file with a gap is worse than one that is refused.
            whole = offset == len(self._parts) and size <= self._max_bytes
            if whole:
                self._parts += b"".join(buffers)
            if not whole or len(self._parts) >= size:
                content, self._parts = bytes(self._parts) if whole else b"", bytearray()
                self._on_file(name, content, size)
        finally:
            self.send({"kind": "arrived"})


class Microphone(anywidget.AnyWidget):
    """Record (`recording`: a WAV file of 16 kHz, mono, 16 bit, at most `max_s` long), or listen live.

    Without a browser, set `recording` or call `listen`.
    """

    _esm = _HERE / "microphone.js"
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
        super().__init__([self._verdict, _wrap(_half(self._bars), _half(self._picture))])
        self.add_class("ser-live")

    @property
    def heard(self) -> pd.DataFrame:
        """The last `LIVE_WINDOWS` answers, with the columns of `Predictor.timeline`."""
        return pd.DataFrame(self._rows, columns=TIMES)

    def forget(self, predictor):
        """Begin anew; from now on this predictor answers."""
        self._predictor, self._rows = predictor, deque(maxlen=LIVE_WINDOWS)
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
        self._verdict.value, self._bars.value = _PIECES.live(prediction), _PIECES.bars(prediction)
        self._picture.value = _timeline(self.heard, "Emotion over time, live")
        self.layout.display = ""


class Demo(widgets.VBox):
    """Upload or speak, and see a card for each recording, and a table of all of them; made by `build_demo`.

    Without a browser: `add` takes a file, ``microphone.recording`` a recording, ``microphone.listen`` live audio.
    `clips` is the table, ``live.heard`` the live timeline, and `snapshot` what is shown.
    """

    def __init__(self, predictor, max_upload_mb, max_clips):
        for option, value in (("max_upload_mb", max_upload_mb), ("max_clips", max_clips)):
            if not value > 0:
                raise ConfigError(f"Bad {option} {value!r}: expected a number above 0.")
        self._max_mb, self._max_clips = max_upload_mb, max_clips
        self._rows, self._kept_bytes, self._n_spoken = [], deque(), 0
        self.live = Live()
        self._answer_by(predictor or kept(), predictor.checkpoint.stem if predictor else CHOICE[0][1])
        self.variant = widgets.RadioButtons(options=CHOICE, description="Model:")
        self.variant.layout.display = "none" if predictor else ""
        hint = _PIECES.hint(max_upload_mb, find_spec("av"))
        self.upload = Upload(self._add, max_mb=max_upload_mb, hint=hint).add_class("ser-half")
        self.microphone = Microphone(self.live.listen).add_class("ser-half")
        self.explanation = widgets.Checkbox(True, description="Show what the network listened to", indent=False)
        self.clear = widgets.Button(description="Clear", icon="trash")
        self.status, self.table, self.download, self.results = *(widgets.HTML() for _ in range(3)), widgets.VBox()
        self.microphone.observe(self._on_recording, names="recording")
        self.variant.observe(self._on_variant, names="value")
        self.clear.on_click(lambda _: self._forget())
        controls = widgets.HBox([self.explanation, self.clear, self.download]).add_class("ser-controls")
        top = [widgets.HTML(_PIECES.intro()), self.variant, _wrap(self.upload, self.microphone), controls]
        super().__init__([*top, self.status, self.live, self.results, self.table])
        self.add_class("ser-demo")
        self._forget()

    @property
    def clips(self) -> pd.DataFrame:
        """All recordings of the session: the columns of `Predictor.predict_files`, and the ``model`` that answered."""
        return pd.DataFrame(self._rows, columns=["file", "model", *COLUMNS[2:]])

    def add(self, name: str, content: bytes) -> Prediction | None:
        """Predict one recording and show its card, as if it had been uploaded; None if it cannot be used."""
        return self._add(str(name), bytes(content), len(content))

    def snapshot(self) -> str:
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook."""
        parts = [_html(widget) for widget in (self.status, self.live, self.results, self.table)]
        return f'{_PIECES.style()}<div class="ser-demo">{"".join(parts)}</div>'

    def _add(self, name, content, size):
        self._say(f"Listening to {name} …")
        try:
            y = self._load(name, content, size)
            prediction = self._predictor.predict((y, self._predictor.config.sr))
        except AudioError as error:
            prediction = None
            row = {"file": name, "error": str(error)}
            self._show(row, [widgets.HTML(_PIECES.complaint(name, str(error)))])
        else:
            self._answer(name, y, prediction)
        n_bad = sum(bool(row["error"]) for row in self._rows)
        self.status.value = _PIECES.summary(len(self._rows), n_bad, len(self.results.children))
        return prediction

    def _load(self, name, content, size):
        if size > self._max_mb * 10**6:
            raise AudioError(f"Too large: {name} has {size / 1e6:.0f} MB, expected at most {self._max_mb:g} MB.")
        if size > len(content):
            raise AudioError(f"Incomplete: {name} arrived with a gap. Choose it again, on one page only.")
        file = io.BytesIO(content)
        file.name = name  # what an error message calls it
        return self._predictor.load(file)

    def _answer(self, name, y, prediction):
        config = self._predictor.config
        # What the network heard: every browser plays it, unlike AIFF, and it is never large.
        sound = io.BytesIO()
        sf.write(sound, y, config.sr, format="FLAC")
        player = widgets.Audio(value=sound.getvalue(), format="flac", autoplay=False, loop=False)
        timeline, picture = widgets.HTML(), widgets.HTML(_picture(y, config, name))
        head, doubts = widgets.HTML(_PIECES.head(name, prediction)), widgets.HTML(_PIECES.doubts(prediction))
        sides = _wrap(_half(widgets.HTML(_PIECES.bars(prediction)), timeline), _half(player, picture))
        self._show(prediction_row(name, prediction), [head, sides, doubts], sound.tell())
        # The answer is there; what takes longer follows it.
        if prediction.duration_s > TIMELINE_S:
            self._say(f"Following the emotion through {name} …")
            hop_s = max(1.0, prediction.duration_s / MAX_WINDOWS)
            table = self._predictor.timeline((y, config.sr), hop_s=hop_s)
            timeline.value = _timeline(table, f"Emotion over time in {name}")
        explicable = prediction.duration_s <= MAX_CLIP_S and self._predictor.model.kind == "log_mel"
        if self.explanation.value and explicable:
            self._say(f"Looking for what spoke for {prediction.label} in {name} …")
            explanation = explain(self._predictor, (y, config.sr), emotion=prediction.label).over_whole(y, config)
            picture.value = _picture(y, config, name, explanation) + _PIECES.listened(prediction.label)

    def _show(self, row, card, n_bytes=0):
        self._rows.append(row | {"model": self._model})
        cards = [widgets.VBox(card).add_class("ser-card"), *self.results.children]
        self._kept_bytes.appendleft(n_bytes)
        while len(cards) > 1 and (len(cards) > self._max_clips or sum(self._kept_bytes) > MAX_KEPT_MB * 10**6):
            _close(cards.pop())
            self._kept_bytes.pop()
        self.results.children = cards
        self.table.value = _PIECES.table(self._rows)
        self.download.value = _PIECES.csv_link(_base64(self.clips.to_csv(index=False).encode()))

    def _answer_by(self, predictor, model):
        self._predictor, self._model = predictor, model
        self.live.forget(predictor)

    def _on_variant(self, change):
        self._answer_by(kept(change["new"]), change["new"])
        self._say(f"From now on {change['new']} answers.")

    def _on_recording(self, change):
        if content := change["new"]:
            self._n_spoken += 1
            self.add(f"microphone-{self._n_spoken}.wav", content)
            self.microphone.recording = b""  # so that the same bytes can come again

    def _forget(self):
        for card in self.results.children:
            _close(card)
        self.live.forget(self._predictor)
        self._kept_bytes.clear()
        self._rows, self._n_spoken, self.results.children = [], 0, ()
        self.table.value = self.download.value = ""
        self.microphone.send({"kind": "clear"})
        self._say("No recording yet.")

    def _say(self, text):
        self.status.value = _PIECES.status(text)


def build_demo(predictor=None, *, max_upload_mb: float = MAX_UPLOAD_MB, max_clips: int = MAX_CLIPS) -> Demo:
    """Build the demo; display it as the last expression of a cell.

    Parameters
    ----------
    predictor : Predictor, optional
        Default: the shipped ones, for the visitor to choose from.
    max_upload_mb : float > 0 [MB]
        A larger recording is refused.
    max_clips : int > 0
        So many cards stay open, fewer if they hold more than 100 MB of sound; the table keeps all.

    Returns
    -------
    demo : Demo
        Also drivable without a browser.

    Raises
    ------
    ConfigError
        If the shipped weights are missing, or a limit is not above 0.

    Examples
    --------
    >>> demo = build_demo()
    >>> demo.add("clip.wav", Path("clip.wav").read_bytes()).label  # doctest: +SKIP
    'happy'
    """
    return Demo(predictor, max_upload_mb, max_clips)


def _half(*children):
    return widgets.VBox(children).add_class("ser-half")


def _wrap(*children):
    return widgets.Box(children).add_class("ser-wrap")


def _html(widget):
    if isinstance(widget, widgets.HTML):
        return widget.value
    inside = "".join(_html(child) for child in getattr(widget, "children", ()))
    return f'<div class="{" ".join(widget._dom_classes)}">{inside}</div>' if inside else ""


def _close(widget):
    for child in getattr(widget, "children", ()):
        _close(child)
    # ipywidgets leaves layout and style behind, in the kernel and in the page.
    for part in filter(None, (widget.layout, getattr(widget, "style", None), widget)):
        part.close()


@mpl.rc_context(_PICTURE)
def _picture(y, config, name, explanation=None):
    """Draw waveform and log-mel spectrogram, and what the network listened to over it."""
    # A Figure of its own: pyplot would keep it, and a notebook would show it a second time.
    over, under = Figure((4.4, 3.4), layout="constrained").subplots(2, sharex=True, height_ratios=(1, 1.8))
    plots.plot_waveform(y, sr=config.sr, ax=over).set(xlabel="", ylabel="Amplitude")
    mel = {"sr": config.sr, "fmin": config.fmin_hz, "fmax": config.fmax_hz, "ax": under}
    if explanation is None:
        S_db = log_mel(y, sr=config.sr, config=config)
        step = -(-S_db.shape[1] // 2000)  # no more frames than that, however long the recording
        plots.plot_spectrogram(S_db[:, ::step], hop_length=config.hop_length * step, colorbar=False, **mel)
    else:
        plots.plot_explanation(explanation, **mel)
        under.collections[-1].set(linewidth=1)  # in a picture as small as this
        under.figure.axes[-1].set_ylabel("1: spoke most")
    under.set(ylabel="Mel (Hz)", xlim=(0, len(y) / config.sr), title="")
    return _img(under.figure, f"Waveform and log-mel spectrogram of {name}")


@mpl.rc_context(_PICTURE)
def _timeline(table, title):
    figure = Figure(figsize=(4.4, 2.6), layout="constrained")
    plots.plot_timeline(table, ax=figure.subplots()).set_ylabel("")
    runs = table.groupby((table["label"] != table["label"].shift()).cumsum())
    ends = [f"{run['label'].iloc[0]} until {run['end_s'].iloc[-1]:.0f} s" for _, run in runs]
    return _img(figure, f"{title}: {', '.join(ends)}")


def _img(figure, text):
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=200)
    # Not widgets.Image: that has no alternative text, and its tooltip keeps the browser from showing it.
    return _PIECES.picture(_base64(png.getvalue()), text)


def _base64(content):
    return base64.b64encode(content).decode()
