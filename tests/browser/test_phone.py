"""The page for phones in a real Chromium, without a kernel: the browser alone answers as the predictor does."""

import functools
import http.server
import json
import shutil
import threading

import numpy as np
import pytest
from browser.conftest import ROOT, SR, wav

from sercore.export import export_onnx
from sercore.predict import Predictor

pytestmark = [pytest.mark.browser, pytest.mark.slow]
APP = ROOT / "notebooks" / "app"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def address(tmp_path):
    pytest.importorskip("onnx")
    if not (APP / "ort").is_dir():
        pytest.skip("no notebooks/app/ort: phone.html says how to fetch it")
    shutil.copy(APP / "phone.html", tmp_path)
    shutil.copytree(APP / "ort", tmp_path / "ort")
    export_onnx(tmp_path / "small.onnx")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/phone.html"
        server.shutdown()


def test_the_browser_alone_says_what_the_predictor_says(browser, address, clip):
    page = browser.new_page()
    page.goto(address)
    page.set_input_files("#file", {"name": "clip.wav", "mimeType": "audio/wav", "buffer": wav(clip)})
    page.wait_for_selector("#answer[data-shares]", timeout=60_000)
    expected = Predictor("small").predict((clip, SR))
    shares = json.loads(page.get_attribute("#answer", "data-shares"))
    np.testing.assert_allclose(shares, list(expected.probabilities.values()), atol=1e-3)  # the file has 16 bits
    assert page.inner_text("#answer").startswith(expected.label)
    print(f"{float(page.get_attribute('#answer', 'data-ms')):.0f} ms in Chromium, the first time")
    page.set_input_files("#file", {"name": "no.wav", "mimeType": "audio/wav", "buffer": b"no audio"})
    page.wait_for_function("document.getElementById('answer').textContent.includes('cannot be used')")
    page.close()
