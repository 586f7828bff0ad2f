"""What a visitor meets: JupyterLab with the shipped settings, the demo in it, and a real Chromium."""

import csv
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from sercore.corpora.synthetic import SR, synthesize
from sercore.models import build_model, save_checkpoint
from sercore.predict import Predictor

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = ROOT / "build" / "screenshots"
START_S, ANSWER_MS = 120, 120_000
EVIL = '<img src=x onerror="alert(1)">.wav'

pytestmark = [pytest.mark.browser, pytest.mark.slow]
sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
if not CHROMIUM.exists():
    pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium", allow_module_level=True)


def recording(y, **options):
    file = io.BytesIO()
    sf.write(file, y, options.pop("sr", SR), format="WAV", **options)
    return file.getvalue()


SAD = recording(synthesize("sad"))
# Eight seconds of two channels of doubles at 96 kHz: 12 MB, above the limit that Jupyter has by default.
LARGE = recording(np.tile(synthesize("angry", sr=96_000), (2, 5)).T[: 96_000 * 8], sr=96_000, subtype="DOUBLE")


def percent(share):
    return f"{100 * share:.0f}\u00a0%"


def upload(page, *files):
    """Choose files (name, content) in the dialog that the button opens."""
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose recordings").click()
    chooser.value.set_files([{"name": name, "mimeType": "audio/wav", "buffer": data} for name, data in files])


def card(page, name):
    return page.locator(".ser-card").filter(has=page.get_by_role("heading", name=name))


def screenshot(page, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "untrained.safetensors"
    # An untrained network is unsure of everything; a low temperature makes it speak up.
    return save_checkpoint(path, build_model("cnn"), name="cnn", temperature=0.002)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, checkpoint):
    """Start JupyterLab on a folder with one small notebook; give that notebook's address."""
    folder = tmp_path_factory.mktemp("lab")
    cells = ["from sercore.predict import Predictor\nfrom sercore.widgets import build_demo",
             f"build_demo(Predictor({str(checkpoint)!r}))"]  # fmt: skip
    notebook = {
        "cells": [{"cell_type": "code", "id": f"cell-{i}", "execution_count": None, "metadata": {}, "outputs": [],
                   "source": source} for i, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    (folder / "work").mkdir()
    (folder / "work" / "demo.ipynb").write_text(json.dumps(notebook))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=secret", f"--config={ROOT / 'notebooks' / 'jupyter_server_config.py'}",
               "--allow-root", "--LabApp.news_url=None", folder / "work"]  # fmt: skip
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | places, stdout=log, stderr=log, cwd=folder)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_S
    try:
        while not _answers(f"{address}/api/status?token=secret"):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"JupyterLab did not start:\n{(folder / 'log').read_text()[-3000:]}")
            time.sleep(0.3)
        yield f"{address}/doc/tree/demo.ipynb?token=secret"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


def _answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def page(lab):
    """Open the notebook and run all its cells; no dialog may open in the whole test."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(ANSWER_MS)
        dialogs = []
        page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(lab)
        page.locator(".jp-Notebook .jp-Cell").nth(1).wait_for()
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.get_by_role("button", name="Choose recordings").wait_for()
        yield page
        assert dialogs == []
        browser.close()


def test_uploads_get_the_answers_of_the_predictor(page, checkpoint):
    upload(page, ("sad.wav", SAD), ("broken.wav", SAD[:30] + b"not audio"), (EVIL, SAD))
    page.get_by_text("3 recordings, 1 of them unusable.").wait_for()
    expected = Predictor(checkpoint).predict(io.BytesIO(SAD))

    for name in ("sad.wav", EVIL):
        shown = card(page, name)
        assert shown.locator(".ser-verdict").inner_text() == f"{expected.label}, {percent(expected.confidence)} sure"
        numbers = dict(
            zip(
                shown.locator(".ser-name").all_inner_texts(),
                shown.locator(".ser-number").all_inner_texts(),
                strict=True,
            )
        )
        assert numbers == {("▶ " if emotion == expected.label else "") + emotion: percent(share)
                           for emotion, share in expected.probabilities.items()}  # fmt: skip
    assert "Cannot use this file" in card(page, "broken.wav").inner_text()
    # The player and the picture have arrived and can be decoded.
    sad = card(page, "sad.wav")
    page.wait_for_function("audio => audio.duration > 1", arg=sad.locator("audio").element_handle())
    assert sad.locator("img").evaluate("image => image.naturalWidth") > 500
    assert sad.locator("img").get_attribute("alt") == "Waveform and log-mel spectrogram of sad.wav"
    page.locator(".ser-demo").first.scroll_into_view_if_needed()
    screenshot(page, "demo_wide")

    with page.expect_download() as download:
        page.get_by_role("link", name="Save as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
    assert [row["file"] for row in rows] == ["sad.wav", "broken.wav", EVIL]
    assert float(rows[0]["confidence"]) == pytest.approx(expected.confidence, abs=1e-6)


def test_an_upload_above_jupyters_own_limit_arrives(page, checkpoint):
    assert len(LARGE) > 10 * 2**20
    upload(page, ("large.wav", LARGE))
    page.get_by_text("1 recording.").wait_for()
    expected = Predictor(checkpoint).predict(io.BytesIO(LARGE))
    assert card(page, "large.wav").locator(".ser-verdict").inner_text().startswith(expected.label)


def test_it_fits_a_narrow_window_and_can_be_cleared(page):
    page.set_viewport_size({"width": 460, "height": 1400})
    upload(page, ("a_recording_with_a_very_long_name_03-01-04-01-01-01-07_copy_of_copy.wav", SAD))
    page.get_by_text("1 recording.").wait_for()
    shown = page.locator(".ser-card")
    assert shown.evaluate("card => card.scrollWidth <= card.clientWidth"), "the card is wider than its window"
    screenshot(page, "demo_narrow")

    page.locator(".ser-demo").get_by_role("button", name="Clear").click()
    page.get_by_text("No recording yet.").wait_for()
    assert page.locator(".ser-card").count() == 0
    upload(page, ("again.wav", SAD))  # the button takes the same file again
    card(page, "again.wav").wait_for()
