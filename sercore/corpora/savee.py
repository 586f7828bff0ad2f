"""corpora.savee: what SAVEE is, where it comes from, and what its file names say."""

import re
from pathlib import Path

from sercore.errors import CorpusError

NAME = "savee"
TITLE = "Surrey Audio-Visual Expressed Emotion database"
URL = "http://kahlan.eps.surrey.ac.uk/savee/"
DOI = None
LICENCE = "Free of charge for research; given to registered users only, so it cannot be fetched from here"
CITATION = (
    "Haq S, Jackson PJB (2010) Multimodal Emotion Recognition. In: Wang W (ed) Machine Audition: Principles, "
    "Algorithms and Systems. IGI Global, 398-423"
)
N_FILES = 480
BY_HAND = f"register at {URL} (Register), get AudioData.zip, and put it"

SPEAKERS = ("DC", "JE", "JK", "KL")
#: `sa` and `su` stand before the single letters: an `s` alone is none of them.
EMOTIONS_OF = {
    "sa": "sad", "su": "surprised", "a": "angry", "d": "disgust", "f": "fearful", "h": "happy", "n": "neutral",
}  # fmt: skip


def parse(filename):
    """Read the fields of a SAVEE file name; where the name lacks the speaker, its folder has it.

    Parameters
    ----------
    filename : str or Path
        Such as ``DC_a01.wav`` or ``DC/a01.wav``: speaker, emotion, number of the sentence.

    Returns
    -------
    fields : dict
        ``speaker``, ``sex``, ``emotion``, ``sentence`` (int, counted within its emotion), ``statement`` (None: the
        names do not tell which words), ``repetition`` and ``vocal_channel``.

    Raises
    ------
    CorpusError
        If a code is none of the corpus's.

    References
    ----------
    Naming: Info.txt in AudioData.zip. Fifteen sentences an emotion, thirty neutral; the speakers are men.
    """
    path = Path(filename)
    match = re.fullmatch(r"(?:([A-Z]+)_)?([a-z]+)(\d\d)", path.stem, flags=re.ASCII)
    if not match:
        raise CorpusError(
            f"Bad SAVEE file name {path.name!r}: expected speaker, emotion and sentence, as in DC_a01.wav or DC/a01.wav."
        )
    speaker, emotion, number = match[1] or path.parent.name, match[2], int(match[3])
    for what, code, known in (("speaker", speaker, SPEAKERS), ("emotion", emotion, EMOTIONS_OF)):
        if code not in known:
            raise CorpusError(f"Bad {what} {code!r} of {path.name}: expected one of {list(known)}.")
    last = 30 if emotion == "n" else 15
    if not 1 <= number <= last:
        raise CorpusError(f"Bad sentence {match[3]!r} in {path.name}: expected a number from 01 to {last}.")
    return {
        "speaker": speaker, "sex": "male", "emotion": EMOTIONS_OF[emotion], "sentence": number, "statement": None,
        "repetition": 1, "vocal_channel": "speech",
    }  # fmt: skip
