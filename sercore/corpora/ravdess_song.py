"""corpora.ravdess_song: the sung half of RAVDESS, a corpus of its own so that no score on speech changes by fetching it."""

from pathlib import Path

from sercore.corpora import ravdess
from sercore.errors import CorpusError

NAME = "ravdess_song"
#: The same people as in the speech: their speaker names say so, and no split can part them.
PEOPLE = ravdess.NAME
TITLE = f"{ravdess.TITLE}: song"
URL, DOI, LICENCE, CITATION = ravdess.URL, ravdess.DOI, ravdess.LICENCE, ravdess.CITATION
HOME = ravdess.HOME
#: As `ravdess.ARCHIVES`.
ARCHIVES = {"Audio_Song_Actors_01-24.zip": (225_505_317, "md5:5411230427d67a21e18aa4d466e6d1b9")}
N_FILES = 1012
BY_HAND = f"get Audio_Song_Actors_01-24.zip from {URL} and put it"


def parse(filename):
    """Read the fields of a RAVDESS song's file name; see `ravdess.parse`.

    Parameters
    ----------
    filename : str or Path
        Such as ``03-02-06-01-02-01-12.wav``.

    Returns
    -------
    fields : dict

    Raises
    ------
    CorpusError
        Also if it is speech.
    """
    fields = ravdess.parse(filename)
    if fields["vocal_channel"] != "song":
        raise CorpusError(f"Bad vocal channel '01' in {Path(filename).name}: expected song (02); speech is in ravdess.")
    return fields


def expected_files(vocal_channel="song"):
    """List the stems of the 1012 official files; see `ravdess.expected_files`."""
    return ravdess.expected_files("song") if vocal_channel == "song" else []
