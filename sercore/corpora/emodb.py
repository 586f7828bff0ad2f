"""corpora.emodb: what EMO-DB is, where it comes from, and what its file names say."""

from pathlib import Path

from sercore.corpora.corpus import Corpus, read_name

SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
WOMEN = ("08", "09", "13", "14", "16")
#: First letters of the German words. Boredom (L, Langeweile) is none of our eight.
EMOTIONS_OF = {"W": "angry", "L": None, "E": "disgust", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral"}
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


def parse(filename: str | Path) -> dict:
    """Read speaker, sentence, emotion and version, as http://emodb.bilderbar.info/index-1280.html has them."""
    form = "speaker, sentence, emotion and version, as in 03a01Fa.wav"
    pattern = r"(?P<speaker>\d\d)(?P<statement>[ab]\d\d)(?P<emotion>[A-Z])(?P<version>[a-z])"
    fields = read_name(filename, "EMO-DB", form, pattern, speaker=SPEAKERS, statement=STATEMENTS, emotion=EMOTIONS_OF)
    sex = "female" if fields["speaker"] in WOMEN else "male"
    return {**fields, "sex": sex, "repetition": ord(fields["version"]) - ord("a") + 1}


CORPUS = Corpus(
    name="emodb",
    title="Berlin Database of Emotional Speech",
    parse=parse,
    url="http://emodb.bilderbar.info",
    doi="10.5281/zenodo.7447302",
    licence="CC0 1.0, in audEERING's packaging",
    citation=(
        "Burkhardt F, Paeschke A, Rolfes M, Sendlmeier W, Weiss B (2005) A Database of German Emotional Speech. "
        "Interspeech, 1517-1520. doi:10.21437/Interspeech.2005-446"
    ),
    n_files=535,
    home="http://emodb.bilderbar.info/download/",
    by_hand="get download.zip from http://emodb.bilderbar.info/download/download.zip and put it",
    # The home publishes neither size nor checksum: the zip's own sums are checked, the clips counted and decoded.
    archives={"download.zip": (None, None)},
)
