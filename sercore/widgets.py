"""widgets: upload or speak in a notebook or web page, and see emotion, certainty and doubts of each recording.

The browser and the kernel exchange bytes; nothing is written to disk. Every name and message that comes
from outside is escaped before it becomes HTML.
"""

import base64
import io
from collections import deque
from dataclasses import replace
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import anywidget
import ipywidgets as widgets
import librosa
import matplotlib as mpl
import numpy as np
import pandas as pd
import soundfile as sf
import traitlets
from matplotlib.figure import Figure

from sercore import plots
from sercore.audio import MAX_SR, MIN_SR, trim_silence
from sercore.errors import AudioError, ConfigError, SerError, SilenceError
from sercore.explain import explain
from sercore.features import log_mel
from sercore.labels import COLORS, EMOTIONS
from sercore.predict import MAX_CLIP_S, MIN_CONFIDENCE, Predictor, prediction_row

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
#: What the file dialog offers: by type, and by suffix where a system does not know the type.
ACCEPT = "audio/*,.wav,.flac,.ogg,.mp3,.aiff,.aif,.m4a,.mp4,.webm"

_HERE = Path(__file__).parent
#: What a visitor chooses from: the shipped networks, and what each is meant for.
CHOICE = (
    ("Any voice: for recordings of your own; trained on three corpora in two languages", "any_voice"),
    ("RAVDESS: for clips of RAVDESS and its like; on these it is right more often", "ravdess"),
)

_COLUMNS = ["file", "model", "label", "confidence", *EMOTIONS, "duration_s", "warnings", "error"]
_TIMES = ["start_s", "end_s", "label", "confidence", *EMOTIONS]
_STYLE = f"<style>{(_HERE / 'widgets.css').read_text(encoding='utf-8')}</style>"
# Small pictures with large letters: on a phone they are 300 px wide.
_PICTURE = {"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 9, "ytick.labelsize": 9, "lines.linewidth": 1.5}


class Upload(anywidget.AnyWidget):
    """A drop zone with a button; setting `value` to ``({"name": …, "content": bytes}, …)`` acts like a visitor's choice.

    A file comes in parts, since Jupyter drops a message above 10 MB without a word; one above `max_mb` stays in the
    browser, and comes with its `size` and no content.
    """

    _esm = _HERE / "upload.js"
    accept = traitlets.Unicode(ACCEPT).tag(sync=True)
    multiple = traitlets.Bool(True).tag(sync=True)
    max_mb = traitlets.Float(MAX_UPLOAD_MB).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)
    value = traitlets.Tuple()

    def __init__(self, **options):
        super().__init__(**options)
        self._parts = bytearray()
        self.on_msg(self._receive)

    def _receive(self, _, message, buffers):
        name, size, offset = str(message["name"]), int(message["size"]), int(message["offset"])
        try:
            if offset == 0:
                self._parts = bytearray()
            # Two pages on one kernel may send at once; a file with a gap is worse than one that is refused.
            whole = offset == len(self._parts) and size <= self.max_mb * 10**6
            if whole:
                self._parts += b"".join(buffers)
            if not whole or len(self._parts) >= size:
                content, self._parts = bytes(self._parts) if whole else b"", bytearray()
                self.value = ({"name": name, "size": size, "content": content},)
        finally:
            self.send({"kind": "arrived"})


class Microphone(anywidget.AnyWidget):
    """Record, stop, record again, or listen live; without a browser, set `recording` or call `listen`.

    Parameters
    ----------
    on_live : callable
        Takes what `listen` is given: samples, sr, anew, skipped_s.

    Attributes
    ----------
    recording : bytes
        A finished recording as a WAV file: 16 kHz, mono, 16 bit.
    max_s : int [s]
        A recording is stopped at this length.
    """

    _esm = _HERE / "microphone.js"
    # Without an echo: the browser has the bytes already.
    recording = traitlets.CBytes().tag(sync=True, echo_update=False)
    max_s = traitlets.Int(MAX_RECORDING_S).tag(sync=True)

    def __init__(self, on_live, **options):
        super().__init__(**options)
        self._on_live = on_live
        self.on_msg(self._receive)

    def listen(self, samples, *, sr=16_000, anew=False, skipped_s=0.0):
        """Hear the next piece of live audio.

        Parameters
        ----------
        samples : np.ndarray [shape=(n_samples,)]
            Mono, floating point, full scale ±1.
        sr : int > 0 [Hz]
        anew : bool
            Whether this begins a new session, and what was heard before is forgotten.
        skipped_s : float [s]
            What was lost before this piece, because the kernel was busy.

        Raises
        ------
        AudioError
            If the samples cannot be used. Silence can.
        """
        self._on_live(samples, sr, anew, skipped_s)

    def _receive(self, _, message, buffers):
        try:
            samples = np.frombuffer(buffers[0], dtype="<f4")
            self.listen(samples, sr=message["sr"], anew=message["anew"], skipped_s=message["skipped_s"])
        except SerError as error:
            self.send({"kind": "error", "text": str(error)})
        finally:
            self.send({"kind": "heard"})  # the browser sends no more before this: nothing queues up


class Demo(widgets.VBox):
    """Upload or speak, and see: a card for each recording, and a table of all of them.

    Parameters
    ----------
    predictor : sercore.predict.Predictor, optional
        Default: the shipped ones, for the visitor to choose from.
    max_upload_mb : float > 0 [MB]
        A larger recording is refused.
    max_clips : int > 0
        So many cards stay open, and fewer if their recordings are more than `MAX_KEPT_MB`; the table keeps all.

    Attributes
    ----------
    upload : Upload
        Takes one recording or several; setting its `value` acts like a visitor's choice.
    microphone : Microphone
        Setting its `recording` acts like a finished recording; its `listen` feeds live audio.
    variant : ipywidgets.RadioButtons
        Which of the shipped networks answers from now on; not shown if the predictor was given.
    explanation : ipywidgets.Checkbox
        Whether a card shows what the network listened to.
    clear : ipywidgets.Button
        Forgets everything.
    status : ipywidgets.HTML
        One line: what is being done, or was done.
    live : ipywidgets.VBox
        What is heard live.
    results : ipywidgets.VBox
        The cards, the newest first.
    table : ipywidgets.HTML
        All recordings of this session, in the order they came.
    download : ipywidgets.HTML
        A link that holds that table as a CSV file; empty without recordings.
    clips : pd.DataFrame
        That table, with the columns of `Predictor.predict_files` and the ``model`` that answered.
    heard : pd.DataFrame
        The last `LIVE_WINDOWS` answers of the live timeline, with the columns of `Predictor.timeline`.
    """

    def __init__(self, predictor=None, *, max_upload_mb=MAX_UPLOAD_MB, max_clips=MAX_CLIPS):
        for option, value in (("max_upload_mb", max_upload_mb), ("max_clips", max_clips)):
            if not value > 0:
                raise ConfigError(f"Bad {option} {value!r}: expected a number above 0.")
        self._max_mb, self._max_clips = max_upload_mb, max_clips
        self._rows, self._kept_bytes, self._n_spoken = [], deque(), 0
        self._answer_by(predictor or Predictor(), predictor.checkpoint.stem if predictor else CHOICE[0][1])
        self.variant = widgets.RadioButtons(options=CHOICE, description="Model:", layout={"width": "auto"})
        self.variant.layout.display = "none" if predictor else ""
        self.upload = Upload(max_mb=max_upload_mb, hint=_hint(max_upload_mb))
        self.microphone = Microphone(self._on_live)
        self.explanation = widgets.Checkbox(True, description="Show what the network listened to", indent=False)
        self.clear = widgets.Button(description="Clear", icon="trash", layout=widgets.Layout(width="100px"))
        self.status, self.table, self.download = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.results, self.live = widgets.VBox(), widgets.VBox().add_class("ser-live")
        self.upload.observe(self._on_upload, names="value")
        self.microphone.observe(self._on_recording, names="recording")
        self.variant.observe(self._on_variant, names="value")
        self.clear.on_click(lambda _: self._forget())
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        ways = widgets.Box([self.upload, self.microphone], layout=_WRAP)
        self.upload.layout = self.microphone.layout = _HALF
        self.explanation.layout.width = "auto"
        controls = widgets.HBox([self.explanation, self.clear, self.download], layout=row)
        parts = [
            widgets.HTML(_STYLE + _INTRO),
            self.variant,
            ways,
            controls,
            self.status,
            self.live,
            self.results,
            self.table,
        ]
        super().__init__(parts)
        self.add_class("ser-demo")
        self._forget()
        _warm_up(self._predictor.config)

    @property
    def clips(self):
        return pd.DataFrame(self._rows, columns=_COLUMNS)

    @property
    def heard(self):
        return pd.DataFrame(self._live.rows, columns=_TIMES)

    def add(self, name, content):
        """Predict one recording and show its card, as if it had been uploaded.

        Parameters
        ----------
        name : str
            File name, shown to the visitor.
        content : bytes
            The file.

        Returns
        -------
        prediction : sercore.predict.Prediction or None
            None if the recording cannot be used; its card says why.
        """
        return self._add(str(name), bytes(content), len(content))

    def snapshot(self):
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook.

        Returns
        -------
        html : str
        """
        parts = [_html(widget) for widget in (self.status, self.live, self.results, self.table)]
        return f'{_STYLE}<div class="ser-demo">{"".join(parts)}</div>'

    def _add(self, name, content, size):
        self._say(f"Listening to {name} …")
        y = pictures = None
        try:
            card, player, pictures, y, prediction = self._listen(name, content, size)
            row, n_bytes = prediction_row(name, prediction), len(player.value)
        except AudioError as error:
            row, prediction = {"file": name, "error": str(error)}, None
            card, n_bytes = [widgets.HTML(_complaint(name, error))], 0
        self._rows.append(row | {"model": self._model})
        self._show(widgets.VBox(card).add_class("ser-card"), n_bytes)
        self.table.value, self.download.value = _table(self._rows), _csv_link(self.clips)
        if y is not None:  # the answer is there; what takes longer follows it
            self._explain(y, name, prediction, *pictures)
        self._say(self._summary())
        return prediction

    def _listen(self, name, content, size):
        if size > self._max_mb * 10**6:
            raise AudioError(f"Too large: {name} has {size / 1e6:.0f} MB, expected at most {self._max_mb:g} MB.")
        if size > len(content):
            raise AudioError(
                f"Incomplete: {name} arrived with a gap, expected {size} bytes in order. Choose it again, on one page only."
            )
        file = io.BytesIO(content)
        file.name = name  # what an error message calls it
        y = self._predictor.load(file)
        prediction = self._predictor.predict((y, self._predictor.config.sr))
        # What the network heard: every browser plays it, unlike AIFF, and it is never large.
        player = widgets.Audio(value=_flac(y, self._predictor.config.sr), format="flac", autoplay=False, loop=False)
        player.layout.width = "100%"
        picture = widgets.HTML(_picture(y, self._predictor.config, name))
        timeline = widgets.HTML()
        left = widgets.VBox([widgets.HTML(_bars(prediction)), timeline], layout=_HALF)
        sides = [left, widgets.VBox([player, picture], layout=_HALF)]
        card = [
            widgets.HTML(_head(name, prediction)),
            widgets.Box(sides, layout=_WRAP),
            widgets.HTML(_doubts(prediction)),
        ]
        return card, player, (picture, timeline), y, prediction

    def _explain(self, y, name, prediction, picture, timeline):
        config, duration_s = self._predictor.config, prediction.duration_s
        if duration_s > TIMELINE_S:
            self._say(f"Following the emotion through {name} …")
            table = self._predictor.timeline((y, config.sr), hop_s=max(1.0, duration_s / MAX_WINDOWS))
            timeline.value = _timeline(table, f"Emotion over time in {name}")
        if self.explanation.value and duration_s <= MAX_CLIP_S and self._predictor.model.kind == "log_mel":
            self._say(f"Looking for what spoke for {prediction.label} in {name} …")
            explanation = _whole(explain(self._predictor, (y, config.sr), emotion=prediction.label), y, config)
            picture.value = _picture(y, config, name, explanation) + _LISTENED.format(prediction.label)

    def _show(self, card, n_bytes):
        cards = [card, *self.results.children]
        self._kept_bytes.appendleft(n_bytes)
        while len(cards) > 1 and (len(cards) > self._max_clips or sum(self._kept_bytes) > MAX_KEPT_MB * 10**6):
            _close(cards.pop())
            self._kept_bytes.pop()
        self.results.children = cards

    def _on_upload(self, change):
        files = change["new"]
        for file in files:
            content = bytes(file["content"])
            self._add(str(file["name"]), content, file.get("size", len(content)))
        if files:
            self.upload.value = ()  # so that the same file can be chosen again

    def _answer_by(self, predictor, model):
        self._predictor, self._model, self._live = predictor, model, _Live(predictor)

    def _on_variant(self, change):
        self._hush()
        self._answer_by(Predictor(change["new"]), change["new"])
        self._say(f"From now on {change['new']} answers.")

    def _on_recording(self, change):
        if content := change["new"]:
            self._n_spoken += 1
            self.add(f"microphone-{self._n_spoken}.wav", content)
            self.microphone.recording = b""  # so that the same bytes can come again

    def _on_live(self, samples, sr, anew, skipped_s):
        if anew:
            self._live.forget()
        if self._live.hear(samples, sr, skipped_s):
            self.live.layout.display = ""
            if not self.live.children:
                sides = [widgets.HTML(layout=_HALF), widgets.HTML(layout=_HALF)]
                self.live.children = widgets.HTML("<h3>Live</h3>"), widgets.HTML(), widgets.Box(sides, layout=_WRAP)
            _, verdict, sides = self.live.children
            bars, picture = sides.children
            verdict.value, bars.value = _verdict(self._live.prediction, live=True), _bars(self._live.prediction)
            picture.value = _timeline(self.heard, "Emotion over time, live")

    def _forget(self):
        for card in self.results.children:
            _close(card)
        self._hush()
        self._kept_bytes.clear()
        self._rows, self._n_spoken, self.results.children = [], 0, ()
        self.table.value = self.download.value = ""
        self.microphone.send({"kind": "clear"})
        self._say("No recording yet.")

    def _hush(self):
        """Forget what was heard live."""
        for part in self.live.children:
            _close(part)
        self._live.forget()
        self.live.children, self.live.layout.display = (), "none"

    def _summary(self):
        n, n_bad, n_open = len(self._rows), sum(bool(row["error"]) for row in self._rows), len(self.results.children)
        text = f"{n} recording{'s' * (n > 1)}{f', {n_bad} of them unusable' * bool(n_bad)}."
        return text + f" The newest {n_open} have their cards below; the table has all." * (n_open < n)

    def _say(self, text):
        self.status.value = f'<p role="status" class="ser-small">{escape(text)}</p>'


class _Live:
    """The last window of samples and the last answers; nothing older is kept, however long it listens."""

    def __init__(self, predictor):
        self._predictor = predictor
        self.forget()

    def forget(self):
        self.rows, self.prediction = deque(maxlen=LIVE_WINDOWS), None
        self._y, self._sr, self._end_s, self._asked_s = np.empty(0, np.float32), None, 0.0, 0.0

    def hear(self, samples, sr, skipped_s):
        """Take a piece in; say whether it made a new row."""
        samples = np.asarray(samples)
        if not (samples.ndim == 1 and np.issubdtype(samples.dtype, np.floating) and np.isfinite(samples).all()):
            raise AudioError(
                f"Bad live samples, {samples.dtype} of shape {samples.shape}: expected finite floating point, mono."
            )
        if not MIN_SR <= sr <= MAX_SR:
            raise AudioError(f"Bad rate {sr} Hz of live audio: expected {MIN_SR} to {MAX_SR} Hz.")
        if sr != self._sr or skipped_s > 0:
            self._y, self._sr = self._y[:0], sr
        self._y = np.concatenate([self._y, samples])[-round(self._predictor.config.window_s * sr) :]
        self._end_s += skipped_s + len(samples) / sr
        if self._end_s - self._asked_s < LIVE_HOP_S - 0.01:
            return False
        self._asked_s = self._end_s
        self.prediction = self._ask()
        row = {"start_s": self._end_s - len(self._y) / sr, "end_s": self._end_s, "label": "silence"}
        if answer := self.prediction:
            row |= {"label": answer.label, "confidence": answer.confidence} | answer.probabilities
        self.rows.append(row)
        return True

    def _ask(self):
        try:
            prediction = self._predictor.predict((self._y, self._sr))
        except SilenceError:
            return None
        # A room that hums is no voice; without this, live would name its emotion all day.
        nobody = any(text.startswith(("Too quiet", "No speech")) for text in prediction.warnings)
        return None if nobody else prediction


def build_demo(predictor=None, *, max_upload_mb=MAX_UPLOAD_MB, max_clips=MAX_CLIPS):
    """Build the demo; display it as the last expression of a cell.

    Parameters
    ----------
    predictor : Predictor, optional
        Default: the shipped ones, for the visitor to choose from.
    max_upload_mb, max_clips
        As in `Demo`.

    Returns
    -------
    demo : Demo
        Also drivable without a browser: ``demo.add(name, content)``.

    Raises
    ------
    ConfigError
        If the shipped weights are missing, or a limit is not above 0.
    """
    return Demo(predictor, max_upload_mb=max_upload_mb, max_clips=max_clips)


_WRAP = {"flex_flow": "row wrap", "grid_gap": "12px 24px"}
_HALF = {"flex": "1 1 300px", "min_width": "0"}
_LISTENED = """<p class="ser-small">Hatched: the moments and pitches of the voice that spoke most for “{}”.</p>"""
_INTRO = """<h2>Which emotion is in the voice?</h2>
<p>Choose recordings, or speak: one person, for one to ten seconds. The answer names the emotion that an actor would
be playing, not what anybody feels.</p>
<p class="ser-small">What you send stays in the memory of this session and is written nowhere.</p>"""


def _hint(max_mb):
    # What `load_audio` decodes; it says the same of a file that it cannot.
    more = ", M4A, MP4 or WebM" if find_spec("av") else "; M4A, MP4 and WebM once PyAV is installed"
    return f"WAV, FLAC, OGG, MP3, AIFF{more}. At most {max_mb:g} MB each."


def _html(widget):
    if isinstance(widget, widgets.HTML):
        return widget.value
    inside = "".join(_html(child) for child in getattr(widget, "children", ()))
    return f'<div class="{" ".join(widget._dom_classes)}">{inside}</div>' if inside else ""


def _close(widget):
    for child in getattr(widget, "children", ()):
        _close(child)
    # ipywidgets leaves these two behind, in the kernel and in the page.
    for part in (widget.layout, getattr(widget, "style", None)):
        if part is not None:
            part.close()
    widget.close()


def _head(name, prediction):
    seconds = f'<span class="ser-small">({prediction.duration_s:.1f} s)</span>'
    return f"<h3>{escape(name)} {seconds}</h3>{_verdict(prediction)}"


def _verdict(prediction, *, live=False):
    if prediction is None:
        best, words = "neutral", "silence"
    else:
        best, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
        words = best if live else f"{best}, {_percent(prediction.confidence)} sure"
        words = words if prediction.confidence >= MIN_CONFIDENCE else f"not sure: {best} or {second}"
    # Live, a screen reader says it when it changes, which a number does every second.
    role = 'role="status" ' * live
    return f'<p class="ser-verdict" {role}style="border-left: 8px solid {COLORS[best]}">{words}</p>'


def _complaint(name, error):
    return f'<h3>{escape(name)}</h3><p class="ser-error" role="alert"><b>✕ Cannot use this file.</b> {escape(str(error))}</p>'


def _doubts(prediction):
    notes = [text for text in prediction.warnings if not text.startswith("Not sure")]  # the verdict says it
    return "".join(f'<p class="ser-doubt">⚠ {escape(text)}</p>' for text in notes)


def _bars(prediction):
    shares = dict.fromkeys(EMOTIONS) if prediction is None else prediction.probabilities
    rows = []
    for emotion, share in shares.items():
        mark, best = ("▶ ", " ser-best") if prediction and emotion == prediction.label else ("", "")
        bar = f'<span style="width: {share or 0:.1%}; background: {COLORS[emotion]}"></span>'
        rows += [
            f'<div role="listitem"><span class="ser-name{best}">{mark}{emotion}</span>',
            f'<span class="ser-track" aria-hidden="true">{bar}</span>',
            f'<span class="ser-number{best}">{"–" if share is None else _percent(share)}</span></div>',
        ]
    title = 'role="list" aria-label="Calibrated probability of each emotion"'
    return f'<div class="ser-bars" {title}>{"".join(rows)}</div>'


def _flac(y, sr):
    file = io.BytesIO()
    sf.write(file, y, sr, format="FLAC")
    return file.getvalue()


def _percent(share):
    return f"{100 * share:.0f}\u00a0%"  # a space that never breaks


@cache
def _warm_up(config):
    """Load now what librosa and matplotlib load at their first use: two seconds that no visitor should wait for."""
    tone = np.sin(np.arange(config.sr, dtype=np.float32))
    _picture(trim_silence(tone), config, "")


@mpl.rc_context(_PICTURE)
def _picture(y, config, name, explanation=None):
    """Draw waveform and log-mel spectrogram, and what the network listened to over it."""
    # A Figure of its own: pyplot would keep it, and a notebook would show it a second time.
    over, under = Figure(figsize=(4.4, 3.4), layout="constrained").subplots(2, sharex=True, height_ratios=(1, 1.8))
    plots.plot_waveform(y, sr=config.sr, ax=over).set(xlabel="", ylabel="Amplitude")
    if explanation is None:
        S_db = log_mel(y, sr=config.sr, config=config)
        step = -(-S_db.shape[1] // 2000)  # no more frames than that, however long the recording
        options = {"hop_length": config.hop_length * step, "fmin": config.fmin_hz, "fmax": config.fmax_hz}
        plots.plot_spectrogram(S_db[:, ::step], sr=config.sr, colorbar=False, ax=under, **options)
    else:
        plots.plot_explanation(explanation, sr=config.sr, fmin=config.fmin_hz, fmax=config.fmax_hz, ax=under)
        under.collections[-1].set(linewidth=1)  # in a picture as small as this
        under.figure.axes[-1].set_ylabel("1: spoke most")
    under.set(ylabel="Mel (Hz)", xlim=(0, len(y) / config.sr), title="")
    return _img(over.figure, f"Waveform and log-mel spectrogram of {name}")


def _whole(explanation, y, config):
    """Lay an explanation, which is of the speech alone, over the whole recording."""
    _, (start, _) = librosa.effects.trim(y, top_db=config.trim_db) if config.trim_db else (y, (0, len(y)))
    S_db = log_mel(y, sr=config.sr, config=config)
    weights, start = np.zeros_like(S_db), start // config.hop_length
    part = explanation.weights[:, : S_db.shape[1] - start]
    weights[:, start : start + part.shape[1]] = part
    return replace(explanation, S_db=S_db, weights=weights)


@mpl.rc_context(_PICTURE)
def _timeline(table, title):
    ax = Figure(figsize=(4.4, 2.6), layout="constrained").subplots()
    plots.plot_timeline(table, ax=ax).set_ylabel("")
    runs = table.groupby((table["label"] != table["label"].shift()).cumsum())
    ends = [f"{run['label'].iloc[0]} until {run['end_s'].iloc[-1]:.0f} s" for _, run in runs]
    return _img(ax.figure, f"{title}: {', '.join(ends)}")


def _img(figure, text):
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=200)
    # Not widgets.Image: that has no alternative text, and its tooltip keeps the browser from showing it.
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return f'<img src="{source}" alt="{escape(text)}">'


def _table(rows):
    body = []
    for row in rows:
        cells = ["–", "–", "–", "–", row["error"]]
        if not row["error"]:
            cells = [
                row["model"],
                row["label"],
                _percent(row["confidence"]),
                f"{row['duration_s']:.1f} s",
                row["warnings"] or "–",
            ]
        body.append(f'<tr><th scope="row">{escape(row["file"])}</th>')
        body += [f"<td>{escape(cell)}</td>" for cell in cells]
    head = "".join(
        f'<th scope="col">{text}</th>' for text in ("File", "Model", "Emotion", "Confidence", "Duration", "Remarks")
    )
    top = f"<caption>All recordings of this session</caption><thead><tr>{head}</tr></thead>"
    region = 'role="region" aria-label="Table of all recordings" tabindex="0"'  # which the keyboard can scroll
    return f'<div class="ser-table" {region}><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


def _csv_link(clips):
    data = base64.b64encode(clips.to_csv(index=False).encode()).decode()
    link = f'download="emotions.csv" href="data:text/csv;charset=utf-8;base64,{data}"'
    return f'<a class="ser-download" {link}>⬇ Save as CSV</a>'
