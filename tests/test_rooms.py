"""The rooms of sercore import only from rooms before them, and no computing room knows of pictures or commands."""

import ast
from pathlib import Path

import pytest

import sercore.errors

PACKAGE = Path(sercore.errors.__file__).parent
ROOMS = (
    "errors", "settings", "labels", "headers", "decoder", "audio", "corpora", "download", "features", "cache", "augment",
    "splits", "outliers",
    "dataset", "models", "train", "evaluate", "recipes", "records", "crossval", "ablation", "compare", "robustness",
    "predict", "export", "batch", "explain", "plots", "pieces", "live", "card", "widgets",
    "cli", "__main__",
)  # fmt: skip
SHOWING = ("plots", "pieces", "live", "card", "widgets", "cli", "__main__")
#: What `from sercore import …` gives besides rooms, and the room it comes from; None is the package's own.
LAZY = {"__version__": None, "Predictor": "predict", "predict_emotion": "predict", "load_corpus": "corpora"}


def imported_rooms(source):
    """Rooms that a module imports from, at its top or inside a function, with the lines where it does."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = [f"sercore.relative import on line {node.lineno}"]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module != "sercore" else [f"sercore.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".") for name in names]
        rooms = [part[1] if len(part) > 1 else "the package as a whole" for part in parts if part[0] == "sercore"]
        found += [(LAZY.get(room, room), node.lineno) for room in rooms]
    return [(room, line) for room, line in found if room is not None]


def violations(room, source):
    before = ROOMS[: ROOMS.index(room) + 1]
    return [f"{room}, line {line}: {other}" for other, line in imported_rooms(source) if other not in before]


def modules():
    paths = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]
    return [path for path in paths if path.as_posix() != "__init__.py"]


def room_of(path):
    return path.parts[0].removesuffix(".py")


def test_the_order_names_every_module():
    assert {room_of(path) for path in modules()} <= set(ROOMS)
    assert {"errors", "corpora", "models", "predict", "cli"} <= {room_of(path) for path in modules()}


@pytest.mark.parametrize("path", modules(), ids=str)
def test_a_module_imports_only_from_its_own_room_and_those_before(path):
    assert violations(room_of(path), (PACKAGE / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", [path for path in modules() if room_of(path) not in SHOWING], ids=str)
def test_no_computing_room_imports_what_shows(path):
    rooms = {room for room, _ in imported_rooms((PACKAGE / path).read_text(encoding="utf-8"))}
    assert rooms.isdisjoint(SHOWING)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import sercore.predict", ["audio, line 1: predict"]),
        ("from sercore import settings, plots", ["audio, line 1: plots"]),
        ("def f():\n    from sercore.train import fit", ["audio, line 2: train"]),
        ("from sercore import Predictor", ["audio, line 1: predict"]),
        ("from . import plots", ["audio, line 1: relative import on line 1"]),
        ("import sercore", ["audio, line 1: the package as a whole"]),
        ("import numpy\nfrom sercore.errors import AudioError\nfrom sercore import __version__", []),
    ],
)
def test_a_wrong_import_would_be_found(source, found):
    assert violations("audio", source) == found
