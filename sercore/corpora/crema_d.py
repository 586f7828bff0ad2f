"""corpora.crema_d: what CREMA-D is, where it comes from, and what its file names say."""

import re
import zipfile
from pathlib import Path

from sercore.corpora.corpus import Corpus, read_name
from sercore.errors import CorpusError

URL = "https://github.com/CheyneyComputerScience/CREMA-D"
EMOTIONS_OF = {"NEU": "neutral", "HAP": "happy", "SAD": "sad", "ANG": "angry", "FEA": "fearful", "DIS": "disgust"}
#: XX is unspecified; older copies have 1040_ITH_SAD_X.wav: issue 6 of the repository.
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": None, "X": None}
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
#: Of the actors 1001 to 1091, in this order: VideoDemographics.csv of the repository.
SEXES = "MFFFMFFFFFMFFMMMMFMFFMMFFMMFFFMMMMMMFMMMMMFMMFFMFMMFFFFFMFMFFMFMMMMMMMMFFFFFMFFMMFMFMMMMFMF"
SPEAKERS = {str(number): {"M": "male", "F": "female"}[sex] for number, sex in enumerate(SEXES, start=1001)}


def parse(filename: str | Path) -> dict:
    """Read actor, sentence, emotion and level of a file name, as README.md of the repository has them."""
    form = "actor, sentence, emotion and level, as in 1001_DFA_ANG_XX.wav"
    pattern = r"(?P<speaker>\d{4})_(?P<statement>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<intensity>[A-Z]{1,2})"
    codes = {"speaker": list(SPEAKERS), "statement": STATEMENTS, "emotion": EMOTIONS_OF, "intensity": INTENSITIES}
    fields = read_name(filename, "CREMA-D", form, pattern, **codes)
    return {**fields, "sex": SPEAKERS[fields["speaker"]], "repetition": 1}


def read_listing(path: str | Path) -> dict[str, tuple[str, int, str]]:
    """Read the pointers of git-lfs in the repository's archive: name -> place, size [bytes], checksum."""
    remotes = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            clip = re.search(r"(?:^|/)AudioWAV/([^/]+\.wav)$", member)
            if not clip:
                continue
            pointer = archive.read(member).decode("ascii", errors="replace")
            match = re.search(r"^oid sha256:([0-9a-f]{64})\nsize (\d+)$", pointer, flags=re.MULTILINE)
            if not match:
                raise CorpusError(f"Bad pointer {member} in {Path(path).name}: expected git-lfs's oid and size.")
            remotes[clip[1]] = (f"raw/master/AudioWAV/{clip[1]}", int(match[2]), f"sha256:{match[1]}")
    return remotes


CORPUS = Corpus(
    name="crema_d",
    title="Crowd-sourced Emotional Multimodal Actors Dataset",
    parse=parse,
    url=URL,
    licence="Open Database License 1.0; its contents Database Contents License 1.0",
    citation=(
        "Cao H, Cooper DG, Keutmann MK, Gur RC, Nenkova A, Verma R (2014) CREMA-D: Crowd-sourced Emotional Multimodal "
        "Actors Dataset. IEEE Transactions on Affective Computing 5(4): 377-390. doi:10.1109/TAFFC.2014.2336244"
    ),
    n_files=7442,
    home=f"{URL}/",
    by_hand=(
        f"clone {URL} with git-lfs, or where its quota is spent take the authors' mirror "
        "https://gitlab.com/cs-cooper-lab/crema-d-mirror, and put AudioWAV/"
    ),
    # GitHub's archive of a git-lfs repository holds pointers: each names its file's SHA-256 and size.
    listing="archive/refs/heads/master.zip",
    read_listing=read_listing,
    broken={"1076_MTI_SAD_XX": "known to hold no sound (issue 8 of CREMA-D's repository)"},
    official_path=lambda path, fields: re.sub("_X$", "_XX", path.stem),
)
