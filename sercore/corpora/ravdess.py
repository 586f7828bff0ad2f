"""corpora.ravdess: what RAVDESS is, where it comes from, and what its file names say; the song is a corpus of its own."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pandas as pd

from sercore.corpora.corpus import Corpus, clip_table, read_name
from sercore.errors import CorpusError
from sercore.labels import EIGHT

#: What the codes say, in the order of the name.
_CODES = {
    "modality": {"01": "full-AV", "02": "video-only", "03": "audio-only"},
    "vocal_channel": {"01": "speech", "02": "song"},
    "emotion": {f"{k:02d}": emotion for k, emotion in enumerate(EIGHT, start=1)},
    "intensity": {"01": "normal", "02": "strong"},
    "statement": {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"},
    "repetition": {"01": 1, "02": 2},
    "actor": {f"{k:02d}": k for k in range(1, 25)},
}
_SONG_EMOTIONS = EIGHT[:6]
_NO_SONG_ACTOR = 18


def parse(filename: str | Path) -> dict:
    """Read the seven fields of a RAVDESS file name, and ``speaker`` and ``sex``; even actors are female.

    Source: https://zenodo.org/records/1188976, "File naming convention". `CorpusError` if a code is outside its range,
    or there is no such clip: neutral is never strong, song never disgust or surprised.

    >>> parse("03-01-06-01-02-01-12.wav")["emotion"]
    'fearful'
    """
    form = "seven two-digit codes, as in 03-01-06-01-02-01-12.wav"
    pattern = "-".join(rf"(?P<{field}>\d\d)" for field in _CODES)
    fields = read_name(filename, "RAVDESS", form, pattern, **_CODES)
    name, emotion, actor = Path(filename).name, fields["emotion"], fields["actor"]
    if emotion == "neutral" and fields["intensity"] == "strong":
        raise CorpusError(f"Bad intensity '02' in {name}: expected 01, because neutral is never recorded strong.")
    if fields["vocal_channel"] == "song":
        if emotion not in _SONG_EMOTIONS:
            raise CorpusError(f"Bad emotion {emotion!r} in {name}: expected one of {list(_SONG_EMOTIONS)} in song.")
        if actor == _NO_SONG_ACTOR:
            raise CorpusError(f"Bad actor '{actor}' in {name}: this actor recorded no song.")
    return fields | {"speaker": f"{actor:02d}", "sex": "male" if actor % 2 else "female"}


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
    return [
        "-".join(("03", "02" if song else "01", emotion, intensity, *rest, actor))
        for emotion, intensity, *rest, actor in product(*list(_CODES.values())[2:])
        if (emotion, intensity) != ("01", "02") and not (song and (emotion > "06" or actor == str(_NO_SONG_ACTOR)))
    ]


def recorded_clips() -> pd.DataFrame:
    """Lay out the clip table of the speech from its official names: recorded scores can be read without the audio."""
    rows = [CORPUS.row(f"{stem}.wav", f"Actor_{stem[-2:]}/{stem}", parse(stem)) for stem in expected_files()]
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
