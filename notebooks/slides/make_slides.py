"""Make the talk: an editable PowerPoint deck, and the notebooks as slide pages, in build/slides; neither needs the net.

Run by `make slides`: python notebooks/slides/make_slides.py. With --contact-sheet it rewrites figures/README.md and no
more. What the deck says is in talk.md; its numbers are those of facts.py.
"""

import argparse
import base64
import copy
import re
from html import escape
from pathlib import Path

import nbformat
from facts import ROOT, facts
from nbconvert import SlidesExporter
from PIL import Image
from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.enum.text import MSO_ANCHOR
from pptx.util import Inches, Pt

from sercore import settings

HERE = Path(__file__).resolve().parent
SAVED = re.compile(r'save_figure\(.*?"(\d\d_\w+)"')
#: The one picture that no notebook draws.
DEMO = {
    "demo": "The demo after a recording of synthetic speech: the emotion, how sure the network is, and all probabilities"
}
SHEET_ROW = re.compile(r"^\| .*\((\w+)\.svg\) \| (.+) \|$", re.MULTILINE)


def read_talk(text, known):
    """Read talk.md with the facts: a list of dicts of title, fields, lines and notes; what lacks a fact is left out."""
    slides = []
    for block in text.split("\n# ")[1:]:
        title, *rest = block.splitlines()
        slide = {"figure": "", "table": "", "command": ""}
        slide |= {line.partition(": ")[0]: line.partition(": ")[2] for line in rest if line.partition(": ")[0] in slide}
        plain = [line for line in rest if line and line.partition(": ")[0] not in slide]
        slide["title"] = _fill(title, known)
        slide["lines"] = [filled for line in plain if line[:2] == "- " and (filled := _fill(line[2:], known))]
        sentences = re.split(r"(?<=[.?!]) ", " ".join(line for line in plain if line[:2] != "- "))
        slide["notes"] = " ".join(filled for sentence in sentences if (filled := _fill(sentence, known)))
        if slide["title"] and (not slide["table"] or slide["table"] in known):
            slides.append(slide)
        else:
            print(f"Left out, a number was not measured: {title}")
    return slides


def _fill(text, known):
    try:
        return re.sub(" ?%", "\u00a0%", text.format_map(known))
    except KeyError:
        return None


def make_deck(slides, known, captions, *, figures, path):
    """Write the deck, 16:9, on PowerPoint's own layouts so that all of it can be edited."""
    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(13.333), Inches(7.5)
    first, content, only = (deck.slide_layouts[i] for i in (0, 1, 5))
    for layout in [layout for layout in deck.slide_layouts if layout not in (first, content, only)]:
        deck.slide_layouts.remove(layout)
    for style, size in (("titleStyle", 3000), ("bodyStyle", 2400)):
        level = deck.slide_master.element.find(f".//{{*}}{style}/{{*}}lvl1pPr")
        level.find("{*}defRPr").set("sz", str(size))
        level.find("{*}defRPr").set("b", str(int(style == "titleStyle")))
        level.find("{*}spcBef/{*}spcPct").set("val", "40000")
    for holder in (deck.slide_master, first, content, only):
        for box in list(holder.placeholders):
            if box.placeholder_format.type in (PP_PLACEHOLDER.DATE, PP_PLACEHOLDER.FOOTER):
                box.element.getparent().remove(box.element)
            else:
                _place(box, *PLACES[box.placeholder_format.type])
        for level in holder.element.iter("{*}lvl1pPr"):
            level.set("algn", "l")
        for tint in list(holder.element.iter("{*}tint")):  # grey on white is not read from the back row
            tint.getparent().remove(tint)
    for number, slide in enumerate(slides):
        if there := (figures / f"{slide['figure']}.png").is_file():
            slide = slide | {"table": ""}  # which would have stood in for the figure
        elif slide["figure"] and not slide["table"]:
            print(f"Left out, no figure {slide['figure']}.png in {figures.name}/: {slide['title']}")
            continue
        slide = slide | {"figure": slide["figure"] if there else ""}
        layout = first if number == 0 else content if slide["lines"] else only
        _add_slide(deck.slides.add_slide(layout), slide, known, captions, figures)
    deck.core_properties.title, deck.core_properties.author = slides[0]["title"], "The sercore maintainers"
    path.parent.mkdir(parents=True, exist_ok=True)
    deck.save(path)


#: Left, top, width and height in inches of what a layout holds.
PLACES = {
    PP_PLACEHOLDER.CENTER_TITLE: (0.6, 2.0, 12.1, 1.5), PP_PLACEHOLDER.SUBTITLE: (0.6, 3.6, 12.1, 2.0),
    PP_PLACEHOLDER.TITLE: (0.6, 0.3, 12.1, 1.1), PP_PLACEHOLDER.BODY: (0.6, 1.6, 12.1, 5.2),
    PP_PLACEHOLDER.OBJECT: (0.6, 1.6, 12.1, 5.2), PP_PLACEHOLDER.SLIDE_NUMBER: (12.1, 7.0, 0.7, 0.4),
}  # fmt: skip


def _place(shape, *inches):
    shape.left, shape.top, shape.width, shape.height = map(Inches, inches)


def _add_slide(page, slide, known, captions, figures):
    page.shapes.title.text = slide["title"]
    if slide["lines"]:
        page.placeholders[1].text = "\n".join(slide["lines"])
    if name := slide["figure"]:
        with Image.open(figures / f"{name}.png") as image:
            shape = image.width / image.height
        if shape < 1.2:  # a square takes the whole height, the words stand beside it
            _place(page.shapes.title, 0.6, 0.3, 5.2, 2.2)
            if slide["lines"]:
                _place(page.placeholders[1], 0.6, 2.7, 5.2, 4.1)
            left, top, width, height = 6.0, 0.2, 6.7, 6.7
        else:
            left, top, width, height = 0.6, 1.4, 12.1, 5.5
        scale = min(width / shape, height)
        box = (left + (width - scale * shape) / 2, top + (height - scale) / 2, scale * shape, scale)
        picture = page.shapes.add_picture(str(figures / f"{name}.png"), *map(Inches, box))
        picture.name, picture._element.nvPicPr.cNvPr.attrib["descr"] = name, (DEMO | captions).get(name, name)
    if slide["table"]:
        bottom = _add_table(page, known[slide["table"]], top=1.6)
        if slide["lines"]:
            _place(page.placeholders[1], 0.6, bottom + 0.3, 12.1, 6.5 - bottom)
    for box in page.slide_layout.placeholders:
        if box.placeholder_format.type == PP_PLACEHOLDER.SLIDE_NUMBER:
            page.shapes._spTree.append(copy.deepcopy(box.element))
    page.notes_slide.notes_text_frame.text = f"{slide['notes']}\n\nTo reproduce: {slide['command']}"


def _add_table(page, table, *, top):
    height = 0.6 * (len(table) + 1)
    frame = page.shapes.add_table(len(table) + 1, len(table.columns), *map(Inches, (0.6, top, 12.1, height)))
    frame._element.nvGraphicFramePr.cNvPr.attrib["descr"] = f"Table of {len(table)} rows: {', '.join(table.columns)}"
    widths = [max(map(len, [name, *table[name].astype(str)])) + 2 for name in table.columns]
    for column, width in zip(frame.table.columns, widths, strict=True):
        column.width = Inches(12.1 * width / sum(widths))
    for k, row in enumerate([table.columns, *table.itertuples(index=False)]):
        for cell, value in zip(frame.table.rows[k].cells, row, strict=True):
            cell.text = f"{value:,}" if isinstance(value, int) else str(value)
            cell.vertical_anchor, cell.text_frame.paragraphs[0].font.size = MSO_ANCHOR.MIDDLE, Pt(20)
    return top + height


def make_pages(notebooks, captions, *, figures, folder):
    """Write the slides of each notebook as one page that holds all it needs."""
    exporter = SlidesExporter(raw_template=(HERE / "slides.html.j2").read_text(encoding="utf-8"))
    for path in notebooks:
        notebook = nbformat.read(path, 4)
        for cell in notebook.cells:
            for name in SAVED.findall(cell.source):
                # The figure alone, sharp: its code is in the notebook, with a picture for a narrow column.
                cell.metadata["transient"] = {"remove_source": True}
                for output in cell.outputs:
                    if "image/png" in output.get("data", {}) and (figures / f"{name}.png").is_file():
                        output.data["image/png"] = base64.b64encode((figures / f"{name}.png").read_bytes()).decode()
                        output.metadata["image/png"] = {"alt": captions.get(name, name)}
        html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": path.stem}})
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{path.stem}.slides.html").write_text(html, encoding="utf-8")


def make_contact_sheet(notebooks, *, figures):
    """Rewrite the sheet of all figures. Captions are kept as they are there; a new figure gets the heading it is drawn under."""
    headings = {}
    for path in notebooks:
        heading = path.stem
        for cell in nbformat.read(path, 4).cells:
            found = re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE) if cell.cell_type == "markdown" else []
            heading = found[-1] if found else heading
            headings |= dict.fromkeys(SAVED.findall(cell.source), heading)
    captions, text = headings | read_captions(figures), SHEET
    for path in notebooks:
        rows = ""
        for name in sorted(figure.stem for figure in figures.glob(f"{path.name[:2]}_*.png")):
            caption = captions.get(name, name)
            rows += f'| `{name}`<br>[<img src="{name}.png" alt="{escape(caption)}" width="400">]({name}.svg) | {caption} |\n'
        if rows:
            text += SECTION.format(title=path.stem.replace("_", " "), notebook=path.name, rows=rows)
    settings.write_atomic(figures / "README.md", text.encode())


def read_captions(figures):
    """Read the captions of the contact sheet: a dict of figure name to caption."""
    sheet = figures / "README.md"
    return dict(SHEET_ROW.findall(sheet.read_text(encoding="utf-8"))) if sheet.is_file() else {}


SHEET = """# Figures

Every figure of the run on RAVDESS, for slides: a PNG of 300 dpi and, behind each picture, its SVG. `make figures` draws them
all anew. The command under a heading draws those of one notebook; after it, run `.venv/bin/python
notebooks/slides/clean_outputs.py` on that notebook. Captions are written here, by hand; the rest of the page is made by

    .venv/bin/python notebooks/slides/make_slides.py --contact-sheet
"""
SECTION = """
## [{title}](../notebooks/{notebook})

    SERCORE_PROFILE=full SERCORE_FIGURES=figures .venv/bin/jupyter nbconvert \\
        --to notebook --execute --inplace --ExecutePreprocessor.timeout=-1 notebooks/{notebook}

| figure | what it shows |
|---|---|
{rows}"""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "slides", help="folder of the deck and pages")
    parser.add_argument("--results", type=Path, default=settings.results_dir(), help="folder of the recorded scores")
    parser.add_argument("--figures", type=Path, default=ROOT / "figures", help="folder of the figures")
    parser.add_argument("--contact-sheet", action="store_true", help="rewrite README.md in the folder of the figures")
    options = parser.parse_args()
    notebooks = sorted(HERE.parent.glob("[0-9]*.ipynb"))
    if options.contact_sheet:
        make_contact_sheet(notebooks, figures=options.figures)
    else:
        known, captions = facts(options.results), read_captions(options.figures)
        talk = read_talk((HERE / "talk.md").read_text(encoding="utf-8"), known)
        make_deck(talk, known, captions, figures=options.figures, path=options.out / "sercore.pptx")
        make_pages(notebooks, captions, figures=options.figures, folder=options.out)
        print(f"Done. Open sercore.pptx and the pages in {options.out}.")
