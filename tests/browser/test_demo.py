"""What a visitor meets, in JupyterLab with the shipped settings and on the web page, in a real Chromium."""

import contextlib
import csv
import io
import time
import urllib.error
import urllib.request
from pathlib import Path

import matplotlib.pyplot as plt
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


def n_colors(canvas):
    """Count the colours of what a canvas shows."""
    return canvas.evaluate("""canvas => {
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        return new Set(new Uint32Array(data.buffer)).size;
    }""")


def drag(window, canvas, start, end):
    """Draw the pointer over a canvas, between shares of its width."""
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    y = box["y"] + box["height"] / 2
    window.mouse.move(box["x"] + start * box["width"], y)
    window.mouse.down()
    window.mouse.move(box["x"] + end * box["width"], y, steps=4)
    window.mouse.up()


def position(canvas):
    return float(canvas.get_attribute("aria-valuenow"))


def example(window, emotion="angry"):
    window.locator(".ser-examples").get_by_role("button", name=emotion).click()
    shown = card(window, f"example-{emotion}.flac")
    shown.locator("canvas").wait_for()
    return shown, shown.locator("canvas")


def test_the_playhead_runs_with_the_sound_and_a_click_seeks(window, place):
    shown, canvas = example(window)
    before = canvas.screenshot()
    play = shown.get_by_role("button", name="Play")
    play.click()
    sound = shown.locator("audio").element_handle()
    window.wait_for_function("audio => audio.currentTime > 0.1", arg=sound)  # a busy machine starts it late
    shown.get_by_role("button", name="Pause").click()
    play.wait_for()
    reached = position(canvas)
    assert reached > 0 and canvas.screenshot() != before
    assert shown.locator("audio").evaluate("audio => audio.currentTime") == pytest.approx(reached, abs=0.2)
    box, duration = canvas.bounding_box(), float(canvas.get_attribute("aria-valuemax"))
    canvas.click(position={"x": 46 + (box["width"] - 46) / 2, "y": 100})
    assert position(canvas) == pytest.approx(duration / 2, abs=0.1)
    assert shown.locator("audio").evaluate("audio => audio.currentTime") == pytest.approx(duration / 2, abs=0.1)
    assert shown.get_by_role("button", name="Ask about this part").is_disabled()


def test_a_part_is_chosen_by_dragging_played_alone_and_answered(window, place):
    shown, canvas = example(window)
    drag(window, canvas, 0.4, 0.7)
    start = position(canvas)
    chosen = canvas.get_attribute("aria-valuetext")
    assert "chosen from" in chosen
    end = float(chosen.split(" to ")[1])
    shown.get_by_role("button", name="Ask about this part").click()
    said = shown.locator(".ser-part")
    said.locator(".ser-verdict").wait_for()
    assert f"From {start} to {end} s alone" in said.inner_text()
    assert shown.locator(".ser-verdict").count() == 2
    verdict, bars = said.locator(".ser-verdict").bounding_box(), shown.locator(".ser-bars").bounding_box()
    assert shown.locator(".ser-verdict").first.bounding_box()["y"] < verdict["y"] < bars["y"]
    screenshot(window, f"{place}_part")
    shown.get_by_role("button", name="Play").click()
    shown.get_by_role("button", name="Play").wait_for()  # it stops at the end of the part, and goes back
    assert position(canvas) == start
    drag(window, canvas, 0.4, 0.42)
    shown.get_by_role("button", name="Ask about this part").click()
    said.filter(has_text="Too short a part").wait_for()


def test_the_keyboard_alone_plays_seeks_chooses_and_asks(window, place):
    shown, canvas = example(window)
    canvas.focus()
    window.keyboard.press("Tab")
    window.keyboard.press("Shift+Tab")
    assert (
        canvas.evaluate("canvas => document.activeElement === canvas && getComputedStyle(canvas).outlineWidth") == "3px"
    )
    for _ in range(20):
        window.keyboard.press("ArrowRight")
    moved = position(canvas)
    assert moved > 0.9
    window.keyboard.press("Home")
    assert position(canvas) == 0
    window.keyboard.press("End")
    assert position(canvas) == pytest.approx(float(canvas.get_attribute("aria-valuemax")), abs=0.1)
    window.keyboard.press("Home")
    window.keyboard.press("Space")
    shown.get_by_role("button", name="Pause").wait_for()
    window.keyboard.press("Enter")
    shown.get_by_role("button", name="Play").wait_for()
    window.keyboard.press("Home")
    for _ in range(24):
        window.keyboard.press("Shift+ArrowRight")
    assert "chosen from 0.0 to 1.7" in canvas.get_attribute("aria-valuetext")
    window.keyboard.press("Tab")
    window.keyboard.press("Tab")
    assert window.evaluate("document.activeElement.textContent") == "Ask about this part"
    window.keyboard.press("Enter")
    shown.locator(".ser-part .ser-verdict").wait_for()
    canvas.focus()
    window.keyboard.press("Escape")
    assert shown.get_by_role("button", name="Ask about this part").is_disabled()


def test_what_it_listened_to_is_a_layer_that_can_be_switched(window, place):
    shown, canvas = example(window)
    layer = shown.get_by_role("checkbox", name="Show what it listened to")
    layer.wait_for()  # it comes after the answer
    assert not layer.is_checked() and not shown.get_by_text("Outlined:").is_visible()
    plain = canvas.evaluate("canvas => canvas.toDataURL()")
    layer.check()
    assert canvas.evaluate("canvas => canvas.toDataURL()") != plain
    assert "spoke most for" in shown.get_by_text("Outlined:").inner_text()
    screenshot(window, f"{place}_layer")
    layer.uncheck()
    assert canvas.evaluate("canvas => canvas.toDataURL()") == plain


def test_a_long_recording_has_its_timeline_under_the_playhead(window, place, clip):
    y = np.concatenate([clip, np.zeros(3 * SR, np.float32), clip])
    upload(window, ("long.wav", wav(y)))
    shown = card(window, "long.wav")
    legend = shown.locator(".ser-legend")
    legend.wait_for()
    assert "silence until" in legend.get_attribute("aria-label") and "silence" in legend.inner_text()
    canvas = shown.locator("canvas")
    middle = (len(clip) / SR + 1.5) / (len(y) / SR)
    box = canvas.bounding_box()
    canvas.click(position={"x": 46 + (box["width"] - 46) * middle, "y": 100})
    assert canvas.get_attribute("aria-valuetext").endswith(", silence")


def test_what_a_visitor_says_is_counted(window, place):
    shown, _ = example(window)
    label = Predictor().predict(samples_dir() / "angry.flac").label
    yes = shown.get_by_role("button", name=f"Yes, {label}")
    yes.click()
    window.get_by_text("1 of 1 right, as you say.").wait_for()
    assert yes.get_attribute("aria-pressed") == "true"
    shown.get_by_label("No, it was …").select_option("calm")
    window.get_by_text("0 of 1 right, as you say.").wait_for()
    assert yes.get_attribute("aria-pressed") == "false"
    assert "calm" in window.locator(".ser-table tbody tr").inner_text()
    with window.expect_download() as download:
        window.get_by_role("link", name="Save as CSV").click()
    (row,) = csv.DictReader(Path(download.value.path()).read_text("utf-8-sig").splitlines())
    assert row["told"] == "calm"


def test_a_card_is_saved_as_a_picture(window, place):
    shown, _ = example(window)
    with window.expect_download() as download:
        shown.get_by_role("button", name="Save as picture").click()
    assert download.value.suggested_filename == "example-angry.flac.png"
    picture = plt.imread(download.value.path())
    assert picture.shape == (900, 1600, 4)
    assert picture[:5].min() == 1 and len(np.unique(picture.reshape(-1, 4), axis=0)) > 500
    right = picture[450:700, 850:1500, :3]
    assert right.mean() < 0.6  # the spectrogram, which is dark
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    download.value.save_as(SCREENSHOTS / f"{place}_picture.png")


@pytest.mark.parametrize(("address", "locale"), [("?lang=de", "en-US"), ("", "de-AT"), ("?lang=xx", "de")])
def test_a_german_page_is_german(browser, page, address, locale):
    with contextlib.closing(browser.new_context(locale=locale)) as context:
        window = context.new_page()
        window.set_default_timeout(ANSWER_MS)
        window.goto(page + address)
        window.get_by_role("button", name="Aufnahmen wählen").wait_for()
        assert window.title() == "Welche Emotion liegt in der Stimme?"
        assert window.evaluate("document.documentElement.lang") == "de"
        if address == "?lang=de":
            window.locator(".ser-examples").get_by_role("button", name="wütend").click()
            window.get_by_role("button", name="Abspielen").wait_for()
            text = window.locator(".ser-demo").inner_text()
            english = [word for word in ("sure", "Play", "recording", "answer", "Save", "right") if word in text]
            assert english == []
            screenshot(window, "page_german")


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
    # The sound has arrived and can be decoded, and the picture is drawn.
    shown = card(window, "good.wav")
    window.wait_for_function("audio => audio.duration > 1", arg=shown.locator("audio").element_handle())
    assert n_colors(shown.locator("canvas")) > 100
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page(browser, visit, axe, page, scheme):
    window = visit(browser, "page")
    window.emulate_media(color_scheme=scheme)
    assert axe(window, "html") == []
    window.locator(".ser-examples").get_by_role("button", name="angry").click()
    window.get_by_text("1 recording.").wait_for()
    window.locator(".ser-card .ser-layer input").check()
    canvas = window.locator(".ser-card canvas")
    drag(window, canvas, 0.4, 0.7)
    window.get_by_role("button", name="Ask about this part").click()
    window.locator(".ser-part").wait_for()
    screenshot(window, f"page_{scheme}")
    assert axe(window, "html") == []


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


def test_a_notebook_that_is_opened_again_shows_the_same(browser, visit):
    window = visit(browser, "lab")
    example(window)
    window.get_by_role("radio", name="RAVDESS: the CNN").check()
    window.get_by_text("From now on ravdess answers").wait_for()
    window.locator(".jp-Notebook").click(position={"x": 3, "y": 3})
    window.keyboard.press("Control+s")
    window.locator(".jp-mod-dirty").wait_for(state="detached")
    window.reload()
    card(window, "example-angry.flac").locator("canvas").wait_for()
    window.get_by_text("1 recording.").wait_for()
    assert window.get_by_role("radio", name="RAVDESS: the CNN").is_checked()
    window.context.close()


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
