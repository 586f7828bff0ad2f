"""Make the talk: an editable PowerPoint deck, and the notebooks as slide pages, in build/slides; neither needs the net.

Run by `make slides`: python notebooks/make_slides.py. With --contact-sheet it rewrites figures/README.md and no more.
What the deck says is in talk.md; every number is read from data/results or the shipped weights when the deck is made.
"""

import argparse
import base64
import copy
import re
from html import escape
from pathlib import Path

import nbformat
import pandas as pd
import torch
from nbconvert import SlidesExporter
from PIL import Image
from pptx import Presentation
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.enum.text import MSO_ANCHOR
from pptx.util import Inches, Pt

import sercore
from sercore import settings, studies
from sercore.corpora import CORPORA, ravdess
from sercore.evaluate import (
    bootstrap_interval,
    expected_calibration_error,
    paired_difference,
    per_emotion,
    score_table,
    scores,
    selective_accuracy,
    targets_of,
)
from sercore.experiments import recipe_for
from sercore.labels import EMOTIONS
from sercore.models import HOUSE, build_model, layer_table, load_checkpoint
from sercore.predict import VARIANTS
from sercore.results import read_out_of_fold, read_scores, read_table

HERE = Path(__file__).resolve().parent
SAVED = re.compile(r'save_figure\(.*?"(\d\d_\w+)"\)')
SHEET_ROW = re.compile(r"^\| .*\((\w+)\.svg\) \| (.+) \|$", re.MULTILINE)


def recorded_clips():
    """Lay out the clip table of RAVDESS from its official names: the recorded scores can be read without the audio."""
    clips = pd.DataFrame([ravdess.parse(stem) | {"path": f"{stem}.wav"} for stem in ravdess.expected_files()])
    return clips.assign(corpus="ravdess", speaker="ravdess-" + clips["speaker"])


def measure(results):
    """Collect what talk.md may quote, scores in per cent, from a folder of recorded scores and the shipped weights."""
    clips = recorded_clips()
    facts = {"version": sercore.__version__, "n_emotions": len(EMOTIONS), "chance": 100 / len(EMOTIONS),
             "n_clips": len(clips), "n_speakers": clips["speaker"].nunique(), "n_statements": clips["statement"].nunique(),
             "epochs": recipe_for("full").train.epochs, "citation": ravdess.CITATION, "licence": ravdess.LICENCE}  # fmt: skip
    for part in (_network, _folds, _strangers, _versus, _ablation, _noise, _transfer, _left_out):
        try:
            facts |= part(clips, results)
        except (LookupError, ValueError) as missing:  # rows or files that are not there (yet)
            print(f"Not recorded, so not in the deck ({part.__name__[1:]}): {missing}")
    return {name: fact for name, fact in facts.items() if isinstance(fact, pd.DataFrame) or fact == fact}


def _network(clips, results):
    metadata, cnn = load_checkpoint(VARIANTS["ravdess"])[1], build_model("cnn").eval()
    config = metadata["feature_config"]
    layers = layer_table(cnn, torch.zeros(1, 1, config.n_mels, config.n_frames))
    return {
        "n_mels": config.n_mels, "window": 1000 * config.win_length / config.sr, "hop": 1000 * config.hop_length / config.sr,
        "n_members": len(metadata["info"]["seeds"]), "n_parameters": layers["parameters"].sum(),
        "layers": layers.assign(output=[" × ".join(map(str, size)) for size in layers["output"]]),
    }  # fmt: skip


def _folds(clips, results):
    rows, uar = [], {}
    for name, model, protocol in (
        ("never heard, ensemble (shipped)", "cnn_warped_ensemble", "speaker_5fold"),
        ("never heard, one network", "cnn_warped", "speaker_5fold"),
        ("never heard, one network, shorter recipe", "cnn", "speaker_5fold"),
        ("heard in training, shorter recipe (leaky)", "cnn", "random_5fold"),
    ):
        table = read_scores(clips, model=model, protocol=protocol, seed=None, results_dir=results)
        if table.loc[table["seed"] == settings.SEED, "n_test"].sum() != len(clips):
            raise LookupError(f"{model}_{protocol}.csv lacks folds")
        folds = 100 * table.groupby("fold")[["uar", "accuracy", "macro_f1"]].mean()
        rows.append([name, *(f"{mean:.1f} ± {sd:.1f}" for mean, sd in zip(folds.mean(), folds.std(), strict=True))])
        uar[model, protocol] = 100 * table.loc[table["seed"] == settings.SEED, "uar"].mean()
    known, strangers = uar["cnn", "random_5fold"], uar["cnn", "speaker_5fold"]
    return {
        "scores": pd.DataFrame(rows, columns=["test speakers", "UAR (%)", "accuracy (%)", "macro-F1 (%)"]), "n_folds": len(folds),
        "known": known, "strangers": strangers, "leak": round(known) - round(strangers), "minutes": table["minutes"].mean(),
    }  # fmt: skip


def _strangers(clips, results):
    heard, proba = read_out_of_fold(clips, model=HOUSE[0], results_dir=results)
    if len(heard) < len(clips):
        raise LookupError(f"{HOUSE[0]} has answered for {len(heard)} of {len(clips)} clips")
    y_true, y_pred = targets_of(heard), proba.argmax(axis=1)
    recalls = per_emotion(y_true, y_pred).set_index("emotion")["recall"]
    by_speaker = score_table(heard, proba)["uar"]
    facts = scores(y_true, y_pred) | {
        "ece": expected_calibration_error(proba, y_true), "confident": selective_accuracy(proba, y_true),
        "confidence": proba.max(axis=1).mean(), "easiest_recall": recalls.max(), "hardest_recall": recalls.min(),
        "worst_speaker": by_speaker.min(), "best_speaker": by_speaker.max(),
    }  # fmt: skip
    for who, part in (
        ("", heard["sex"] != ""),
        ("female_", heard["sex"] == "female"),
        ("male_", heard["sex"] == "male"),
    ):
        facts[f"{who}uar"] = scores(y_true[part], y_pred[part])["uar"]
        facts[f"{who}low"], facts[f"{who}high"] = bootstrap_interval(heard[part], proba[part])
    words = {"easiest": recalls.idxmax().capitalize(), "hardest": recalls.idxmin()}
    return {name: 100 * fact for name, fact in facts.items()} | words


def _versus(clips, results):
    """Compare the house's networks with the best of the other designs that have answered for every clip."""
    probas = {}
    for name in studies.ZOO:
        if (results / "out_of_fold" / f"{name}_speaker_5fold_seed{settings.SEED}.csv").is_file():
            heard, proba = read_out_of_fold(clips, model=name, results_dir=results)
            probas |= {name: proba} if len(heard) == len(clips) else {}
    others = {name: p for name, p in probas.items() if name not in HOUSE}
    best = max(others, key=lambda name: scores(targets_of(clips), others[name].argmax(axis=1))["uar"])
    difference, low, high = paired_difference(clips, probas[HOUSE[0]], others[best])
    verdict = f"{abs(100 * difference):.0f} points {'ahead of' if difference > 0 else 'behind'} {best}"
    return {"n_designs": len(probas), "versus": verdict + ("" if low > 0 or high < 0 else ", too close to call")}


def _ablation(clips, results):
    differences = studies.ablation_differences(read_table(clips, "ablation", results_dir=results))
    often = differences[differences["n"] >= min(3, differences["n"].max())]
    clear = often[often["difference"] < -2 * often["error"].fillna(0)]  # as the figure fills its marks
    worst = (often if clear.empty else clear).iloc[-1]
    return {
        "variant": worst["variant"], "variant_n": worst["n"],
        "variant_cost": -100 * worst["difference"], "variant_error": 100 * worst["error"],
    }  # fmt: skip


def _noise(clips, results):
    table = read_table(clips, f"noise_{HOUSE[0]}_speaker_5fold", results_dir=results)
    uar = 100 * table.set_index(["noise", "snr_db"])["uar"]
    quiet = uar["none"].iloc[0]
    return {"quiet": quiet} | {noise: quiet - uar[noise, 0] for noise in ("white", "babble")}


def _transfer(clips, results):
    table = read_table(clips, "transfer", results_dir=results)
    table = table[table["model"] == VARIANTS["ravdess"].stem].sort_values("uar", ignore_index=True)
    corpora = [CORPORA[name] for name in table["tested_on"] if name in CORPORA]
    table = table.replace({"tested_on": {corpus.NAME: corpus.TITLE for corpus in corpora}})
    percent = (100 * table[["uar", "confidence"]]).round().astype(int).astype(str) + " %"
    shown = pd.concat([table[["tested_on", "n_test", "n_emotions"]], percent], axis=1)
    shown.columns = ["corpus", "clips", "emotions", "UAR", "mean confidence"]
    far, uar, confidence = table[["tested_on", "uar", "confidence"]].iloc[0]
    others = "; ".join(f"{corpus.TITLE}, {f'doi:{corpus.DOI}' if corpus.DOI else corpus.URL}" for corpus in corpora)
    return {"transfer": shown, "far": far, "far_uar": 100 * uar, "far_confidence": 100 * confidence, "others": others}


def _left_out(clips, results):
    path = results / "cnn_any_voice_ensemble_emodb+ravdess+tess_leave_one_corpus_out.csv"
    if not path.is_file():
        raise LookupError(f"no {path.name}")
    return {f"any_{row.fold}": 100 * row.uar for row in pd.read_csv(path).itertuples()}


def read_talk(text, facts):
    """Read talk.md and fill in the facts: a list of dicts of title, fields, lines and notes; what lacks a fact is left out."""
    slides = []
    for block in text.split("\n# ")[1:]:
        title, *rest = block.splitlines()
        slide = {"figure": "", "table": "", "command": ""}
        slide |= {line.partition(": ")[0]: line.partition(": ")[2] for line in rest if line.partition(": ")[0] in slide}
        plain = [line for line in rest if line and line.partition(": ")[0] not in slide]
        slide["title"] = _fill(title, facts)
        slide["lines"] = [filled for line in plain if line[:2] == "- " and (filled := _fill(line[2:], facts))]
        sentences = re.split(r"(?<=[.?!]) ", " ".join(line for line in plain if line[:2] != "- "))
        slide["notes"] = " ".join(filled for sentence in sentences if (filled := _fill(sentence, facts)))
        if slide["title"] and (not slide["table"] or slide["table"] in facts):
            slides.append(slide)
        else:
            print(f"Left out, a number was not measured: {title}")
    return slides


def _fill(text, facts):
    try:
        return text.format_map(facts).replace(" %", "\u00a0%")
    except KeyError:
        return None


def make_deck(slides, facts, captions, *, figures, path):
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
            if box.placeholder_format.type == PP_PLACEHOLDER.DATE:
                box.element.getparent().remove(box.element)
            else:
                _place(box, *PLACES[box.placeholder_format.type])
        for level in holder.element.iter("{*}lvl1pPr"):
            level.set("algn", "l")
        for tint in list(holder.element.iter("{*}tint")):  # grey on white is not read from the back row
            tint.getparent().remove(tint)
    for number, slide in enumerate(slides):
        if slide["figure"] and not (figures / f"{slide['figure']}.png").is_file():
            print(f"Left out, no figure {slide['figure']}.png in {figures.name}/: {slide['title']}")
            continue
        layout = first if number == 0 else content if slide["lines"] else only
        _add_slide(deck.slides.add_slide(layout), slide, facts, captions, figures)
    deck.core_properties.title, deck.core_properties.author = slides[0]["title"], "The sercore maintainers"
    path.parent.mkdir(parents=True, exist_ok=True)
    deck.save(path)


#: Left, top, width and height in inches of what a layout holds.
PLACES = {
    PP_PLACEHOLDER.CENTER_TITLE: (0.6, 2.0, 12.1, 1.5), PP_PLACEHOLDER.SUBTITLE: (0.6, 3.6, 12.1, 2.0),
    PP_PLACEHOLDER.TITLE: (0.6, 0.3, 12.1, 1.1), PP_PLACEHOLDER.BODY: (0.6, 1.6, 12.1, 5.2),
    PP_PLACEHOLDER.OBJECT: (0.6, 1.6, 12.1, 5.2), PP_PLACEHOLDER.FOOTER: (0.6, 7.0, 11.0, 0.4),
    PP_PLACEHOLDER.SLIDE_NUMBER: (12.1, 7.0, 0.7, 0.4),
}  # fmt: skip


def _place(shape, *inches):
    shape.left, shape.top, shape.width, shape.height = map(Inches, inches)


def _add_slide(page, slide, facts, captions, figures):
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
        picture.name, picture._element.nvPicPr.cNvPr.attrib["descr"] = name, captions.get(name, name)
    if slide["table"]:
        bottom = _add_table(page, facts[slide["table"]], top=1.6)
        if slide["lines"]:
            _place(page.placeholders[1], 0.6, bottom + 0.3, 12.1, 6.5 - bottom)
    for box in page.slide_layout.placeholders:
        if box.placeholder_format.type in (PP_PLACEHOLDER.FOOTER, PP_PLACEHOLDER.SLIDE_NUMBER):
            page.shapes._spTree.append(copy.deepcopy(box.element))
            if box.placeholder_format.type == PP_PLACEHOLDER.FOOTER:
                page.shapes[-1].text_frame.text = slide["command"]
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
all anew. The command under a heading draws those of one notebook; after it, `.venv/bin/python notebooks/clean_outputs.py` on
that notebook. Captions are written here, by hand; the rest of the page is made by

    .venv/bin/python notebooks/make_slides.py --contact-sheet
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
    parser.add_argument(
        "--out", type=Path, default=HERE.parent / "build" / "slides", help="folder of the deck and pages"
    )
    parser.add_argument("--results", type=Path, default=settings.results_dir(), help="folder of the recorded scores")
    parser.add_argument("--figures", type=Path, default=HERE.parent / "figures", help="folder of the figures")
    parser.add_argument("--contact-sheet", action="store_true", help="rewrite README.md in the folder of the figures")
    options = parser.parse_args()
    notebooks = sorted(HERE.glob("[0-9]*.ipynb"))
    if options.contact_sheet:
        make_contact_sheet(notebooks, figures=options.figures)
    else:
        facts, captions = measure(options.results), read_captions(options.figures)
        talk = read_talk((HERE / "talk.md").read_text(encoding="utf-8"), facts)
        make_deck(talk, facts, captions, figures=options.figures, path=options.out / "sercore.pptx")
        make_pages(notebooks, captions, figures=options.figures, folder=options.out)
        print(f"Done. Open sercore.pptx and the pages in {options.out}.")
