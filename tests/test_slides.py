"""The talk: the deck opens and can be read, its numbers are those on record, and nothing of it needs the net."""

import re
import shutil
import sys
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from PIL import Image

pptx = pytest.importorskip("pptx", reason="python-pptx is not installed: pip install -e '.[notebooks]'")

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / "figures"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TALK = (ROOT / "notebooks" / "slides" / "talk.md").read_text(encoding="utf-8")
CHROMIUM = Path("/usr/bin/chromium")
sys.path.insert(0, str(ROOT / "notebooks" / "slides"))

import make_slides  # noqa: E402

CAPTIONS = make_slides.read_captions(FIGURES)


@pytest.fixture(scope="module")
def known():
    return make_slides.facts(ROOT / "data" / "results")


def build(known, folder, figures=FIGURES, talk=TALK):
    slides = make_slides.read_talk(talk, known)
    make_slides.make_deck(slides, known, CAPTIONS, figures=figures, path=folder / "deck.pptx")
    return pptx.Presentation(folder / "deck.pptx")


@pytest.fixture(scope="module")
def deck(known, tmp_path_factory):
    return build(known, tmp_path_factory.mktemp("deck"))


def titles(deck):
    return [slide.shapes.title.text.replace("\u00a0", " ") for slide in deck.slides]


def text_height_pt(shape, size):
    """Estimate: a letter is half as wide as it is high, a line a fifth higher than its letters."""
    lines, letters = 0, (shape.width.pt - 14) / (0.5 * size)
    for paragraph in shape.text_frame.paragraphs:
        lines += -(-len(paragraph.text) // letters) if paragraph.text else 1
    return 1.2 * size * lines + 0.4 * size * (len(shape.text_frame.paragraphs) - 1) + 7


def test_the_deck_is_wide_and_whole_and_every_slide_says_how_its_numbers_are_made(deck):
    assert deck.slide_width / deck.slide_height == pytest.approx(16 / 9, abs=0.001)
    assert len(deck.slides) == TALK.count("\n# ")  # all that the talk asks for is on record
    for slide in deck.slides:
        assert slide.shapes[0] == slide.shapes.title  # what is read aloud first
        assert len({shape.shape_id for shape in slide.shapes}) == len(slide.shapes)  # else PowerPoint wants to repair
        story, _, command = slide.notes_slide.notes_text_frame.text.partition("\n\nTo reproduce: ")
        assert len(story) > 60
        assert command
        assert "{" not in story + command + slide.shapes.title.text


def test_every_picture_and_table_is_described_and_within_the_slide(deck):
    seen = []
    for slide in deck.slides:
        shown = [shape for shape in slide.shapes if shape.has_table or hasattr(shape, "image")]
        assert len(shown) <= 1  # one figure a slide
        for shape in shown:
            assert 0 <= shape.left and shape.left + shape.width <= deck.slide_width
            assert slide.shapes.title.top < shape.top + shape.height <= deck.slide_height
            description = shape._element.xpath(".//p:cNvPr")[0].get("descr")
            assert description.startswith("Table of") or description == (CAPTIONS | make_slides.DEMO)[shape.name]
            seen += [shape.name] if hasattr(shape, "image") else []
    assert len(seen) == len(set(seen)) >= 10


def test_no_text_leaves_its_box_or_lies_on_another(deck):
    for slide in deck.slides:
        title = slide.shapes.title
        assert text_height_pt(title, 30) <= title.height.pt, title.text
        assert title.width.pt < 400 or len(title.text) <= 57, title.text  # one line, unless beside a square figure
        for shape in slide.placeholders:
            if shape.placeholder_format.idx == 1:
                assert text_height_pt(shape, 24) <= shape.height.pt, title.text
                assert shape.top >= title.top + title.height or shape.left >= title.left + title.width
        for table in (shape.table for shape in slide.shapes if shape.has_table):
            for row in table.rows:
                for cell, column in zip(row.cells, table.columns, strict=True):
                    assert len(cell.text) * 0.5 * 20 <= column.width.pt - 14, cell.text


def test_titles_follow_the_facts(known, tmp_path):
    changed = known | {"leak_known": 0.9, "leak_unseen": 0.5, "leak": 40, "variant": "b", "variant_cost": 7.5}
    found = titles(build(changed, tmp_path))
    assert "Known voices 90 %, unseen voices 50 %" in found
    assert f"Warps: +{known['warp_gain']:.1f}; b: −7.5" in found


def test_what_was_not_measured_is_left_out_and_said(known, tmp_path, capsys):
    some = {name: known[name] for name in ("version", "n_statements", "n_speakers", "licence", "citation", "others")}
    deck = build(some, tmp_path)
    assert "Left out, a number was not measured: Known voices" in capsys.readouterr().out
    assert titles(deck)[0] == "Speech emotion recognition, honest about unseen speakers"
    assert len(deck.slides[0].placeholders[1].text_frame.paragraphs) == 1  # without the line of the score
    assert not [title for title in titles(deck) if "UAR" in title or "Known voices" in title]
    last = "".join(shape.text_frame.text for shape in deck.slides[-1].placeholders)
    for source in (
        "Livingstone SR, Russo FA (2018)",
        "10.1371/journal.pone.0196391",
        "CC BY-NC-SA 4.0",
        "CITATION.cff",
    ):
        assert source in last


def test_a_slide_whose_figure_is_missing_is_left_out(tmp_path, capsys):
    Image.new("RGB", (160, 90)).save(tmp_path / "05_leak.png")
    talk = "x\n# With\n\nfigure: 05_leak\ncommand: a\n\nTold.\n\n# Without\n\nfigure: 05_gone\ncommand: a\n\nTold.\n"
    assert titles(build({}, tmp_path, figures=tmp_path, talk=talk)) == ["With"]
    assert "no figure 05_gone.png" in capsys.readouterr().out
    talk = talk.replace("command:", "table: layers\ncommand:")
    deck = build({"layers": pd.DataFrame({"part": ["scores"]})}, tmp_path, figures=tmp_path, talk=talk)
    assert [sum(shape.has_table for shape in slide.shapes) for slide in deck.slides] == [0, 1]  # it stands in


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    make_slides.make_pages(NOTEBOOKS, CAPTIONS, figures=FIGURES, folder=folder)
    return folder


def test_pages_load_nothing_and_show_the_sharp_figures_with_their_captions(pages):
    assert len(list(pages.iterdir())) == len(NOTEBOOKS)
    for page in pages.iterdir():
        html = page.read_text(encoding="utf-8")
        loads = re.findall(
            r"""<(?:script|img|link|audio|iframe|source)\b[^>]*?\b(?:src|href)=["']([^"']{0,60})""", html
        )
        loads += re.findall(r"""url\(["']?([^"')]{0,60})""", html) + re.findall(r"@import[^;]{0,60}", html)
        assert [load for load in loads if not load.startswith(("data:", "#"))] == [], page.name
    assert CAPTIONS["05_leak"] in (pages / "05_evaluation.slides.html").read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.slow
def test_pages_work_without_the_net(pages):
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for path in sorted(pages.iterdir()):
            page = browser.new_context(viewport={"width": 1600, "height": 900}, offline=True).new_page()
            asked, errors = [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url.partition(":")[0]))
            page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
            page.goto(path.as_uri())
            n, wide = page.evaluate("pages.length"), []
            for k in range(n):
                assert page.locator("nav output").inner_text() == f"{k + 1} / {n}"
                wide += [k] if page.evaluate("document.documentElement.scrollWidth") > 1600 else []
                page.keyboard.press("ArrowRight")
            assert (n > 5, set(asked) - {"file", "data"}, errors, wide) == (True, set(), [], []), path.name
        browser.close()


def test_the_contact_sheet_has_every_figure_once_and_is_as_the_command_writes_it(tmp_path):
    figures = Path(shutil.copytree(FIGURES, tmp_path / "figures"))
    make_slides.make_contact_sheet(NOTEBOOKS, figures=figures)
    sheet = (FIGURES / "README.md").read_text(encoding="utf-8")
    assert (figures / "README.md").read_text(encoding="utf-8") == sheet
    listed = Counter(re.findall(r'<img src="(\w+)\.png"', sheet))
    assert listed == Counter(path.stem for path in FIGURES.glob("[0-9]*.png"))
    assert [name for name in listed if CAPTIONS.get(name, "").strip() in ("", name)] == []
    assert [link for link in re.findall(r"\]\(([^)]+)\)", sheet) if not (FIGURES / link).exists()] == []


def test_a_new_figure_comes_under_its_heading_and_captions_written_by_hand_stay(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# 09 · Nine\n\n## What is new\n\nProse."),
        nbformat.v4.new_code_cell('plots.save_figure(fig, "09_new")'),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "09_nine.ipynb")
    for name in ("09_new", "09_other"):
        Image.new("RGB", (16, 9)).save(tmp_path / f"{name}.png")
    make_slides.make_contact_sheet([tmp_path / "09_nine.ipynb"], figures=tmp_path)
    assert make_slides.read_captions(tmp_path) == {"09_new": "What is new", "09_other": "09_other"}
    sheet = tmp_path / "README.md"
    sheet.write_text(sheet.read_text().replace("| What is new |", '| A "new" thing. |'))
    make_slides.make_contact_sheet([tmp_path / "09_nine.ipynb"], figures=tmp_path)
    assert make_slides.read_captions(tmp_path)["09_new"] == 'A "new" thing.'
    assert 'alt="A &quot;new&quot; thing."' in sheet.read_text()
