"""What a visitor meets, in JupyterLab with the shipped settings and on the web page, in a real Chromium."""

import csv
import io
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from browser.conftest import ANSWER_MS, ROOT, SR, wav

from sercore.corpora.synthetic import synthesize
from sercore.predict import Predictor
from sercore.settings import samples_dir

pytestmark = [pytest.mark.browser, pytest.mark.slow]
SCREENSHOTS = ROOT / "build" / "screenshots"
EVIL = '<img src=x onerror="alert(1)">.wav'


def percent(share):
    return f"{100 * share:.0f}\u00a0%"


def heading(prediction):
    best, second = sorted(prediction.probabilities, key=prediction.probabilities.get, reverse=True)[:2]
    if prediction.confidence < 0.5:
        return f"not sure: {best} or {second}"
    if "unlike" in [doubt.code for doubt in prediction.warnings]:
        return f"sounds {best}, but this is unlike anything it knows"
    return f"{best}, {percent(prediction.confidence)} sure"


def files(*pairs):
    return [{"name": name, "mimeType": "audio/wav", "buffer": content} for name, content in pairs]


def upload(window, *pairs):
    """Choose files (name, content) in the dialog that the button opens."""
    with window.expect_file_chooser() as chooser:
        window.get_by_role("button", name="Choose recordings").click()
    chooser.value.set_files(files(*pairs))


def card(window, name):
    return window.locator(".ser-card").filter(has=window.get_by_role("heading", name=name))


def screenshot(window, name):
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    window.locator(".ser-demo").first.scroll_into_view_if_needed()
    window.screenshot(path=SCREENSHOTS / f"{name}.png")


def m4a(y):
    """Encode as a phone does."""
    av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'sercore[decoder]'")
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=SR, layout="mono")
        frame = av.AudioFrame.from_ndarray(y[None], format="fltp", layout="mono")
        frame.sample_rate = SR
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=SR, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


def test_five_recordings_at_once_get_the_answers_of_the_predictor(window, place, clip, predictor):
    good = wav(clip)
    upload(window, ("good.wav", good), ("broken.wav", good[:30] + b"not audio"), (EVIL, good), ("phone.m4a", m4a(clip)),
           ("other.wav", wav(synthesize("sad", sr=SR))))  # fmt: skip
    window.get_by_text("5 recordings, 1 of them unusable.").wait_for()
    expected = predictor.predict(io.BytesIO(good))
    for name in ("good.wav", EVIL):
        shown = card(window, name)
        assert shown.locator(".ser-verdict").inner_text() == heading(expected)
        names, numbers = (shown.locator(kind).all_inner_texts() for kind in (".ser-name", ".ser-number"))
        assert dict(zip(names, numbers, strict=True)) == {
            ("▶ " if emotion == expected.label else "") + emotion: percent(share)
            for emotion, share in expected.probabilities.items()
        }
    assert expected.label in card(window, "phone.m4a").locator(".ser-verdict").inner_text()
    assert "Cannot use this file" in card(window, "broken.wav").inner_text()
    # The player and the picture have arrived and can be decoded.
    shown = card(window, "good.wav")
    window.wait_for_function("audio => audio.duration > 1", arg=shown.locator("audio").element_handle())
    assert shown.locator("img").first.evaluate("image => image.naturalWidth") > 500
    assert "good.wav" in shown.locator("img").first.get_attribute("alt")
    assert shown.locator(".ser-track").first.bounding_box()["width"] > 100, "the bars are squeezed"
    screenshot(window, f"{place}_wide")

    with window.expect_download() as download:
        window.get_by_role("link", name="Save as CSV").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text("utf-8-sig").splitlines()))
    assert [row["file"] for row in rows] == ["good.wav", "broken.wav", EVIL, "phone.m4a", "other.wav"]
    assert float(rows[0]["confidence"]) == pytest.approx(expected.confidence, abs=1e-6)


def test_a_recording_of_30_mb_is_answered_and_a_larger_one_gets_its_reason(window, place, clip, predictor, tmp_path):
    stereo = np.resize(clip, (29_900_000 // 4 // 2, 1)).repeat(2, axis=1)
    large = wav(stereo, subtype="FLOAT")
    assert 29e6 < len(large) < 30e6
    # As files: Playwright hands over 50 MB at most.
    (tmp_path / "large.wav").write_bytes(large)
    (tmp_path / "larger.wav").write_bytes(large + bytes(2_000_000))
    with window.expect_file_chooser() as chooser:
        window.get_by_role("button", name="Choose recordings").click()
    chooser.value.set_files([tmp_path / "large.wav", tmp_path / "larger.wav"])
    window.get_by_text("2 recordings, 1 of them unusable.").wait_for()
    assert card(window, "large.wav").locator(".ser-verdict").inner_text() == heading(
        predictor.predict(io.BytesIO(large))
    )
    assert "Too large" in card(window, "larger.wav").inner_text()
    screenshot(window, f"{place}_large")


def test_what_the_microphone_hears_gets_the_label_of_the_file(window, place, clip, predictor):
    window.get_by_role("button", name="Record", exact=True).click()
    window.get_by_role("button", name="Stop", exact=True).wait_for()
    time.sleep(len(clip) / SR + 1)
    window.get_by_role("button", name="Stop", exact=True).click()
    shown = card(window, "microphone-1.wav")
    shown.wait_for()
    best = shown.locator(".ser-name").filter(has_text="▶").inner_text()
    assert best == f"▶ {predictor.predict((clip, SR)).label}"
    window.get_by_role("button", name="Record again").wait_for()
    screenshot(window, f"{place}_microphone")


def test_a_visitor_chooses_the_network_that_answers(window, place, clip):
    names = {"ravdess": "RAVDESS: the CNN", "any_voice": "Any voice: for recordings"}
    for n, (network, words) in enumerate(names.items(), 1):
        window.get_by_role("radio", name=words).check()
        window.get_by_text(f"From now on {network} answers").wait_for()
        upload(window, (f"{network}.wav", wav(clip)))
        window.get_by_text(f"{n} recording").wait_for()
        shown = card(window, f"{network}.wav").locator(".ser-verdict").inner_text()
        assert shown == heading(Predictor(network).predict(io.BytesIO(wav(clip))))
        assert network in window.locator(".ser-table tbody tr").nth(n - 1).inner_text()
    screenshot(window, f"{place}_choice")


def test_an_example_is_one_click_and_can_be_taken_back(window, place):
    window.locator(".ser-examples").get_by_role("button", name="angry").click()
    shown = card(window, "example-angry.flac")
    shown.get_by_text("answered by any_voice").wait_for()
    expected = Predictor().predict(samples_dir() / "angry.flac")
    assert shown.locator(".ser-verdict").first.inner_text() == heading(expected)
    assert expected.label in window.locator(".ser-controls [role=status]").inner_text()  # said to a screen reader
    shown.get_by_role("button", name="Ask ravdess as well").click()
    shown.get_by_text("ravdess 0.1.0 answers").wait_for()
    screenshot(window, f"{place}_example")
    window.locator(".ser-controls").get_by_role("button", name="Clear").click()
    window.locator(".ser-controls").get_by_role("button", name="Undo").click()
    shown.get_by_role("button", name="Remove").click()
    window.get_by_text("No recording yet.").wait_for()
    assert window.locator(".ser-card").count() == 0


def test_a_file_dropped_beside_the_frame_is_taken_by_the_page(window, place, clip):
    dropped = window.evaluate_handle("""content => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(content)], "beside.wav", {type: "audio/wav"}));
        return data;
    }""", list(wav(clip)))  # fmt: skip
    window.locator("h1").last.dispatch_event("drop", {"dataTransfer": dropped})
    if place == "page":
        card(window, "beside.wav").wait_for()
    else:  # JupyterLab has uses of its own for a file
        time.sleep(1)
        assert window.locator(".ser-card").count() == 0


def test_live_hears_the_voice_until_it_is_stopped(window, place):
    window.get_by_role("button", name="Live", exact=True).click()
    window.locator(".ser-live .ser-verdict").filter(has_not_text="silence").wait_for()
    screenshot(window, f"{place}_live")
    window.get_by_role("button", name="Stop", exact=True).click()
    window.get_by_text("Live has stopped.").wait_for()


def test_it_fits_a_phone_and_can_be_cleared(window, place, clip):
    window.set_viewport_size({"width": 360, "height": 1400})
    name = "a_recording_with_a_very_long_name_03-01-04-01-01-01-07_copy_of_copy.wav"
    upload(window, (name, wav(clip)))
    window.get_by_text("1 recording.").wait_for()
    shown = window.locator(".ser-card")
    assert shown.evaluate("card => card.scrollWidth <= card.clientWidth"), "the card is wider than its window"
    if place == "page":  # JupyterLab itself is wider
        for part in (".ser-drop", ".ser-mic", ".ser-card"):
            box = window.locator(part).first.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 360, part
        assert window.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    screenshot(window, f"{place}_narrow")
    window.locator(".ser-demo").get_by_role("button", name="Clear").click()
    window.get_by_text("No recording yet.").wait_for()
    assert shown.count() == 0


def test_the_keyboard_alone_uploads_and_records(window, place, clip):
    def tab_to(name, key="Tab"):
        for _ in range(30):
            if window.evaluate("document.activeElement.textContent.trim()") == name:
                return
            window.keyboard.press(key)
        pytest.fail(f"Tab does not reach {name}.")

    window.locator(".ser-drop").click(position={"x": 3, "y": 3})  # a place from which Tab goes on; JupyterLab has many
    tab_to("Choose recordings")
    with window.expect_file_chooser() as chooser:
        window.keyboard.press("Enter")
    chooser.value.set_files(files(("by-keyboard.wav", wav(clip))))
    card(window, "by-keyboard.wav").wait_for()
    tab_to("Record", "Shift+Tab")
    window.keyboard.press("Enter")
    window.get_by_role("button", name="Stop", exact=True).wait_for()
    time.sleep(2)
    tab_to("■ Stop")
    window.keyboard.press("Enter")
    card(window, "microphone-1.wav").wait_for()


def test_a_refused_microphone_is_explained(chromium, visit, place):
    browser = chromium(microphone=False)
    try:
        window = visit(browser, place)
        window.get_by_role("button", name="Record", exact=True).last.click()
        window.get_by_role("alert").filter(has_text="The microphone was refused. Allow it").wait_for()
        screenshot(window, f"{place}_refused")
    finally:
        browser.close()


def test_two_visitors_of_the_page_have_results_of_their_own(browser, visit, page, clip):
    first, second = visit(browser, "page"), visit(browser, "page")
    for window, name in ((first, "first.wav"), (second, "second.wav")):
        upload(window, (name, wav(clip)))
    for window, name, other in ((first, "first.wav", "second.wav"), (second, "second.wav", "first.wav")):
        card(window, name).wait_for()
        assert window.locator(".ser-card").count() == 1
        assert other not in window.content()
        assert window.elsewhere == [], "something is loaded from another host"
        assert window.locator(".jp-InputArea, pre").count() == 0
    # A page that is left ends its session; its address answers no more.
    kernel = first.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    first.goto("about:blank")
    deadline = time.monotonic() + ANSWER_MS / 1000
    gone = False
    while not gone and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{page}api/kernels/{kernel}", timeout=30)
            time.sleep(0.5)
        except urllib.error.HTTPError as error:
            gone = error.code == 404
    assert gone
    first.context.close()
    second.context.close()


def test_an_ended_session_says_so_on_its_page(browser, visit):
    window = visit(browser, "page")
    window.evaluate("""async () => {
        const {baseUrl, kernelId} = JSON.parse(document.getElementById("jupyter-config-data").textContent);
        const token = document.cookie.match("_xsrf=([^;]+)")[1];
        await fetch(`${baseUrl}voila/api/shutdown/${kernelId}`, {method: "POST", headers: {"X-XSRFToken": token}});
    }""")
    window.get_by_role("alert").filter(has_text="This session is over").wait_for()
    screenshot(window, "page_over")
    window.context.close()
