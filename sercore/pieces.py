"""pieces: the words of the demo in the visitor's language (words.json), and the HTML that is made of them (widgets.html)."""

import base64
import io
import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from matplotlib.figure import Figure

from sercore import settings
from sercore.errors import ConfigError
from sercore.labels import COLORS
from sercore.predict import MIN_CONFIDENCE, Doubt

HERE = Path(__file__).parent
#: All that a visitor reads, by language, part of the page, and key.
WORDS = json.loads((HERE / "words.json").read_text(encoding="utf-8"))
_TEMPLATES = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)


class Pieces:
    """Words and HTML in one language; default: that of the settings.

    `html` has the macros of widgets.html, which escape names and messages.
    """

    def __init__(self, language: str | None = None):
        language = settings.language() if language is None else language
        if language not in WORDS:
            raise ConfigError(f"Bad language {language!r}: expected one of {list(WORDS)}.")
        self.words = WORDS[language]
        known = {"COLORS": COLORS, "MIN_CONFIDENCE": MIN_CONFIDENCE, "words": self.words, "say": self.say}
        known |= {"emotion": self.emotion, "number": self.number, "doubt": self.doubt, "error_words": self.error}
        self.html = _TEMPLATES.get_template("widgets.html").make_module(known)

    def say(self, key: str, **values) -> str:
        """Give the words of a key such as "card.silence", with the values in their places."""
        part, name = key.split(".")
        return self.words[part][name].format(**values)

    def emotion(self, name: str) -> str:
        """Name an emotion; one's own are called what they are called."""
        return self.words["emotions"].get(name, name)

    def doubt(self, doubt: Doubt) -> str:
        """Give the words of a doubt: in English the library's, which have numbers."""
        return self.words.get("doubts", {}).get(doubt.code, doubt.text)

    def error(self, message: str) -> str:
        """Give the words of an error by how its message begins; none in English, where the message says it all."""
        return next((said for start, said in self.words.get("errors", {}).items() if message.startswith(start)), "")

    def number(self, value: float, digits: int = 1) -> str:
        """Write a number as the language does."""
        return f"{value:.{digits}f}".replace(".", self.say("page.decimal"))

    def verdict(self, prediction) -> str:
        """Give the verdict without HTML."""
        return self.html.sentence(prediction).striptags()

    def heard(self, parts: list[tuple[float, float, str]], title: str) -> str:
        """Say a timeline, from when to when [s] which emotion; of a long recording, how it begins."""
        said = [self.say("card.until", emotion=self.emotion(label), seconds=f"{end:.0f}") for _, end, label in parts]
        more = f" {self.say('card.more', n=len(said) - 8)}" if len(said) > 8 else ""
        return f"{title}: {', '.join(said[:8])}{more}"

    def img(self, figure: Figure, text: str) -> str:
        """Make an image element of a figure, with an alternative text."""
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=200)
        return self.html.picture(base64.b64encode(png.getvalue()).decode(), text)
