"""The page without a server: the small network in the browser answers as Python does, and the recording stays there."""

import http.server
import re
import shutil
import threading
from functools import partial

import pytest
from benchmarks.soak import ROOT

from sercore.export import export_onnx
from sercore.predict import Predictor
from sercore.settings import samples_dir

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `make phone` makes; onnxruntime-web is taken from build/phone, where that command put it."""
    parts = sorted((ROOT / "build" / "phone").glob("ort*"))
    if len(parts) != 3:
        pytest.skip("no onnxruntime-web: `make phone` fetches it from npm")
    folder = tmp_path_factory.mktemp("phone")
    for part in parts:
        shutil.copy(part, folder)
    shutil.copy(ROOT / "notebooks" / "app" / "phone.html", folder / "index.html")
    export_onnx(folder / "small.onnx", checkpoint="small")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("emotion", ["angry", "sad"])
def test_the_phone_answers_as_python_does_and_sends_nothing(site, chromium, axe, emotion):
    clip = samples_dir() / f"{emotion}.flac"
    browser = chromium()
    page = browser.new_page(viewport={"width": 390, "height": 844})
    sent = []
    page.on("request", lambda request: sent.append((request.method, request.url)))
    page.goto(site)
    page.get_by_text("Ready.").wait_for(timeout=60_000)
    n_before = len(sent)
    page.set_input_files("#file", clip)
    expected = Predictor("small").predict(clip)
    page.get_by_text(re.compile(rf"{expected.label}, \d+ % sure")).wait_for(timeout=30_000)
    said = int(re.search(r"(\d+) %", page.locator("#verdict").inner_text()).group(1))
    assert said == pytest.approx(100 * expected.confidence, abs=8)  # the browser resamples in its own way
    assert len(sent) == n_before and all(method == "GET" and url.startswith(site) for method, url in sent)
    assert axe(page, "html") == []
    page.set_input_files("#file", {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"not audio"})
    page.get_by_text("This recording cannot be used").wait_for(timeout=30_000)
    browser.close()
