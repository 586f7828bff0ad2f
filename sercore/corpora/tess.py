"""corpora.tess: what TESS is, where it comes from, and what its file names say."""

import json
import re
from pathlib import Path

from sercore.corpora.corpus import Corpus, check_code
from sercore.errors import CorpusError

#: An older and a younger woman; one official file, OA_bite_neutral, lacks the F.
SPEAKERS = {"OAF": "OAF", "OA": "OAF", "YAF": "YAF"}
#: `ps` is pleasant surprise.
EMOTIONS_OF = {
    "angry": "angry", "disgust": "disgust", "fear": "fearful", "happy": "happy", "neutral": "neutral",
    "ps": "surprised", "sad": "sad",
}  # fmt: skip


def parse(filename: str | Path) -> dict:
    """Read speaker, word and emotion of a file name such as ``OAF_back_angry.wav``."""
    name, stem = Path(filename).name, Path(filename).stem
    match = re.fullmatch(r"([A-Z]+)_([a-z-]+)_([a-z]+)", stem, flags=re.ASCII)
    if not match:
        raise CorpusError(f"Bad TESS file name {name!r}: expected speaker, word and emotion, as in OAF_back_angry.wav.")
    speaker, word, emotion = match.groups()
    check_code("speaker", speaker, SPEAKERS, name=name)
    check_code("emotion", emotion, EMOTIONS_OF, name=name)
    return {
        "speaker": SPEAKERS[speaker],
        "sex": "female",
        "emotion": EMOTIONS_OF[emotion],
        "statement": f"Say the word {word}",
        "repetition": 1,
    }


def official_path(path: Path, fields: dict) -> str:
    """Give a clip's official name, also where somebody has mended its speaker."""
    rest = path.stem.partition("_")[2]
    return "OA_bite_neutral" if rest == "bite_neutral" and fields["speaker"] == "OAF" else f"{fields['speaker']}_{rest}"


def read_listing(path: str | Path) -> dict[str, tuple[str, int, str]]:
    """Read what Borealis says of the corpus's files: name -> place, size [bytes], checksum.

    See https://guides.dataverse.org/en/latest/api/native-api.html, "Get JSON Representation of a Dataset".
    """
    listing = json.loads(Path(path).read_text(encoding="utf-8"))
    remotes = {}
    for entry in listing["data"]["latestVersion"]["files"]:
        file = entry["dataFile"]
        if entry["label"].lower().endswith(".wav"):
            remotes[entry["label"]] = (f"access/datafile/{file['id']}", file["filesize"], f"md5:{file['md5']}")
    return remotes


CORPUS = Corpus(
    name="tess",
    title="Toronto Emotional Speech Set",
    parse=parse,
    url="https://borealisdata.ca/dataset.xhtml?persistentId=doi:10.5683/SP2/E8H2MF",
    doi="10.5683/SP2/E8H2MF",
    licence="CC BY-NC-ND 4.0",
    citation="Pichora-Fuller MK, Dupuis K (2020) Toronto emotional speech set (TESS). Borealis. doi:10.5683/SP2/E8H2MF",
    n_files=2800,
    home="https://borealisdata.ca/api/",
    by_hand=(
        "choose Access Dataset, Download ZIP at "
        "https://borealisdata.ca/dataset.xhtml?persistentId=doi:10.5683/SP2/E8H2MF and put it"
    ),
    listing="datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
    read_listing=read_listing,
    official_path=official_path,
)
