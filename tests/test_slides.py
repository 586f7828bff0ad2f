"""The talk: the deck opens and can be read, its numbers are those on record, and nothing of it needs the net."""

import importlib.util
import re
import shutil
from collections import Counter
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from PIL import Image

pptx = pytest.importorskip("pptx", reason="python-pptx is not installed: pip install -e '.[notebooks]'")
MSO_SHAPE_TYPE = pptx.enum.shapes.MSO_SHAPE_TYPE

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = Path("/usr/bin/chromium")
FIGURES = ROOT / "figures"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TALK = (ROOT / "notebooks" / "talk.md").read_text(encoding="utf-8")

spec = importlib.util.spec_from_file_location("make_slides", ROOT / "notebooks" / "make_slides.py")
make_slides = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_slides)


@pytest.fixture(scope="module")
def facts():
    return make_slides.measure(ROOT / "data" / "results")


def build(facts, folder, figures=FIGURES, talk=TALK):
    slides = make_slides.read_talk(talk, facts)
    make_slides.make_deck(slides, facts, make_slides.read_captions(FIGURES), figures=figures, path=folder / "deck.pptx")
    return pptx.Presentation(folder / "deck.pptx")


@pytest.fixture(scope="module")
def deck(facts, tmp_path_factory):
    return build(facts, tmp_path_factory.mktemp("deck"))


def titles(deck):
    return [slide.shapes.title.text.replace("\u00a0", " ") for slide in deck.slides]


def description(shape):
    return shape._element.xpath(".//p:cNvPr")[0].get("descr")


def text_height_pt(shape, size):
    """Estimate: a letter is half as wide as it is high, a line a fifth higher than its letters."""
    lines, letters = 0, (shape.width.pt - 14) / (0.5 * size)
    for paragraph in shape.text_frame.paragraphs:
        lines += -(-len(paragraph.text) // letters) if paragraph.text else 1
    return 1.2 * size * lines + 0.4 * size * (len(shape.text_frame.paragraphs) - 1) + 7


def test_the_deck_is_wide_and_whole(deck):
    assert deck.slide_width / deck.slide_height == pytest.approx(16 / 9, abs=0.001)
    assert len(deck.slides) == TALK.count("\n# ")  # all that the talk asks for is on record
    assert 18 <= len(deck.slides) <= 26
    assert deck.core_properties.title == titles(deck)[0]


def test_every_slide_has_a_title_first_notes_and_the_command_that_makes_its_numbers(deck):
    for slide in deck.slides:
        assert slide.shapes[0] == slide.shapes.title  # what is read aloud first
        assert len({shape.shape_id for shape in slide.shapes}) == len(slide.shapes)  # else PowerPoint wants to repair
        assert slide.shapes.title.text
        notes = slide.notes_slide.notes_text_frame.text
        story, _, command = notes.partition("\n\nTo reproduce: ")
        assert len(story) > 60
        assert command
        assert "{" not in notes + slide.shapes.title.text


def test_every_picture_and_table_is_described_and_within_the_slide(deck):
    captions, seen = make_slides.read_captions(FIGURES), []
    for slide in deck.slides:
        shown = [shape for shape in slide.shapes if shape.has_table or shape.shape_type == MSO_SHAPE_TYPE.PICTURE]
        assert len(shown) <= 1  # one figure a slide
        for shape in shown:
            assert 0 <= shape.left and shape.left + shape.width <= deck.slide_width
            assert slide.shapes.title.top < shape.top + shape.height <= deck.slide_height
            assert description(shape).startswith("Table of") or description(shape) == captions[shape.name]
            seen += [shape.name] if shape.name in captions else []
    assert len(seen) == len(set(seen)) >= 10


def test_no_text_leaves_its_box_or_lies_on_another(deck):
    for slide in deck.slides:
        title = slide.shapes.title
        assert text_height_pt(title, 30) <= title.height.pt, title.text
        for shape in slide.placeholders:
            if shape.placeholder_format.idx == 1:
                assert text_height_pt(shape, 24) <= shape.height.pt, title.text
                assert shape.top >= title.top + title.height or shape.left >= title.left + title.width
        for table in (shape.table for shape in slide.shapes if shape.has_table):
            for row in table.rows:
                for cell, column in zip(row.cells, table.columns, strict=True):
                    assert len(cell.text) * 0.5 * 20 <= column.width.pt - 14, cell.text


def test_no_number_of_a_title_is_typed_in():
    typed = [
        line for line in TALK.splitlines() if line.startswith("# ") and re.search(r"\d", re.sub(r"{.*?}", "", line))
    ]
    assert typed == []


@pytest.fixture
def results(tmp_path):
    return Path(shutil.copytree(ROOT / "data" / "results", tmp_path / "results"))


def set_column(path, column, value):
    table = pd.read_csv(path)
    table[column] = value(table) if callable(value) else value
    table.to_csv(path, index=False)


def test_titles_follow_the_record(results, tmp_path):
    set_column(results / "cnn_random_5fold.csv", "uar", 0.9)
    set_column(results / "cnn_speaker_5fold.csv", "uar", lambda table: (table["seed"] == 0) * 0.5)
    noise = results / "noise_cnn_warped_ensemble_speaker_5fold.csv"
    set_column(noise, "uar", lambda table: table["noise"].map({"none": 0.7, "white": 0.4, "babble": 0.25}))
    set_column(results / "transfer.csv", "uar", [0.44] * len(pd.read_csv(results / "transfer.csv")))
    ablation = pd.DataFrame({"variant": ["recipe", "a", "b"], "fold": 0, "seed": 0, "uar": [0.6, 0.55, 0.525]})
    ablation.to_csv(results / "ablation.csv", index=False)
    found = titles(build(make_slides.measure(results), tmp_path))
    assert "Known voices 90 %, strangers 50 %: 40 points were acquaintance" in found
    assert "Noise as loud as the voice: white noise costs 30 points, babble 45" in found
    assert "Of the changes tried, “b” costs most: 7.5 points of UAR" in found
    assert any(title.startswith("On other corpora UAR falls to 44 %") for title in found)


def test_a_close_race_is_called_one(results):
    recorded = {path.name: path for path in (results / "out_of_fold").iterdir()}
    house = recorded.pop("cnn_warped_ensemble_speaker_5fold_seed0.csv")
    for path in recorded.values():
        path.unlink()
    shutil.copy(house, house.with_name("resnet18_speaker_5fold_seed0.csv"))
    assert make_slides.measure(results)["versus"].endswith("resnet18, too close to call")


def test_what_was_not_measured_is_left_out_and_said(results, tmp_path, capsys):
    for path in results.rglob("*.csv"):  # only the first row has been measured
        pd.read_csv(path).head(1).to_csv(path, index=False)
    (results / "ablation.csv").unlink()
    facts = make_slides.measure(results)
    assert {"uar", "known", "versus", "variant", "quiet"}.isdisjoint(facts)
    deck = build(facts, tmp_path)
    assert "run `sercore ablate`" in capsys.readouterr().out
    assert titles(deck)[0] == "Speech emotion recognition, honest about strangers"
    assert len(deck.slides[0].placeholders[1].text_frame.paragraphs) == 1  # without the line of the score
    assert not [title for title in titles(deck) if "On strangers" in title or "acquaintance" in title or "nan" in title]
    assert titles(deck)[-1] == "Sources and licence"


def test_scores_of_four_folds_in_five_are_not_quoted(results):
    for name in ("out_of_fold/cnn_warped_ensemble_speaker_5fold_seed0.csv", "cnn_random_5fold.csv"):
        pd.read_csv(results / name).query("fold < 4").to_csv(results / name, index=False)
    facts = make_slides.measure(results)
    assert {"uar", "known", "strangers", "scores"}.isdisjoint(facts)
    assert {"quiet", "transfer"} <= set(facts)


def test_a_slide_whose_figure_is_missing_is_left_out(tmp_path, capsys):
    Image.new("RGB", (160, 90)).save(tmp_path / "05_leak.png")
    talk = "x\n# With\n\nfigure: 05_leak\ncommand: a\n\nTold.\n\n# Without\n\nfigure: 05_gone\ncommand: a\n\nTold.\n"
    assert titles(build({}, tmp_path, figures=tmp_path, talk=talk)) == ["With"]
    assert "no figure 05_gone.png" in capsys.readouterr().out


def test_the_sources_are_named(deck):
    text = "".join(shape.text_frame.text for shape in deck.slides[-1].placeholders)
    for source in (
        "Livingstone SR, Russo FA (2018)",
        "10.1371/journal.pone.0196391",
        "CC BY-NC-SA 4.0",
        "CITATION.cff",
    ):
        assert source in text


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    make_slides.make_pages(NOTEBOOKS, make_slides.read_captions(FIGURES), figures=FIGURES, folder=folder)
    return folder


def test_pages_name_nothing_to_be_loaded(pages):
    assert len(list(pages.iterdir())) == len(NOTEBOOKS)
    for page in pages.iterdir():
        html = page.read_text(encoding="utf-8")
        loads = re.findall(
            r"""<(?:script|img|link|audio|iframe|source)\b[^>]*?\b(?:src|href)=["']([^"']{0,60})""", html
        )
        loads += re.findall(r"""url\(["']?([^"')]{0,60})""", html) + re.findall(r"@import[^;]{0,60}", html)
        assert [load for load in loads if not load.startswith(("data:", "#"))] == [], page.name


def test_figures_on_pages_are_the_sharp_ones_with_their_captions(pages):
    html = (pages / "05_evaluation.slides.html").read_text(encoding="utf-8")
    assert make_slides.read_captions(FIGURES)["05_leak"] in html
    assert "plots.plot_leak" not in html  # a figure's code is left to the notebook
    assert "per_emotion(y_true, y_pred)" in re.sub(r"<[^>]+>", "", html)


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
            n = page.evaluate("pages.length")
            wide = []
            for k in range(n):
                assert page.locator("nav output").inner_text() == f"{k + 1} / {n}"
                wide += [k] if page.evaluate("document.documentElement.scrollWidth") > 1600 else []
                page.keyboard.press("ArrowRight")
            assert (n > 5, set(asked) - {"file", "data"}, errors, wide) == (True, set(), [], []), path.name
            assert page.locator("main section section:visible").count() == 1
        browser.close()


def test_every_figure_is_on_the_contact_sheet_once_with_a_caption():
    sheet = (FIGURES / "README.md").read_text(encoding="utf-8")
    listed = Counter(re.findall(r'<img src="(\w+)\.png"', sheet))
    assert listed == Counter(path.stem for path in FIGURES.glob("*.png"))
    captions = make_slides.read_captions(FIGURES)
    assert set(captions) == set(listed)
    assert [name for name, caption in captions.items() if not caption.strip() or caption == name] == []
    assert [link for link in re.findall(r"\]\(([^)]+)\)", sheet) if not (FIGURES / link).exists()] == []


def test_the_contact_sheet_is_as_the_command_writes_it(tmp_path):
    figures = Path(shutil.copytree(FIGURES, tmp_path / "figures"))
    make_slides.make_contact_sheet(NOTEBOOKS, figures=figures)
    assert (figures / "README.md").read_text() == (FIGURES / "README.md").read_text()


def test_a_new_figure_comes_under_its_heading_and_captions_written_by_hand_stay(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# 09 · Nine\n\n## What is new\n\nProse."),
             nbformat.v4.new_code_cell('plots.save_figure(fig, "09_new")')]  # fmt: skip
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "09_nine.ipynb")
    for name in ("09_new", "09_other"):
        Image.new("RGB", (16, 9)).save(tmp_path / f"{name}.png")
    notebooks = [tmp_path / "09_nine.ipynb"]
    make_slides.make_contact_sheet(notebooks, figures=tmp_path)
    assert make_slides.read_captions(tmp_path) == {"09_new": "What is new", "09_other": "09_other"}
    sheet = tmp_path / "README.md"
    sheet.write_text(sheet.read_text().replace("| What is new |", '| A "new" thing. |'))
    make_slides.make_contact_sheet(notebooks, figures=tmp_path)
    assert make_slides.read_captions(tmp_path)["09_new"] == 'A "new" thing.'
    assert 'alt="A &quot;new&quot; thing."' in sheet.read_text()
