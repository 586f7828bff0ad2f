"""widgets: upload or speak in a notebook or web page, and see emotion, certainty and doubts of each recording.

Browser and kernel exchange bytes; nothing is written to disk. The HTML is in widgets.html, which escapes names and
messages; what is live, in live.
"""

import base64
import io
from importlib.util import find_spec

import anywidget
import ipywidgets as widgets
import matplotlib as mpl
import pandas as pd
import soundfile as sf
import traitlets
from matplotlib.figure import Figure

from sercore import plots, settings
from sercore.audio import MAX_DURATION_S
from sercore.decoder import SUFFIXES
from sercore.errors import AudioError, ConfigError
from sercore.explain import explain
from sercore.features import log_mel
from sercore.labels import EMOTIONS
from sercore.live import HERE, PICTURE, PIECES, Live, Microphone, half, img, timeline_picture, wrap
from sercore.predict import COLUMNS, MAX_CLIP_S, Prediction, kept, prediction_row

#: Largest recording [MB] that is taken, unless `build_demo` is told otherwise.
MAX_UPLOAD_MB = 30
#: So many cards stay open, and so many MB of sound in them; older ones keep their row in the table.
MAX_CLIPS, MAX_KEPT_MB = 50, 100
#: A longer recording [s] gets a timeline, of so many windows at most.
TIMELINE_S, MAX_WINDOWS = 5.0, 120
ACCEPT = ",".join(["audio/*", *sorted(SUFFIXES)])
#: What a visitor chooses from: the shipped networks, and what each is meant for.
CHOICE = (
    ("Any voice: for recordings of your own; trained on four corpora in three languages", "any_voice"),
    ("RAVDESS: the CNN of the notebooks, which knows RAVDESS alone", "ravdess"),
)


class Upload(anywidget.AnyWidget):
    """A drop zone with a button, which hands each file on as ``on_file(name, content, size)``, and ``on_idle()`` after the last.

    A file comes in parts, since Jupyter drops a message above 10 MB without a word; one above `max_mb` stays in the
    browser, and comes with its size and no content.
    """

    _esm = HERE / "upload.js"
    accept = traitlets.Unicode(ACCEPT).tag(sync=True)
    max_mb = traitlets.Float(MAX_UPLOAD_MB).tag(sync=True)
    hint = traitlets.Unicode().tag(sync=True)

    def __init__(self, on_file, on_idle, **options):
        super().__init__(**options)
        self._on_idle = on_idle
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
        if not self._parts and not message.get("waiting"):
            self._on_idle()


class Card(widgets.VBox):
    """What is shown of one recording, and the row of the table that belongs to it."""

    def __init__(self, name, row, parts, buttons, n_bytes):
        self.row, self.n_bytes = row, n_bytes
        super().__init__([*parts, widgets.Box(buttons).add_class("ser-actions")])
        self.add_class("ser-card")


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
        self._rows, self._n_spoken, self._cleared, self._later = [], 0, None, []
        self.live = Live()
        self._answer_by(predictor or kept(), predictor.checkpoint.stem if predictor else CHOICE[0][1])
        self.variant = widgets.RadioButtons(options=CHOICE, description="Model:")
        self._only = predictor is not None
        self.variant.layout.display = "none" if self._only else ""
        hint = PIECES.hint(max_upload_mb, MAX_DURATION_S, find_spec("av"))
        self.upload = Upload(self._add, self._work, max_mb=max_upload_mb, hint=hint).add_class("ser-half")
        self.microphone = Microphone(self.live.listen).add_class("ser-half")
        self.explanation = widgets.Checkbox(True, description="Show what the network listened to", indent=False)
        self.clear = widgets.Button(description="Clear", icon="trash")
        self.status, self.table, self.download, self.results = *(widgets.HTML() for _ in range(3)), widgets.VBox()
        self.microphone.observe(self._on_recording, names="recording")
        self.variant.observe(self._on_variant, names="value")
        self.clear.on_click(lambda _: self._undo() if self._cleared else self._forget())
        controls = widgets.HBox([self.status, self.clear, self.download]).add_class("ser-controls")
        ways = wrap(self.microphone, self.upload).add_class("ser-top")
        top = [widgets.HTML(PIECES.intro()).add_class("ser-intro"), ways, self._examples(), controls]
        super().__init__([*top, self.live, self.results, self.table, self.variant, self.explanation])
        self.add_class("ser-demo")
        self._say("No recording yet.")

    @property
    def clips(self) -> pd.DataFrame:
        """All recordings of the session: the columns of `Predictor.predict_files`, and the ``model`` that answered."""
        return pd.DataFrame(self._rows, columns=["file", "model", *COLUMNS[2:]])

    def add(self, name: str, content: bytes) -> Prediction | None:
        """Predict one recording and show its card, as if it had been uploaded; None if it cannot be used."""
        prediction = self._add(str(name), bytes(content), len(content))
        self._work()
        return prediction

    def snapshot(self) -> str:
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook."""
        parts = [_html(widget) for widget in (self.status, self.live, self.results, self.table)]
        return f'{PIECES.style()}<div class="ser-demo">{"".join(parts)}</div>'

    def _examples(self):
        """A button for each clip of data/samples, or where they are not there, for each emotion of the synthesiser."""
        buttons, real = [], settings.samples_dir().is_dir()
        for emotion in EMOTIONS:
            buttons.append(widgets.Button(description=emotion, tooltip=f"Try an example: {emotion}"))
            buttons[-1].on_click(
                lambda button: self.add(f"example-{button.description}.flac", _example(button.description))
            )
        return widgets.Box([widgets.HTML(PIECES.examples(real)), *buttons]).add_class("ser-examples")

    def _add(self, name, content, size):
        self._say(f"Listening to {name} …")
        try:
            y = self._load(name, content, size)
            prediction = self._predictor.predict((y, self._predictor.config.sr))
        except AudioError as error:
            prediction = None
            row = {"file": name, "error": str(error)}
            self._show(name, row, [widgets.HTML(PIECES.complaint(name, str(error)))])
        else:
            self._answer(name, y, prediction)
        self._sum_up()
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
        predictor, config = self._predictor, self._predictor.config
        # What the network heard: every browser plays it, unlike AIFF, and it is never large.
        sound = io.BytesIO()
        sf.write(sound, y, config.sr, format="FLAC")
        player = widgets.Audio(value=sound.getvalue(), format="flac", autoplay=False, loop=False)
        timeline, picture, second = widgets.HTML(), widgets.HTML(_picture(y, config, name)), widgets.HTML()
        head = widgets.HTML(PIECES.head(name, prediction))
        sides = wrap(half(widgets.HTML(PIECES.bars(prediction)), timeline), half(player, picture))
        asked = [] if self._only else [self._ask_other(sound, second)]
        self._show(name, prediction_row(name, prediction), [head, second, sides], asked, sound.tell())
        # The answer is there; what takes longer follows when all of a queue is answered.
        if prediction.duration_s > TIMELINE_S:
            self._later.append(
                (f"Following the emotion through {name} …", self._follow, (predictor, name, y, timeline))
            )
        explicable = prediction.duration_s <= MAX_CLIP_S and predictor.model.kind == "log_mel"
        if self.explanation.value and explicable:
            words = f"Looking for what spoke for {prediction.label} in {name} …"
            self._later.append((words, self._explain, (predictor, name, y, prediction.label, picture)))

    def _follow(self, predictor, name, y, timeline):
        sr = predictor.config.sr
        table = predictor.timeline((y, sr), hop_s=max(1.0, len(y) / sr / MAX_WINDOWS))
        timeline.value = timeline_picture(table, f"Emotion over time in {name}")

    def _explain(self, predictor, name, y, emotion, picture):
        config = predictor.config
        explanation = explain(predictor, (y, config.sr), emotion=emotion).over_whole(y, config)
        picture.value = _picture(y, config, name, explanation) + PIECES.listened(emotion)

    def _work(self):
        """Do what the answers did not wait for."""
        done = bool(self._later)
        while self._later:
            words, job, of = self._later.pop(0)
            if of[-1].comm is not None:  # its card is still open
                self._say(words)
                job(*of)
        if done:
            self._sum_up()

    def _ask_other(self, sound, place):
        _, other = next(choice for choice in CHOICE if choice[1] != self._model)
        button = widgets.Button(description=f"Ask {other} as well")

        def ask(_):
            button.layout.display = "none"
            place.value = PIECES.other(kept(other).predict(io.BytesIO(sound.getvalue())))

        button.on_click(ask)
        return button

    def _show(self, name, row, parts, buttons=(), n_bytes=0):
        self._drop_cleared()
        row = row | {"model": self._model}
        self._rows.append(row)
        remove = widgets.Button(description="Remove", tooltip=f"Remove {name}")
        cards = [Card(name, row, parts, [*buttons, remove], n_bytes), *self.results.children]
        remove.on_click(lambda _, card=cards[0]: self._remove(card))
        while len(cards) > 1 and (
            len(cards) > self._max_clips or sum(card.n_bytes for card in cards) > MAX_KEPT_MB * 10**6
        ):
            _close(cards.pop())
        self.results.children = cards
        self._show_table()

    def _show_table(self):
        self.table.value = PIECES.table(self._rows) if self._rows else ""
        self.download.value = PIECES.csv_link(_base64(_csv(self.clips))) if self._rows else ""

    def _remove(self, card):
        self._rows = [row for row in self._rows if row is not card.row]
        self.results.children = [other for other in self.results.children if other is not card]
        _close(card)
        self._show_table()
        self._sum_up()

    def _sum_up(self):
        (self.add_class if self._rows else self.remove_class)("ser-answered")
        n_bad = sum(bool(row["error"]) for row in self._rows)
        n_open = len(self.results.children)
        self.status.value = (
            PIECES.summary(self._rows, n_bad, n_open) if self._rows else PIECES.status("No recording yet.")
        )

    def _answer_by(self, predictor, model):
        self._predictor, self._model = predictor, model
        self.live.forget(predictor)

    def _on_variant(self, change):
        self._answer_by(kept(change["new"]), change["new"])
        self._say(f"From now on {change['new']} answers; what is below was answered before.")

    def _on_recording(self, change):
        if content := change["new"]:
            self._n_spoken += 1
            self.add(f"microphone-{self._n_spoken}.wav", content)
            self.microphone.recording = b""  # so that the same bytes can come again

    def _forget(self):
        """Show nothing any more; until something new comes, it can be undone."""
        self.live.forget(self._predictor)
        self._later.clear()
        for widget in (self.microphone, self.upload):  # what waits in the browser is not sent
            widget.send({"kind": "clear"})
        if self._rows:
            self._cleared = (self._rows, self.results.children, self._n_spoken)
            self.clear.description, self.clear.icon = "Undo", "undo"
        self._rows, self.results.children, self._n_spoken = [], (), 0
        self._show_table()
        self._sum_up()

    def _undo(self):
        self._rows, self.results.children, self._n_spoken = self._cleared
        self._cleared, self.clear.description, self.clear.icon = None, "Clear", "trash"
        self._show_table()
        self._sum_up()

    def _drop_cleared(self):
        for card in self._cleared[1] if self._cleared else ():
            _close(card)
        self._cleared, self.clear.description, self.clear.icon = None, "Clear", "trash"

    def _say(self, text):
        self.status.value = PIECES.status(text)


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


@mpl.rc_context(PICTURE)
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
    return img(under.figure, f"Waveform and log-mel spectrogram of {name}")


def _example(emotion):
    clip = settings.samples_dir() / f"{emotion}.flac"
    if clip.is_file():
        return clip.read_bytes()
    from sercore.corpora import synthetic

    sound = io.BytesIO()
    sf.write(sound, synthetic.synthesize(emotion), synthetic.SR, format="FLAC")
    return sound.getvalue()


def _csv(table):
    """As spreadsheets want it: marked as UTF-8, and no cell that they would take for a formula."""
    words = table.select_dtypes(exclude="number").columns
    table = table.assign(**{name: table[name].map(_harmless) for name in words})
    return table.to_csv(index=False).encode("utf-8-sig")


def _harmless(cell):
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _base64(content):
    return base64.b64encode(content).decode()
