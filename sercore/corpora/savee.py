"""corpora.savee: what SAVEE is, where it comes from, and what its file names say."""

from pathlib import Path

from sercore.corpora.corpus import Corpus, read_name
from sercore.errors import CorpusError

SPEAKERS = ("DC", "JE", "JK", "KL")
#: An `s` alone is none of them.
EMOTIONS_OF = {
    "sa": "sad", "su": "surprised", "a": "angry", "d": "disgust", "f": "fearful", "h": "happy", "n": "neutral",
}  # fmt: skip


def parse(filename: str | Path) -> dict:
    """Read speaker, emotion and number of the sentence, not its words, as Info.txt in AudioData.zip has them."""
    form = "speaker, emotion and sentence, as in DC_a01.wav or DC/a01.wav"
    pattern = r"(?P<speaker>[^/_]+)[/_](?P<emotion>[a-z]+)(?P<sentence>\d\d)"
    fields = read_name(filename, "SAVEE", form, pattern, speaker=SPEAKERS, emotion=EMOTIONS_OF)
    last = 30 if fields["emotion"] == "neutral" else 15
    if not 1 <= int(fields["sentence"]) <= last:
        name = Path(filename).name
        raise CorpusError(f"Bad sentence {fields['sentence']!r} in {name}: expected a number from 01 to {last}.")
    return {**fields, "sex": "male", "statement": None, "repetition": 1}


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
