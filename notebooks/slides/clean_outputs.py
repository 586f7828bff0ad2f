"""Take out of executed notebooks what only a live kernel can show (progress bars) and what only differs from run to run.

Run by `make figures`: python notebooks/slides/clean_outputs.py NOTEBOOK…
"""

import sys

import nbformat

PROGRESS = "application/vnd.jupyter.widget-view+json"


def clean(path):
    notebook = nbformat.read(path, 4)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata.pop("execution", None)
            cell.outputs = [output for output in cell.outputs if PROGRESS not in output.get("data", {})]
    nbformat.write(notebook, path)


for path in sys.argv[1:]:
    clean(path)
