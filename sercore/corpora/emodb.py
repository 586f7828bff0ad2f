"""corpora.emodb: what EMO-DB is, where it comes from, and what its file names say."""

import re
from pathlib import Path

import pandas as pd

from sercore.errors import CorpusError

NAME = "emodb"
TITLE = "Berlin Database of Emotional Speech"
URL = "http://emodb.bilderbar.info"
DOI = "10.5281/zenodo.7447302"
LICENCE = "CC0 1.0, in audEERING's packaging"
CITATION = (
    "Burkhardt F, Paeschke A, Rolfes M, Sendlmeier W, Weiss B (2005) A Database of German Emotional Speech. "
    "Interspeech, 1517-1520. doi:10.21437/Interspeech.2005-446"
)
N_FILES = 535
#: The home publishes neither size nor checksum: the zip's own sums are checked, and the clips counted and decoded.
HOME = f"{URL}/download/"
ARCHIVES = {"download.zip": (None, None)}
BY_HAND = f"get download.zip from {HOME}download.zip and put it"

SPEAKERS = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male", "12": "male", "13": "female",
    "14": "female", "15": "male", "16": "female",
}  # fmt: skip
#: First letters of the German words. Boredom (L, Langeweile) is none of our eight.
EMOTIONS_OF = {
    "W": "angry", "L": None, "E": "disgust", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
STATEMENTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank",
    "a02": "Das will sie am Mittwoch abgeben",
    "a04": "Heute abend könnte ich es ihm sagen",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück",
    "a07": "In sieben Stunden wird es soweit sein",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen",
}


def parse(filename):
    """Read the fields of an EMO-DB file name.

    Parameters
    ----------
    filename : str or Path
        Such as ``03a01Fa.wav``: speaker, sentence, emotion, version.

    Returns
    -------
    fields : dict
        ``speaker``, ``sex``, ``emotion`` (None for boredom), ``statement``, ``repetition`` (1 for version a) and
        ``vocal_channel``.

    Raises
    ------
    CorpusError
        If a code is none of the corpus's.

    References
    ----------
    Naming, sentences and speakers: http://emodb.bilderbar.info/index-1280.html.
    """
    name, stem = Path(filename).name, Path(filename).stem
    match = re.fullmatch(r"(\d\d)([ab]\d\d)([A-Z])([a-z])", stem, flags=re.ASCII)
    if not match:
        raise CorpusError(
            f"Bad EMO-DB file name {name!r}: expected speaker, sentence, emotion and version, as in 03a01Fa.wav."
        )
    speaker, sentence, letter, version = match.groups()
    for what, code, known in (
        ("speaker", speaker, SPEAKERS), ("sentence", sentence, STATEMENTS), ("emotion", letter, EMOTIONS_OF),
    ):  # fmt: skip
        if code not in known:
            raise CorpusError(f"Bad {what} {code!r} in {name}: expected one of {list(known)}.")
    return {
        "speaker": speaker, "sex": SPEAKERS[speaker], "emotion": EMOTIONS_OF[letter],
        "statement": STATEMENTS[sentence], "repetition": ord(version) - ord("a") + 1, "vocal_channel": "speech",
    }  # fmt: skip


def listening_test(root):
    """Read how twenty listeners judged each recording.

    Parameters
    ----------
    root : str or Path
        The corpus's folder; ``erkennung.txt`` is searched in it.

    Returns
    -------
    judged : pd.DataFrame
        Index ``clip`` (file stem); columns ``recognised`` and ``natural`` [per cent of the listeners]. It has more
        rows than there are clips: only what was recognised and natural enough was published.

    Raises
    ------
    CorpusError
        If the file is not there, or a line is not as expected.
    """
    path = next(iter(sorted(Path(root).rglob("erkennung.txt"))), None)
    if path is None:
        raise CorpusError(f"No erkennung.txt in {root}: expected the listening test of EMO-DB's download.zip.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines()[1:], start=2):
        match = re.fullmatch(r"\d+\s+(\w{7})\.wav\s+(\d+,\d+)\s+(\d+,\d+)\s*", line)
        if line.strip() and not match:
            raise CorpusError(f"Bad line {number} of {path}: expected number, file and two percentages, got {line!r}.")
        if match:
            rows.append((match[1], *(float(share.replace(",", ".")) for share in match.groups()[1:])))
    return pd.DataFrame(rows, columns=["clip", "recognised", "natural"]).set_index("clip")
