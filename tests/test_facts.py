"""The numbers of README, model cards, data page, notebooks and talk are those on record."""

import json
import re
import shutil
import string
import sys
from pathlib import Path

import pandas as pd
import pytest

from sercore.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "data" / "results"
sys.path.insert(0, str(ROOT / "notebooks" / "slides"))

import facts  # noqa: E402

TALK = ROOT / "notebooks" / "slides" / "talk.md"
DOCUMENTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in facts.DOCUMENTS}
NOTEBOOKS = {path.stem: path.read_text(encoding="utf-8") for path in facts.NOTEBOOKS}
#: What looks like a score: 0.703, 70 %, 4.5 ± 1.9.
SCORE = re.compile(r"(?<![\d.])[01]\.\d{2,}(?![\d.])|\d+(?:\.\d+)? ?%|[\d.]+ ± [\d.]+")
#: No scores: the level of an interval, and the targets that were set before.
NO_SCORES = {"95 %", "0.55", "0.60", "0.75", "0.10", "75 %"}


def typed(text):
    """What looks like a score outside of the marks."""
    bare = facts.TABLE.sub("", facts.NUMBER.sub("", text))
    return [number for number in SCORE.findall(bare) if number not in NO_SCORES]


@pytest.fixture(scope="module")
def known():
    return facts.facts(RESULTS)


@pytest.mark.parametrize("name", [*DOCUMENTS, *NOTEBOOKS])
def test_a_document_says_what_the_record_says(name, known):
    text = (DOCUMENTS | NOTEBOOKS)[name]
    assert facts.fill(text, known) == text, "run `make facts`"


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if name >= "06"])
def test_prose_of_a_notebook_types_no_score(name):
    """A reading is printed by a cell from what is in memory, or marked as a fact; nothing is typed that can differ."""
    cells = [cell for cell in json.loads(NOTEBOOKS[name])["cells"] if cell["cell_type"] == "markdown"]
    found = {number for cell in cells for number in typed("".join(cell["source"]))}
    # Guessing, the limit of the warning "unsure", and a score that another project's README reports.
    assert found <= {"50 %", "12.5 %", "100 %", "80.4 %"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_marks_are_whole_and_never_begin_a_line_of_prose(name):
    text = DOCUMENTS[name]
    assert text.count("<!--=") == len(facts.NUMBER.findall(text))
    assert text.count("<!--table") == len(facts.TABLE.findall(text))
    assert re.findall("^<!--=.*", text, re.MULTILINE) == []  # GitHub would show such a line as it is


@pytest.mark.parametrize("name", list(DOCUMENTS)[:2])
def test_no_score_is_typed_in_README_and_model_cards(name):
    assert typed(DOCUMENTS[name]) == []


def test_the_talk_types_no_score_and_asks_for_known_facts(known):
    text = TALK.read_text(encoding="utf-8")
    assert typed(re.sub(r"{.*?}", "", text)) == []
    assert {name for _, name, _, _ in string.Formatter().parse(text) if name} <= set(known)


def test_a_score_that_is_typed_would_be_found():
    text = "reaches 0.703, or 70 % (95 % interval), 4.5 ± 1.9; <!--=uar:.2f-->0.70<!--/-->, sercore 0.1.0, DOI 10.1371"
    assert typed(text) == ["0.703", "70 %", "4.5 ± 1.9"]


def test_a_changed_record_is_noticed_everywhere_it_is_quoted(known, tmp_path):
    results = Path(shutil.copytree(RESULTS, tmp_path / "results"))
    scores = pd.read_csv(results / "scores.csv", dtype=str)
    scores.loc[(scores["recipe"] == "warped") & (scores["fold"] == "0"), "uar"] = "0.5"
    scores.to_csv(results / "scores.csv", index=False)
    changed = facts.facts(results)
    for name, text in DOCUMENTS.items():
        assert facts.fill(text, changed) != text, name
    assert changed["uar"] < known["uar"]
    assert changed["transfer"].equals(known["transfer"])


def test_four_folds_in_five_are_not_quoted(known, tmp_path, capsys):
    results = Path(shutil.copytree(RESULTS, tmp_path / "results"))
    scores = pd.read_csv(results / "scores.csv", dtype=str)
    scores[scores["fold"] != "4"].to_csv(results / "scores.csv", index=False)
    (results / "ablation.csv").unlink()
    some = facts.facts(results)
    assert {"uar", "leak", "scores", "pooled_uar", "versus", "variant"}.isdisjoint(some)
    assert {"quiet", "transfer", "layers"} <= set(some)
    assert "run `sercore ablate`" in capsys.readouterr().out


def test_marks_are_filled_in_place_and_stay():
    known = {"uar": 0.7034, "who": "men", "scores": pd.DataFrame({"a": [1], "b": ["x"]})}
    text = "UAR <!--=uar:.2f-->?<!--/--> (<!--=uar:.0%--><!--/-->) of <!--=who-->x<!--/-->\n"
    text += "\n<!--table scores-->\n<!--/table-->\n"
    filled = facts.fill(text, known)
    assert "UAR <!--=uar:.2f-->0.70<!--/--> (<!--=uar:.0%-->70 %<!--/-->) of <!--=who-->men<!--/-->" in filled
    assert "<!--table scores-->\n\n| a | b |\n| --- | --- |\n| 1 | x |\n\n<!--/table-->" in filled
    assert facts.fill(filled, known) == filled
    with pytest.raises(ConfigError, match=r"Bad marks \['uar'\]: expected names of recorded facts"):
        facts.fill(text[:30], {"who": "men"})
