"""JupyterLab and the web page, each started once, with the cells of notebook 06 that belong on a page; and Chromium."""

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from benchmarks.soak import START_S, serve

from sercore.audio import load_audio
from sercore.corpora import load_corpus
from sercore.corpora.synthetic import synthesize
from sercore.errors import SerError
from sercore.labels import EMOTIONS
from sercore.predict import Predictor

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
PLACES = ("lab", "page")
ANSWER_MS = 120_000
SR = 16_000


def wav(y, *, sr=SR, subtype="PCM_16"):
    """Encode a waveform as the bytes of a WAV file."""
    file = io.BytesIO()
    sf.write(file, y, sr, format="WAV", subtype=subtype)
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor():
    return Predictor()


@pytest.fixture(scope="module")
def clip(predictor):
    """A clip of which the shipped network is sure: real where there are recordings, else synthetic."""
    try:
        clips = load_corpus("ravdess", root=Path(os.environ["SERCORE_DATA"]))
        # One actor's strong emotions, once each.
        clips = clips[(clips["speaker"] == clips["speaker"].iloc[0]) & (clips["intensity"] == "strong")]
        candidates = [load_audio(path, sr=SR) for path in clips.drop_duplicates("emotion")["path"]]
    except (KeyError, SerError):
        candidates = [synthesize(emotion, sr=SR) for emotion in EMOTIONS]
    return max(candidates, key=lambda y: predictor.predict((y, SR)).confidence)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """Notebook 06 without the cells that are no part of the page."""
    notebook = json.loads((ROOT / "notebooks" / "06_inference_demo.ipynb").read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if "page" in cell["metadata"].get("tags", ())]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    path = tmp_path_factory.mktemp("lab") / "demo.ipynb"
    path.write_text(json.dumps(notebook))
    return path


@pytest.fixture(scope="module")
def lab(notebook, tmp_path_factory):
    """Start JupyterLab with the shipped settings; give the notebook's address."""
    folder = tmp_path_factory.mktemp("jupyter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0",
               "--IdentityProvider.token=secret", f"--config={ROOT / 'notebooks' / 'jupyter_server_config.py'}",
               "--allow-root", notebook.parent]  # fmt: skip
    places = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    places["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = folder / "config" / "labconfig" / "page_config.json"
    settings.parent.mkdir(parents=True)
    # It would ask, over the demo, whether it may fetch news.
    settings.write_text('{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}')
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


@pytest.fixture(scope="module")
def page(notebook, tmp_path_factory):
    """Start the web page; give its address."""
    with serve(tmp_path_factory.mktemp("page"), f"--Voila.notebook_path={notebook}") as (address, _):
        yield address


@pytest.fixture(scope="module")
def chromium(clip, tmp_path_factory):
    """Give a function that starts Chromium; its microphone plays `clip`, once, and may be used without asking."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}: apt-get install chromium")
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    spoken.write_bytes(wav(np.concatenate([clip, np.zeros(60 * SR, np.float32)])))
    plain = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream"]
    plain.append(f"--use-file-for-fake-audio-capture={spoken}%noloop")
    with sync_api.sync_playwright() as playwright:

        def start(*, microphone=True):
            asked = ["--use-fake-ui-for-media-stream"] if microphone else []
            return playwright.chromium.launch(executable_path=str(CHROMIUM), args=plain + asked)

        yield start


@pytest.fixture(scope="module")
def axe():
    """Give a function that lists what axe-core finds wrong for people who see or move otherwise, below `part`."""
    script = ROOT / "build" / "axe" / "axe.min.js"
    if not script.exists():
        pytest.skip("no axe-core: `make browser-tools` fetches it from npm")

    def look(window, part):
        window.add_script_tag(path=script)
        found = window.evaluate("async part => (await axe.run(part)).violations", part)
        return [
            f"{finding['id']}: {node['html'][:200]} {node['failureSummary']}"
            for finding in found
            for node in finding["nodes"]
        ]

    return look


@pytest.fixture(scope="module")
def browser(chromium):
    with contextlib.closing(chromium()) as browser:
        yield browser


@pytest.fixture(scope="module")
def visit(request):
    """Give a function that opens the demo in a new window, in JupyterLab or on the web page."""

    def open_demo(browser, place):
        window = browser.new_context(viewport={"width": 1280, "height": 1100}).new_page()
        window.set_default_timeout(ANSWER_MS)
        window.dialogs, window.elsewhere = [], []
        window.on("dialog", lambda dialog: (window.dialogs.append(dialog.message), dialog.dismiss()))
        window.on("filechooser", lambda _: None)  # or Chromium may open a dialog of its own before it is told not to
        address = request.getfixturevalue(place)
        home = address.split("/", 3)[2]
        window.on("request", lambda sent: home in sent.url or window.elsewhere.append(sent.url))
        window.goto(address)
        if place == "lab":
            window.locator(".jp-Notebook .jp-Cell").first.wait_for()
            window.get_by_text("| Idle").wait_for()  # what is run before there is a kernel can be lost
            window.get_by_role("menuitem", name="Run", exact=True).click()
            window.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        window.get_by_role("button", name="Choose recordings").first.wait_for()
        return window

    return open_demo


@pytest.fixture(scope="module")
def _windows(browser, visit):
    return cache(lambda place: visit(browser, place))


@pytest.fixture(params=PLACES)
def place(request):
    return request.param


@pytest.fixture
def window(place, _windows):
    """The demo, empty, in a window that all tests of a place share; no dialog may open in it."""
    window = _windows(place)
    window.set_viewport_size({"width": 1280, "height": 1100})
    clear = window.locator(".ser-demo .ser-controls button")
    if clear.is_visible() and "Clear" in clear.inner_text():  # it was cleared by a test if it is Undo
        clear.click()
    window.get_by_text("No recording yet.").wait_for()
    yield window
    assert window.dialogs == []


def _answers(url):
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except (urllib.error.URLError, OSError):
        return False
