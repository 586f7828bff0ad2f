"""corpora.ravdess: what RAVDESS is, where it comes from, and what its file names say; the song is a corpus of its own."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from sercore.corpora.corpus import Corpus, clip_table
from sercore.errors import CorpusError
from sercore.labels import EMOTIONS

INTENSITIES = {1: "normal", 2: "strong"}
N_ACTORS = 24

#: What the codes say, in the order of the name.
_CODES = {
    "modality": {1: "full-AV", 2: "video-only", 3: "audio-only"},
    "vocal channel": {1: "speech", 2: "song"},
    "emotion": dict(enumerate(EMOTIONS, start=1)),
    "intensity": INTENSITIES,
    "statement": {1: "Kids are talking by the door", 2: "Dogs are sitting by the door"},
    "repetition": {1: 1, 2: 2},
    "actor": {actor: actor for actor in range(1, N_ACTORS + 1)},
}
_SONG_EMOTIONS = EMOTIONS[:6]
_NO_SONG_ACTOR = 18


def parse(filename: str | Path) -> dict:
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

    Examples
    --------
    >>> parse("03-01-06-01-02-01-12.wav")["emotion"]
    'fearful'
    """
    name, stem = Path(filename).name, Path(filename).stem
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


def parse_song(filename: str | Path) -> dict:
    """Read the fields of a song's file name as `parse` does; speech is refused."""
    fields = parse(filename)
    if fields["vocal_channel"] != "song":
        raise CorpusError(f"Bad vocal channel '01' in {Path(filename).name}: expected song (02); speech is in ravdess.")
    return fields


def official_path(path: Path, fields: dict) -> str:
    """Give a clip's place in the official folders; refuse video's sound track, and another actor's folder."""
    if fields["modality"] != "audio-only":
        raise CorpusError(f"Bad modality {fields['modality']!r} in {path.name}: expected audio-only (03).")
    official, folder = f"Actor_{fields['actor']:02d}", path.parent.name
    if folder.lower().startswith("actor_") and folder.lower() != official.lower():
        raise CorpusError(f"Bad place of {path.name}: its name says actor {fields['actor']:02d}, its folder {folder}.")
    return f"{official}/{path.stem}"


def expected_files(vocal_channel: str = "speech") -> list[str]:
    """List the stems of the official audio-only files, sorted: 1440 of speech, 1012 of song."""
    song = vocal_channel == "song"
    emotions = range(1, 1 + len(_SONG_EMOTIONS if song else EMOTIONS))
    actors = [actor for actor in range(1, N_ACTORS + 1) if not (song and actor == _NO_SONG_ACTOR)]
    return [
        "-".join(f"{code:02d}" for code in (3, 2 if song else 1, emotion, intensity, *rest))
        for emotion, intensity, *rest in product(emotions, INTENSITIES, (1, 2), (1, 2), actors)
        if EMOTIONS[emotion - 1] != "neutral" or INTENSITIES[intensity] == "normal"
    ]


def recorded_clips() -> pd.DataFrame:
    """Lay out the clip table of the speech from its official names: recorded scores can be read without the audio."""
    rows = []
    for stem in expected_files():
        path, fields = Path(f"{stem}.wav"), parse(stem)
        rows.append(CORPUS.row(path, official_path(path, fields), fields))
    return clip_table(rows)


CORPUS = Corpus(
    name="ravdess",
    title="Ryerson Audio-Visual Database of Emotional Speech and Song",
    parse=parse,
    url="https://zenodo.org/records/1188976",
    doi="10.5281/zenodo.1188976",
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Livingstone SR, Russo FA (2018) The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS). "
        "PLoS ONE 13(5): e0196391. doi:10.1371/journal.pone.0196391"
    ),
    n_files=1440,
    home="https://zenodo.org/records/1188976/files/",
    by_hand="get Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976 and put it",
    archives={"Audio_Speech_Actors_01-24.zip": (208_468_073, "md5:bc696df654c87fed845eb13823edef8a")},
    expected_files=expected_files,
    official_path=official_path,
)

#: Apart, so that no score on speech changes by fetching it.
SONG = replace(
    CORPUS,
    name="ravdess_song",
    title=f"{CORPUS.title}: song",
    parse=parse_song,
    n_files=1012,
    by_hand=f"get Audio_Song_Actors_01-24.zip from {CORPUS.url} and put it",
    archives={"Audio_Song_Actors_01-24.zip": (225_505_317, "md5:5411230427d67a21e18aa4d466e6d1b9")},
    # The same people as in the speech: their speaker names say so, and no split can part them.
    people="ravdess",
    expected_files=lambda vocal_channel="song": expected_files(vocal_channel),
)
