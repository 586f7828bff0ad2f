"""widgets: upload or speak in a notebook or web page, and see emotion, certainty and doubts of each recording.

One widget. The browser draws it (widgets.css and four scripts), and exchanges messages with the kernel: their ``kind`` is
the name of a branch here or of a function there. Nothing is written to disk. Words and HTML come from pieces.
"""

import base64
import io
from importlib.util import find_spec

import anywidget
import numpy as np
import pandas as pd
import soundfile as sf
import traitlets

from sercore import settings
from sercore.audio import MAX_DURATION_S, MAX_SR, MIN_SR
from sercore.card import Answered, Card
from sercore.decoder import SUFFIXES
from sercore.errors import AudioError, ConfigError, SerError
from sercore.labels import COLORS, EMOTIONS
from sercore.live import Live
from sercore.pieces import HERE, Pieces
from sercore.predict import COLUMNS, Prediction, kept, prediction_row

#: Largest file [MB] that is taken, unless `build_demo` is told otherwise; and what the microphone records at most [s]:
#: below the 10 MB that Jupyter takes as one message.
MAX_UPLOAD_MB, MAX_RECORDING_S = 30, 120
#: So many cards stay open, and so many MB of sound in them; older ones keep their row in the table.
MAX_CLIPS, MAX_KEPT_MB = 50, 100
#: What a visitor chooses from: the shipped networks, whose words say what each is meant for.
CHOICE = ("any_voice", "ravdess")


class Demo(anywidget.AnyWidget):
    """Upload or speak, and see a card for each recording, and a table of all of them; made by `build_demo`.

    Without a browser: `add` takes a file, `record` what a microphone recorded, `listen` live audio. `clips` is the table,
    `heard` the live timeline, and `snapshot` what is shown.
    """

    _esm = "".join(
        (HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("upload", "microphone", "player", "page")
    )
    _css = (HERE / "widgets.css").read_text(encoding="utf-8")
    #: What does not change. The kernel never reads it: a browser can change what is synchronised.
    page = traitlets.Dict().tag(sync=True)

    def __init__(self, predictor, max_upload_mb, max_clips, language):
        for option, value in (("max_upload_mb", max_upload_mb), ("max_clips", max_clips)):
            if not value > 0:
                raise ConfigError(f"Bad {option} {value!r}: expected a number above 0.")
        self._max_mb, self._max_clips, self._pieces = max_upload_mb, max_clips, Pieces(language)
        self._rows, self._cards, self._cleared, self._later = [], [], None, []
        self._n_spoken, self._parts, self._status, self.explains = 0, bytearray(), "", True
        self._only, self._live = predictor is not None, Live(self._pieces)
        self._answer_by(predictor or kept(), predictor.checkpoint.stem if predictor else CHOICE[0])
        super().__init__(page=self._page())
        self.on_msg(self._receive)
        self._sum_up()

    @property
    def clips(self) -> pd.DataFrame:
        """All recordings of the session: as `Predictor.predict_files`, with ``model``, and ``told``: what it was, you say."""
        return pd.DataFrame(self._rows, columns=["file", "model", *COLUMNS[2:], "told"])

    @property
    def heard(self) -> pd.DataFrame:
        """The last minute of what was heard live, with the columns of `Predictor.timeline`."""
        return self._live.heard

    def add(self, name: str, content: bytes) -> Prediction | None:
        """Predict one recording and show its card, as if it had been uploaded; None if it cannot be used."""
        prediction = self._add(str(name), bytes(content), len(content))
        self._work()
        return prediction

    def record(self, samples: np.ndarray, *, sr: int = 16_000) -> Prediction | None:
        """Add what a microphone recorded, samples (n_samples,) of full scale ±1."""
        self._n_spoken += 1
        return self.add(f"microphone-{self._n_spoken}.wav", _encode(samples, sr, "WAV"))

    def try_example(self, emotion: str) -> Prediction:
        """Add the clip that the button of this emotion stands for."""
        return self.add(f"example-{emotion}.flac", _example(emotion))

    def listen(self, samples: np.ndarray, *, sr: int = 16_000, anew: bool = False, skipped_s: float = 0.0):
        """Take the next piece (n_samples,) of live audio, mono, full scale ±1, and answer if a second has gone by.

        `anew` forgets what was heard before; `skipped_s` was lost before this piece, because the kernel was busy.
        Samples that cannot be used raise AudioError; silence can be used.
        """
        self._live.listen(samples, sr=sr, anew=anew, skipped_s=skipped_s)
        self._tell("live", html=self._live.html)

    def snapshot(self) -> str:
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook."""
        html = self._pieces.html
        cards = [card.html() for card in reversed(self._cards)]
        return html.snapshot(self._css, self._status, self._live.html, cards, html.table(self._rows))

    def _page(self):
        say, words = self._pieces.say, self._pieces.words
        names = {name: self._pieces.emotion(name) for name in (*EMOTIONS, "silence")}
        return {
            "words": {part: words[part] for part in ("page", "card", "upload", "microphone", "player")},
            "emotions": names,
            "colors": COLORS,
            "hint": self._pieces.html.hint(self._max_mb, MAX_DURATION_S, find_spec("av")),
            "accept": ",".join(["audio/*", *sorted(SUFFIXES)]),
            "max_mb": self._max_mb,
            "max_s": MAX_RECORDING_S,
            "examples": {emotion: say("page.example", emotion=names[emotion]) for emotion in EMOTIONS},
            "real": settings.samples_dir().is_dir(),
            "choice": {} if self._only else {name: say(f"page.{name}") for name in CHOICE},
        }

    def _receive(self, _, message, buffers):
        """Do what the browser asks; nothing that it sends is trusted."""
        card = next((card for card in self._cards if card.id == message.get("card")), None)
        match message:
            case {"kind": "hello"}:
                self._show_all()
            case {"kind": "file"}:
                self._take_part(message, buffers)
            case {"kind": "recording", "sr": int(sr)} if MIN_SR <= sr <= MAX_SR:
                self.record(np.frombuffer(buffers[0], dtype="<i2") / np.float32(2**15), sr=sr)
            case {"kind": "live"}:
                self._hear(message, buffers)
            case {"kind": "example", "emotion": emotion} if emotion in EMOTIONS:
                self.try_example(emotion)
            case {"kind": "network", "name": name} if name in CHOICE and not self._only:
                self._answer_by(kept(name), name)
                self._say("changed", model=name)
            case {"kind": "explain", "on": on}:
                self.explains = bool(on)
            case {"kind": "clear"}:
                self.clear()
            case {"kind": "undo"}:
                self.undo()
            case {"kind": "remove"} if card:
                self._remove(card)
            case {"kind": "told", "emotion": emotion} if card and emotion in ("", *EMOTIONS):
                card.row["told"] = emotion
                self._show_table()
            case {"kind": "part"} if card:
                card.ask_part(message.get("start"), message.get("end"))
                self._tell("part", card=card.id, html=card.shown["part"])
            case {"kind": "other"} if card and not self._only:
                card.ask_other(kept(next(name for name in CHOICE if name != card.row["model"])))
                self._tell("other", card=card.id, html=card.shown["other"])

    def _take_part(self, message, buffers):
        """A file comes in parts, since Jupyter drops a message above 10 MB without a word.

        One above the limit stays in the browser, and comes with its size and no content.
        """
        name, size, offset = str(message["name"]), int(message["size"]), int(message["offset"])
        try:
            if offset == 0:
                self._parts = bytearray()
            # Two pages on one kernel may send at once; a file with a gap is worse than one that is refused.
            whole = offset == len(self._parts) and size <= self._max_mb * 10**6
            if whole:
                self._parts += b"".join(buffers)
            if not whole or len(self._parts) >= size:
                content, self._parts = bytes(self._parts) if whole else b"", bytearray()
                self._add(name, content, size)
        finally:
            self._tell("arrived")
        if not self._parts and not message.get("waiting"):
            self._work()

    def _hear(self, message, buffers):
        try:
            samples = np.frombuffer(buffers[0], dtype="<f4")
            self.listen(samples, sr=message["sr"], anew=message["anew"], skipped_s=message["skipped_s"])
        except SerError as error:
            self._tell("error", text=str(error))
        finally:
            self._tell("heard")  # the browser sends no more before this: nothing queues up

    def _add(self, name, content, size):
        self._say("listening", name=name)
        row = {"model": self._model, "told": ""}
        try:
            y = self._load(name, content, size)
            prediction = self._predictor.predict((y, self._predictor.config.sr))
        except AudioError as error:
            prediction, row = None, row | {"file": name, "error": str(error)}
            card = Card(row, self._pieces.html.complaint(name, str(error)))
        else:
            row |= prediction_row(name, prediction)
            row["remarks"] = " ".join(map(self._pieces.doubt, prediction.warnings))
            card = Answered(self._pieces, row, self._predictor, y, prediction)
        self._later += [(card, job) for job in card.later if job == "follow" or self.explains]
        self._cleared = None
        self._rows.append(row)
        self._cards.append(card)
        self._show(card)
        while len(self._cards) > 1 and (
            len(self._cards) > self._max_clips or sum(card.n_bytes for card in self._cards) > MAX_KEPT_MB * 10**6
        ):
            self._tell("close", card=self._cards.pop(0).id)
        self._show_table()
        return prediction

    def _load(self, name, content, size):
        if size > self._max_mb * 10**6:
            size, limit = f"{size / 1e6:.0f}", f"{self._max_mb:g}"
            raise AudioError(self._pieces.say("page.too_large", name=name, size=size, limit=limit))
        if size > len(content):
            raise AudioError(self._pieces.say("page.incomplete", name=name))
        file = io.BytesIO(content)
        file.name = name  # what an error message calls it
        return self._predictor.load(file)

    def _work(self):
        """Do what the answers did not wait for."""
        while self._later:
            card, job = self._later.pop(0)
            if card not in self._cards:  # it was removed
                continue
            name, emotion = card.row["file"], self._pieces.emotion(card.row["label"])
            self._say({"follow": "following", "explain": "looking"}[job], name=name, emotion=emotion)
            getattr(card, job)()
            timeline = {name: card.shown[name] for name in ("timeline", "spoken")}
            self._tell("more", card.buffers[3:], card=card.id, **timeline)
            self._sum_up()

    def _answer_by(self, predictor, model):
        self._predictor, self._model = predictor, model
        self._live.forget(predictor)

    def _remove(self, card):
        self._rows = [row for row in self._rows if row is not card.row]
        self._cards.remove(card)
        self._tell("close", card=card.id)
        self._show_table()

    def clear(self):
        """Show nothing any more; until something new comes, `undo` brings it back."""
        self._live.forget(self._predictor)
        self._later.clear()
        if self._rows:
            self._cleared = (self._rows, self._cards, self._n_spoken)
        self._rows, self._cards, self._n_spoken = [], [], 0
        self._tell("clear")  # what waits in the browser is not sent
        self._show_table()

    def undo(self):
        """Bring back what was cleared, if nothing new has come."""
        if not self._cleared:
            return
        (self._rows, self._cards, self._n_spoken), self._cleared = self._cleared, None
        self._show_all()

    def _show_all(self):
        for card in self._cards:
            self._show(card)
        self._tell("live", html=self._live.html)
        self._tell("options", network=self._model, explains=self.explains)
        self._show_table()

    def _show(self, card):
        ask = next(name for name in CHOICE if name != card.row["model"]) if card.buffers and not self._only else ""
        told, name = card.row["told"], card.row["file"]
        self._tell("card", card.buffers, card=card.id, name=name, told=told, ask=ask, **card.shown)

    def _show_table(self):
        html, csv = self._pieces.html, base64.b64encode(_csv(self.clips)).decode()
        state = "answered" if self._rows else "cleared" if self._cleared else "empty"
        self._tell("table", html=html.table(self._rows), csv=f"data:text/csv;charset=utf-8;base64,{csv}", state=state)
        self._sum_up()

    def _sum_up(self):
        n_open = len(self._cards)
        self._tell_status(self._pieces.html.summary(self._rows, n_open) if self._rows else self._words("nothing"))

    def _say(self, key, **values):
        self._tell_status(self._words(key, **values))

    def _words(self, key, **values):
        return self._pieces.html.text(self._pieces.say(f"page.{key}", **values))

    def _tell_status(self, html):
        self._status = html
        self._tell("status", html=html)

    def _tell(self, kind, buffers=(), **values):
        self.send({"kind": kind, **values}, list(buffers))


def build_demo(
    predictor=None, *, max_upload_mb: float = MAX_UPLOAD_MB, max_clips: int = MAX_CLIPS, language: str | None = None
) -> Demo:
    """Build the demo; display it as the last expression of a cell.

    Parameters
    ----------
    predictor : Predictor, optional
        Default: the shipped ones, for the visitor to choose from.
    max_upload_mb : float > 0 [MB]
        A larger recording is refused.
    max_clips : int > 0
        So many cards stay open, fewer if they hold more than 100 MB of sound; the table keeps all.
    language : "en" or "de", optional
        Default: that of the settings. The details of an error stay English.

    Returns
    -------
    demo : Demo
        Also drivable without a browser.

    Raises
    ------
    ConfigError
        If the shipped weights are missing, a limit is not above 0, or the language is not known.

    Examples
    --------
    >>> demo = build_demo()
    >>> demo.add("clip.wav", Path("clip.wav").read_bytes()).label  # doctest: +SKIP
    'happy'
    """
    return Demo(predictor, max_upload_mb, max_clips, language)


def _example(emotion):
    clip = settings.samples_dir() / f"{emotion}.flac"
    if clip.is_file():
        return clip.read_bytes()
    from sercore.corpora import synthetic

    return _encode(synthetic.synthesize(emotion), synthetic.SR, "FLAC")


def _encode(samples, sr, kind):
    file = io.BytesIO()
    sf.write(file, samples, sr, format=kind)
    return file.getvalue()


def _csv(table):
    """As spreadsheets want it: marked as UTF-8, and no cell that they would take for a formula."""
    words = table.select_dtypes(exclude="number").columns
    table = table.assign(**{name: table[name].map(_harmless) for name in words})
    return table.to_csv(index=False).encode("utf-8-sig")


def _harmless(cell):
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
