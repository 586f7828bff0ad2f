"""corpora.crema_d: what CREMA-D is, where it comes from, and what its file names say."""

import re
import zipfile
from pathlib import Path, PurePosixPath

from sercore.errors import CorpusError

NAME = "crema_d"
TITLE = "Crowd-sourced Emotional Multimodal Actors Dataset"
URL = "https://github.com/CheyneyComputerScience/CREMA-D"
DOI = None
LICENCE = "Open Database License 1.0; its contents Database Contents License 1.0"
CITATION = (
    "Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014) CREMA-D: Crowd-sourced Emotional Multimodal "
    "Actors Dataset. IEEE Transactions on Affective Computing 5(4): 377-390. doi:10.1109/TAFFC.2014.2336244"
)
N_FILES = 7442
#: The archive that GitHub makes of a git-lfs repository holds pointers: each names its file's SHA-256 and size.
HOME = f"{URL}/"
LISTING = "archive/refs/heads/master.zip"
BY_HAND = (
    f"clone {URL} with git-lfs, or where its quota is spent take the authors' mirror "
    "https://gitlab.com/cs-cooper-lab/crema-d-mirror, and put AudioWAV/"
)

EMOTIONS_OF = {
    "NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "fearful", "DIS": "disgust",
}  # fmt: skip
#: XX is unspecified.
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": None}
STATEMENTS = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}
#: Sex and age of actors 1001 to 1091, from VideoDemographics.csv of the repository.
_DEMOGRAPHICS = """
M51 F21 F21 F42 M29 F58 F38 F46 F24 F27 M32 F23 F22 M24 M32 M61 M42 F25 M29 F61 F30 M22 M22 F59 F48 M33 M44 F57 F33 F42
M31 M30 M31 M74 M48 M49 F45 M21 M51 M42 M42 M37 F25 M40 M22 F22 F22 M38 F25 M62 M56 F33 F35 F36 F57 F52 M25 F36 M21 F28
F51 M56 F33 M53 M38 M25 M66 M34 M27 M25 M41 F33 F24 F31 F40 F25 M20 F21 F21 M21 M30 F20 M45 F46 M34 M33 M62 M23 F24 M50
F29
"""
SPEAKERS = {
    str(number): ({"M": "male", "F": "female"}[code[0]], int(code[1:]))
    for number, code in enumerate(_DEMOGRAPHICS.split(), start=1001)
}
#: Official files without sound: issue 8 of the repository.
BROKEN = {"1076_MTI_SAD_XX": "known to hold no sound (issue 8 of CREMA-D's repository)"}


def parse(filename):
    """Read the fields of a CREMA-D file name.

    Parameters
    ----------
    filename : str or Path
        Such as ``1001_DFA_ANG_XX.wav``: actor, sentence, emotion, level.

    Returns
    -------
    fields : dict
        ``speaker``, ``sex``, ``age`` (int, in years), ``emotion``, ``intensity`` (None where unspecified),
        ``statement``, ``repetition`` and ``vocal_channel``.

    Raises
    ------
    CorpusError
        If a code is none of the corpus's.

    References
    ----------
    Naming and sentences: https://github.com/CheyneyComputerScience/CREMA-D, README.md.
    """
    name, stem = Path(filename).name, Path(filename).stem
    match = re.fullmatch(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_([A-Z]{1,2})", stem, flags=re.ASCII)
    if not match:
        raise CorpusError(
            f"Bad CREMA-D file name {name!r}: expected actor, sentence, emotion and level, as in 1001_DFA_ANG_XX.wav."
        )
    actor, sentence, emotion, level = match.groups()
    level = "XX" if level == "X" else level  # older copies have 1040_ITH_SAD_X.wav: issue 6 of the repository
    for what, code, known in (
        ("actor", actor, SPEAKERS), ("sentence", sentence, STATEMENTS), ("emotion", emotion, EMOTIONS_OF),
        ("level", level, INTENSITIES),
    ):  # fmt: skip
        if code not in known:
            expected = "a number from 1001 to 1091" if what == "actor" else f"one of {list(known)}"
            raise CorpusError(f"Bad {what} {code!r} in {name}: expected {expected}.")
    sex, age = SPEAKERS[actor]
    return {
        "speaker": actor, "sex": sex, "age": age, "emotion": EMOTIONS_OF[emotion], "intensity": INTENSITIES[level],
        "statement": STATEMENTS[sentence], "repetition": 1, "vocal_channel": "speech",
    }  # fmt: skip


def read_listing(path):
    """Read the pointers of git-lfs in the repository's archive.

    Parameters
    ----------
    path : str or Path
        The zip that `LISTING` names.

    Returns
    -------
    remotes : dict of str to tuple
        File name -> URL below `HOME`, size [bytes], checksum.

    Raises
    ------
    CorpusError
        If a clip in it is no pointer.
    """
    remotes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            name = PurePosixPath(member).name
            if not re.search(r"(^|/)AudioWAV/[^/]+\.wav$", member):
                continue
            pointer = archive.read(member).decode("ascii", errors="replace")
            match = re.search(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", pointer, flags=re.MULTILINE)
            if not match:
                raise CorpusError(f"Bad pointer {member} in {Path(path).name}: expected git-lfs's oid and size.")
            remotes[name] = (f"raw/master/AudioWAV/{name}", int(match[2]), f"sha256:{match[1]}")
    return remotes
