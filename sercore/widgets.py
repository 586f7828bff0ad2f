"""widgets: upload or speak in a notebook or web page, and see emotion, certainty and doubts of each recording.

Browser and kernel exchange bytes; nothing is written to disk. Words and HTML come from pieces, the player from card, what
is live from live.
"""

import base64
import gc
import io
from importlib.util import find_spec

import ipywidgets as widgets
import pandas as pd
import soundfile as sf

from sercore import settings
from sercore.audio import MAX_DURATION_S
from sercore.card import Card, Player, without_browser
from sercore.errors import AudioError, ConfigError
from sercore.labels import EMOTIONS
from sercore.live import Live, Microphone
from sercore.pieces import Pieces, close, half, wrap
from sercore.predict import COLUMNS, Prediction, kept, prediction_row
from sercore.upload import MAX_UPLOAD_MB, Upload

#: So many cards stay open, and so many MB of sound in them; older ones keep their row in the table.
MAX_CLIPS, MAX_KEPT_MB = 50, 100
#: What a visitor chooses from: the shipped networks, whose words say what each is meant for.
CHOICE = ("any_voice", "ravdess")


class Demo(widgets.VBox):
    """Upload or speak, and see a card for each recording, and a table of all of them; made by `build_demo`.

    Without a browser: `add` takes a file, ``microphone.recording`` a recording, ``microphone.listen`` live audio.
    `clips` is the table, ``live.heard`` the live timeline, and `snapshot` what is shown.
    """

    def __init__(self, predictor, max_upload_mb, max_clips, language):
        for option, value in (("max_upload_mb", max_upload_mb), ("max_clips", max_clips)):
            if not value > 0:
                raise ConfigError(f"Bad {option} {value!r}: expected a number above 0.")
        self._max_mb, self._max_clips, self._pieces = max_upload_mb, max_clips, Pieces(language)
        self._rows, self._n_spoken, self._cleared, self._later = [], 0, None, []
        say, html, words = self._pieces.say, self._pieces.html, self._pieces.words
        self.live = Live(self._pieces)
        self._answer_by(predictor or kept(), predictor.checkpoint.stem if predictor else CHOICE[0])
        choice = [(say(f"page.{name}"), name) for name in CHOICE]
        self.variant = widgets.RadioButtons(options=choice, description=say("page.model"))
        self._only = predictor is not None
        self.variant.layout.display = "none" if self._only else ""
        hint = html.hint(max_upload_mb, MAX_DURATION_S, find_spec("av"))
        self.upload = Upload(self._add, self._work, max_mb=max_upload_mb, hint=hint, words=words["upload"])
        self.microphone = Microphone(self.live.listen, words=words["microphone"])
        self.explanation = widgets.Checkbox(True, description=say("page.explain"), indent=False)
        self.clear = widgets.Button(description=say("page.clear"), icon="trash")
        self.status, self.table, self.download, self.results = *(widgets.HTML() for _ in range(3)), widgets.VBox()
        self.microphone.observe(self._on_recording, names="recording")
        self.variant.observe(self._on_variant, names="value")
        self.clear.on_click(lambda _: self._undo() if self._cleared else self._forget())
        controls = widgets.HBox([self.status, self.clear, self.download]).add_class("ser-controls")
        ways = wrap(self.microphone.add_class("ser-half"), self.upload.add_class("ser-half")).add_class("ser-top")
        top = [widgets.HTML(html.intro()).add_class("ser-intro"), ways, self._examples(), controls]
        options = widgets.VBox([self.variant, self.explanation]).add_class("ser-options")
        super().__init__([*top, self.live, self.results, self.table, options])
        self.add_class("ser-demo")
        self._sum_up()

    @property
    def clips(self) -> pd.DataFrame:
        """All recordings of the session: as `Predictor.predict_files`, with ``model``, and ``told``: what it was, you say."""
        return pd.DataFrame(self._rows, columns=["file", "model", *COLUMNS[2:], "told"])

    def add(self, name: str, content: bytes) -> Prediction | None:
        """Predict one recording and show its card, as if it had been uploaded; None if it cannot be used."""
        prediction = self._add(str(name), bytes(content), len(content))
        self._work()
        return prediction

    def try_example(self, emotion: str) -> Prediction:
        """Add the clip that the button of this emotion stands for."""
        return self.add(f"example-{emotion}.flac", _example(emotion))

    def snapshot(self) -> str:
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook."""
        parts = [without_browser(widget) for widget in (self.status, self.live, self.results, self.table)]
        return f'{self._pieces.html.style()}<div class="ser-demo">{"".join(parts)}</div>'

    def _examples(self):
        """A button for each clip of data/samples, or where they are not there, for each emotion of the synthesiser."""
        buttons, real = [], settings.samples_dir().is_dir()
        for emotion in EMOTIONS:
            name = self._pieces.emotion(emotion)
            buttons.append(widgets.Button(description=name, tooltip=self._pieces.say("page.example", emotion=name)))
            buttons[-1].on_click(lambda _, emotion=emotion: self.try_example(emotion))
        return widgets.Box([widgets.HTML(self._pieces.html.examples(real)), *buttons]).add_class("ser-examples")

    def _add(self, name, content, size):
        self._say("listening", name=name)
        try:
            y = self._load(name, content, size)
            prediction = self._predictor.predict((y, self._predictor.config.sr))
        except AudioError as error:
            prediction = None
            complaint = widgets.HTML(self._pieces.html.complaint(name, str(error)))
            self._show(name, {"file": name, "error": str(error)}, [complaint])
        else:
            self._answer(name, y, prediction)
        self._sum_up()
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

    def _answer(self, name, y, prediction):
        html, player = self._pieces.html, Player(self._pieces, self._predictor, name, y, prediction)
        head, second = widgets.HTML(html.head(name, prediction)), widgets.HTML()
        sides = wrap(half(widgets.HTML(html.bars(prediction))), half(player))
        asked = [] if self._only else [self._ask_other(player, second)]
        remarks = " ".join(map(self._pieces.doubt, prediction.warnings))
        row = prediction_row(name, prediction) | {"remarks": remarks}
        card = self._show(name, row, [head, second, player.answer, sides], asked, player)
        player.observe(lambda change: self._on_told(card, change["new"]), names="told")
        # The answer is there; what takes longer follows when all of a queue is answered.
        if player.is_long:
            self._later.append((player, player.follow, "following", {"name": name}))
        if self.explanation.value and player.is_explicable:
            emotion = self._pieces.emotion(prediction.label)
            self._later.append((player, player.explain, "looking", {"name": name, "emotion": emotion}))

    def _work(self):
        """Do what the answers did not wait for."""
        done = bool(self._later)
        while self._later:
            player, job, key, values = self._later.pop(0)
            if player.comm is not None:  # its card is still open
                self._say(key, **values)
                job()
        if done:
            self._sum_up()
        gc.collect()  # a closed card hangs in cycles, of which Python would let a hundred gather

    def _ask_other(self, player, place):
        other = next(name for name in CHOICE if name != self._model)
        button = widgets.Button(description=self._pieces.say("card.ask", network=other))

        def ask(_):
            button.layout.display = "none"
            place.value = self._pieces.html.other(kept(other).predict((player.load(), player.sr)))

        button.on_click(ask)
        return button

    def _show(self, name, row, parts, buttons=(), player=None):
        self._drop_cleared()
        row = row | {"model": self._model, "told": ""}
        self._rows.append(row)
        say = self._pieces.say
        remove = widgets.Button(description=say("card.remove"), tooltip=say("card.remove_it", name=name))
        new = Card(row, parts, [*buttons, remove], player)
        remove.on_click(lambda _: self._remove(new))
        cards = [new, *self.results.children]
        while len(cards) > 1 and (
            len(cards) > self._max_clips
            or sum(card.player.n_bytes for card in cards if card.player) > MAX_KEPT_MB * 10**6
        ):
            close(cards.pop())
        self.results.children = cards
        self._show_table()
        return new

    def _show_table(self):
        self.table.value = self._pieces.html.table(self._rows) if self._rows else ""
        self.download.value = self._pieces.html.csv_link(_base64(_csv(self.clips))) if self._rows else ""

    def _remove(self, card):
        self._rows = [row for row in self._rows if row is not card.row]
        self.results.children = [other for other in self.results.children if other is not card]
        close(card)
        self._show_table()
        self._sum_up()

    def _sum_up(self):
        self.clear.layout.visibility = "visible" if self._rows or self._cleared else "hidden"
        (self.add_class if self._rows else self.remove_class)("ser-answered")
        if self._rows:
            self.status.value = self._pieces.html.summary(self._rows, len(self.results.children))
        else:
            self._say("nothing")

    def _on_told(self, card, emotion):
        card.row["told"] = emotion
        self._show_table()
        self._sum_up()

    def _answer_by(self, predictor, model):
        self._predictor, self._model = predictor, model
        self.live.forget(predictor)

    def _on_variant(self, change):
        self._answer_by(kept(change["new"]), change["new"])
        self._say("changed", model=change["new"])

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
            self.clear.description, self.clear.icon = self._pieces.say("page.undo"), "undo"
        self._rows, self.results.children, self._n_spoken = [], (), 0
        self._show_table()
        self._sum_up()

    def _undo(self):
        self._rows, self.results.children, self._n_spoken = self._cleared
        self._keep()
        self._show_table()
        self._sum_up()

    def _drop_cleared(self):
        for card in self._cleared[1] if self._cleared else ():
            close(card)
        self._keep()

    def _keep(self):
        self._cleared, self.clear.description, self.clear.icon = None, self._pieces.say("page.clear"), "trash"

    def _say(self, key, **values):
        self.status.value = self._pieces.html.status(self._pieces.say(f"page.{key}", **values))


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
        Default: that of the settings. Most error messages come from the library and stay English.

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
