"""corpora.tess: what TESS is, where it comes from, and what its file names say."""

import json
import re
from pathlib import Path

from sercore.errors import CorpusError

NAME = "tess"
TITLE = "Toronto Emotional Speech Set"
URL = "https://borealisdata.ca/dataset.xhtml?persistentId=doi:10.5683/SP2/E8H2MF"
DOI = "10.5683/SP2/E8H2MF"
LICENCE = "CC BY-NC-ND 4.0"
CITATION = "Pichora-Fuller MK, Dupuis K (2020) Toronto emotional speech set (TESS). Borealis. doi:10.5683/SP2/E8H2MF"
N_FILES = 2800
#: Borealis lists every file with its size and MD5.
HOME = "https://borealisdata.ca/api/"
LISTING = f"datasets/:persistentId/?persistentId=doi:{DOI}"
BY_HAND = f"choose Access Dataset, Download ZIP at {URL} and put it"

#: An older and a younger woman; one official file lacks the F.
SPEAKERS = {"OAF": "OAF", "OA": "OAF", "YAF": "YAF"}
EMOTIONS_OF = {
    "angry": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy", "neutral": "neutral",
    "ps": "surprised", "sad": "sad",
}  # fmt: skip


def parse(filename):
    """Read the fields of a TESS file name.

    Parameters
    ----------
    filename : str or Path
        Such as ``OAF_back_angry.wav``: speaker, word, emotion; ``ps`` is pleasant surprise.

    Returns
    -------
    fields : dict
        ``speaker``, ``sex``, ``emotion``, ``statement``, ``repetition`` and ``vocal_channel``.

    Raises
    ------
    CorpusError
        If a code is none of the corpus's.
    """
    name, stem = Path(filename).name, Path(filename).stem
    match = re.fullmatch(r"([A-Z]+)_([a-z-]+)_([a-z]+)", stem, flags=re.ASCII)
    if not match:
        raise CorpusError(f"Bad TESS file name {name!r}: expected speaker, word and emotion, as in OAF_back_angry.wav.")
    speaker, word, emotion = match.groups()
    for what, code, known in (("speaker", speaker, SPEAKERS), ("emotion", emotion, EMOTIONS_OF)):
        if code not in known:
            raise CorpusError(f"Bad {what} {code!r} in {name}: expected one of {list(known)}.")
    return {
        "speaker": SPEAKERS[speaker], "sex": "female", "emotion": EMOTIONS_OF[emotion],
        "statement": f"Say the word {word}", "repetition": 1, "vocal_channel": "speech",
    }  # fmt: skip


def read_listing(path):
    """Read what Borealis says of the corpus's files.

    Parameters
    ----------
    path : str or Path
        The answer to `LISTING`, a JSON file.

    Returns
    -------
    remotes : dict of str to tuple
        File name -> URL below `HOME`, size [bytes], checksum.

    References
    ----------
    https://guides.dataverse.org/en/latest/api/native-api.html, "Get JSON Representation of a Dataset".
    """
    files = json.loads(Path(path).read_text(encoding="utf-8"))["data"]["latestVersion"]["files"]
    return {
        entry["label"]: (
            f"access/datafile/{entry['dataFile']['id']}",
            entry["dataFile"]["filesize"],
            f"md5:{entry['dataFile']['md5']}",
        )
        for entry in files
        if entry["label"].lower().endswith(".wav")
    }
