"""corpora.ravdess: what RAVDESS is, where it comes from, and what its file names say."""

import re
from pathlib import Path

from sercore.errors import CorpusError
from sercore.labels import EMOTIONS

NAME = "ravdess"
TITLE = "Ryerson Audio-Visual Database of Emotional Speech and Song"
URL = "https://zenodo.org/records/1188976"
DOI = "10.5281/zenodo.1188976"
LICENCE = "CC BY-NC-SA 4.0"
CITATION = (
    "Livingstone SR, Russo FA (2018) The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS). "
    "PLoS ONE 13(5): e0196391. doi:10.1371/journal.pone.0196391"
)
#: As Zenodo publishes them: name -> size [bytes] and checksum. The song is `ravdess_song`.
HOME = "https://zenodo.org/records/1188976/files/"
ARCHIVES = {"Audio_Speech_Actors_01-24.zip": (208_468_073, "md5:bc696df654c87fed845eb13823edef8a")}
BY_HAND = f"get Audio_Speech_Actors_01-24.zip from {URL} and put it"

MODALITIES = {1: "full-AV", 2: "video-only", 3: "audio-only"}
VOCAL_CHANNELS = {1: "speech", 2: "song"}
INTENSITIES = {1: "normal", 2: "strong"}
STATEMENTS = {1: "Kids are talking by the door", 2: "Dogs are sitting by the door"}
N_ACTORS = 24

_CODES = {
    "modality": MODALITIES,
    "vocal channel": VOCAL_CHANNELS,
    "emotion": dict(enumerate(EMOTIONS, start=1)),
    "intensity": INTENSITIES,
    "statement": STATEMENTS,
    "repetition": {1: 1, 2: 2},
    "actor": {actor: actor for actor in range(1, N_ACTORS + 1)},
}
_SONG_EMOTIONS = EMOTIONS[:6]
_NO_SONG_ACTOR = 18


def parse(filename):
    """Read the seven fields of a RAVDESS file name.

    Parameters
    ----------
    filename : str or Path
        Such as ``03-01-06-01-02-01-12.wav``; folders before it and the suffix do not matter.

    Returns
    -------
    fields : dict
        ``modality``, ``vocal_channel``, ``emotion``, ``intensity``, ``statement``, ``repetition``,
        ``actor`` (int), ``speaker`` (its two digits) and ``sex`` ("female" or "male").

    Raises
    ------
    CorpusError
        If a code is outside its range, or the fields contradict each other: neutral is never strong,
        and song has neither disgust nor surprised.

    References
    ----------
    Naming: https://zenodo.org/records/1188976, "File naming convention"; even actors are female.
    """
    name = Path(filename).name
    stem = Path(filename).stem
    if not re.fullmatch(r"\d\d(-\d\d){6}", stem, flags=re.ASCII):
        raise CorpusError(
            f"Bad RAVDESS file name {name!r}: expected seven two-digit codes, as in 03-01-06-01-02-01-12.wav."
        )
    values = {}
    for (field, codes), code in zip(_CODES.items(), stem.split("-"), strict=True):
        if int(code) not in codes:
            raise CorpusError(f"Bad {field} {code!r} in {name}: expected a code from 01 to {max(codes):02d}.")
        values[field.replace(" ", "_")] = codes[int(code)]
    if values["emotion"] == "neutral" and values["intensity"] == "strong":
        raise CorpusError(
            f"Bad intensity '02' in {name}: expected 01, because neutral is recorded at normal intensity only."
        )
    if values["vocal_channel"] == "song":
        if values["emotion"] not in _SONG_EMOTIONS:
            raise CorpusError(
                f"Bad emotion {values['emotion']!r} in {name}: expected one of {list(_SONG_EMOTIONS)} in song."
            )
        if values["actor"] == _NO_SONG_ACTOR:
            raise CorpusError(f"Bad actor '{_NO_SONG_ACTOR}' in {name}: this actor recorded no song.")
    return values | {"speaker": f"{values['actor']:02d}", "sex": "male" if values["actor"] % 2 else "female"}


def expected_files(vocal_channel="speech"):
    """List the stems of the official audio-only files: 1440 of speech, 1012 of song.

    Parameters
    ----------
    vocal_channel : {"speech", "song"}

    Returns
    -------
    stems : list of str
        Such as ``03-01-06-01-02-01-12``, sorted.
    """
    channel = {name: code for code, name in VOCAL_CHANNELS.items()}[vocal_channel]
    stems = []
    for emotion in range(1, 9):
        for intensity in INTENSITIES:
            for rest in ((s, r, a) for s in STATEMENTS for r in (1, 2) for a in range(1, N_ACTORS + 1)):
                stem = "-".join(f"{code:02d}" for code in (3, channel, emotion, intensity, *rest))
                try:
                    parse(stem)
                except CorpusError:
                    continue
                stems.append(stem)
    return sorted(stems)
