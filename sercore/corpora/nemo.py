"""corpora.nemo: what nEMO is, where it comes from, and what its file names say."""

from pathlib import Path

from sercore.corpora.corpus import Corpus, read_name

URL = "https://github.com/amu-cai/nEMO"
EMOTIONS_OF = {
    "anger": "angry",
    "fear": "fearful",
    "happiness": "happy",
    "neutral": "neutral",
    "sadness": "sad",
    "surprised": "surprised",
}
#: From data.tsv of the repository, which has their ages too: women of 23 to 28, men of 23 to 26.
SEX_OF = {"EB0": "female", "IC0": "female", "KD0": "female", "MK0": "female"}
SEX_OF |= dict.fromkeys(("KS0", "MP0", "SM0", "TP0", "WR0"), "male")


def parse(filename: str | Path) -> dict:
    """Read speaker, emotion and number of the sentence, which is one of ninety, as data.tsv has them."""
    form = "speaker, emotion and sentence, as in SM0_happiness_1.wav"
    pattern = r"(?P<speaker>[A-Z]{2}\d)_(?P<emotion>[a-z]+)_(?P<statement>\d{1,2})"
    fields = read_name(filename, "nEMO", form, pattern, speaker=list(SEX_OF), emotion=EMOTIONS_OF)
    return {**fields, "sex": SEX_OF[fields["speaker"]], "repetition": 1}


CORPUS = Corpus(
    name="nemo",
    title="nEMO: Dataset of Emotional Speech in Polish",
    parse=parse,
    url=URL,
    licence="CC BY-NC-SA 4.0",
    citation=(
        "Christop I (2024) nEMO: Dataset of Emotional Speech in Polish. LREC-COLING, 12111-12116. arXiv:2404.06292"
    ),
    n_files=4481,
    home=f"{URL}/archive/refs/heads/",
    by_hand=f"clone {URL} and put samples/",
    # GitHub packs it anew for each download, so there is neither size nor checksum: the zip's own sums are checked.
    archives={"main.zip": (None, None)},
)
