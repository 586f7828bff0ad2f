"""corpora.savee: what SAVEE is, where it comes from, and what its file names say."""

import re
from pathlib import Path

from sercore.corpora.corpus import Corpus, check_code
from sercore.errors import CorpusError

SPEAKERS = ("DC", "JE", "JK", "KL")
#: An `s` alone is none of them.
EMOTIONS_OF = {
    "sa": "sad", "su": "surprised", "a": "angry", "d": "disgust", "f": "fearful", "h": "happy", "n": "neutral",
}  # fmt: skip


def parse(filename: str | Path) -> dict:
    """Read speaker, emotion and number of the sentence of a name such as ``DC_a01.wav`` or ``DC/a01.wav``.

    ``sentence`` is counted within its emotion; the names do not tell which words. Fifteen an emotion, thirty neutral,
    all speakers men: Info.txt in AudioData.zip.
    """
    path = Path(filename)
    match = re.fullmatch(r"(?:([A-Z]+)_)?([a-z]+)(\d\d)", path.stem, flags=re.ASCII)
    if not match:
        raise CorpusError(
            f"Bad SAVEE file name {path.name!r}: expected speaker, emotion and sentence, as in DC_a01.wav or DC/a01.wav."
        )
    speaker, emotion, number = match[1] or path.parent.name, match[2], int(match[3])
    check_code("speaker", speaker, SPEAKERS, name=path.name)
    check_code("emotion", emotion, EMOTIONS_OF, name=path.name)
    last = 30 if emotion == "n" else 15
    if not 1 <= number <= last:
        raise CorpusError(f"Bad sentence {match[3]!r} in {path.name}: expected a number from 01 to {last}.")
    return {
        "speaker": speaker,
        "sex": "male",
        "emotion": EMOTIONS_OF[emotion],
        "sentence": number,
        "statement": None,
        "repetition": 1,
    }


CORPUS = Corpus(
    name="savee",
    title="Surrey Audio-Visual Expressed Emotion database",
    parse=parse,
    url="http://kahlan.eps.surrey.ac.uk/savee/",
    licence="Free of charge for research; given to registered users only, so it cannot be fetched from here",
    citation=(
        "Haq S, Jackson PJB (2010) Multimodal Emotion Recognition. In: Wang W (ed) Machine Audition: Principles, "
        "Algorithms and Systems. IGI Global, 398-423"
    ),
    n_files=480,
    by_hand="register at http://kahlan.eps.surrey.ac.uk/savee/ (Register), get AudioData.zip, and put it",
    # As in AudioData.zip, also where the name holds the speaker.
    official_path=lambda path, fields: f"{fields['speaker']}/{path.stem.rpartition('_')[2]}",
)
