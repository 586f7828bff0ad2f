"""corpora.tess: what TESS is, where it comes from, and what its file names say."""

import json
from pathlib import Path

from sercore.corpora.corpus import Corpus, read_name

URL = "https://borealisdata.ca/dataset.xhtml?persistentId=doi:10.5683/SP2/E8H2MF"
#: An older and a younger woman; one official file, OA_bite_neutral, lacks the F.
SPEAKERS = {"OAF": "OAF", "OA": "OAF", "YAF": "YAF"}
#: `ps` is pleasant surprise.
EMOTIONS_OF = {"fear": "fearful", "ps": "surprised"}
EMOTIONS_OF |= {emotion: emotion for emotion in ("angry", "disgust", "happy", "neutral", "sad")}


def parse(filename: str | Path) -> dict:
    """Read speaker, word and emotion of a file name such as ``OAF_back_angry.wav``."""
    form = "speaker, word and emotion, as in OAF_back_angry.wav"
    pattern = r"(?P<speaker>[A-Z]+)_(?P<word>[a-z-]+)_(?P<emotion>[a-z]+)"
    fields = read_name(filename, "TESS", form, pattern, speaker=SPEAKERS, emotion=EMOTIONS_OF)
    return {**fields, "sex": "female", "statement": f"Say the word {fields['word']}", "repetition": 1}


def official_path(path: Path, fields: dict) -> str:
    """Give a clip's official name, also where somebody has mended its speaker."""
    rest = path.stem.partition("_")[2]
    return "OA_bite_neutral" if rest == "bite_neutral" and fields["speaker"] == "OAF" else f"{fields['speaker']}_{rest}"


def read_listing(path: str | Path) -> dict[str, tuple[str, int, str]]:
    """Read the list of files of Dataverse's native API: name -> place, size [bytes], checksum."""
    files = json.loads(Path(path).read_text(encoding="utf-8"))["data"]["latestVersion"]["files"]
    return {
        label: (f"access/datafile/{file['id']}", file["filesize"], f"md5:{file['md5']}")
        for label, file in ((entry["label"], entry["dataFile"]) for entry in files)
        if label.lower().endswith(".wav")
    }


CORPUS = Corpus(
    name="tess",
    title="Toronto Emotional Speech Set",
    parse=parse,
    url=URL,
    doi="10.5683/SP2/E8H2MF",
    licence="CC BY-NC-ND 4.0",
    citation="Pichora-Fuller MK, Dupuis K (2020) Toronto emotional speech set (TESS). Borealis. doi:10.5683/SP2/E8H2MF",
    n_files=2800,
    home="https://borealisdata.ca/api/",
    by_hand=f"choose Access Dataset, Download ZIP at {URL} and put it",
    listing="datasets/:persistentId/?persistentId=doi:10.5683/SP2/E8H2MF",
    read_listing=read_listing,
    official_path=official_path,
)
