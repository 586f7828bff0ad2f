"""widgets: upload recordings in a notebook or web page, and see emotion, certainty and doubts of each.

The browser and the kernel exchange bytes; nothing is written to disk. Every name and message that comes
from outside is escaped before it becomes HTML.
"""

import base64
import io
from html import escape
from pathlib import Path

import ipywidgets as widgets
import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from sercore.errors import AudioError
from sercore.features import log_mel
from sercore.labels import COLORS, EMOTIONS
from sercore.plots import plot_spectrogram, plot_waveform
from sercore.predict import MIN_CONFIDENCE, Predictor, prediction_row

#: Largest recording [MB] that is taken. Jupyter drops a message above its own limit (10 MB) without a word;
#: notebooks/jupyter_server_config.py raises that limit above this one.
MAX_UPLOAD_MB = 30
#: What the file dialog offers: by type, and by suffix where a system does not know the type.
ACCEPT = "audio/*,.wav,.flac,.ogg,.mp3,.aiff,.aif"

_FORMATS = {".mp3": "mpeg", ".ogg": "ogg", ".opus": "ogg", ".flac": "flac", ".aiff": "aiff", ".aif": "aiff"}
_COLUMNS = ["file", "label", "confidence", *EMOTIONS, "duration_s", "warnings", "error"]
# JupyterLab's variables follow its theme, light or dark; the values after the comma serve elsewhere.
_STYLE = """<style>
.ser-demo {max-width: 1040px; color: var(--jp-ui-font-color1, #1f2328)}
.ser-demo .widget-html-content, .ser-demo p {line-height: 1.45; margin: 0 0 4px}
.ser-demo h2 {font-size: 20px; margin: 0 0 2px} .ser-demo img {display: block; border-radius: 4px; width: 100%}
.ser-demo .ser-small {font-size: 13px; font-weight: 400; color: var(--jp-ui-font-color2, #57606a)}
.ser-card {border: 1px solid var(--jp-border-color1, #c4c9d0); border-radius: 8px; padding: 14px 16px; margin: 8px 2px;
  background: var(--jp-layout-color1, #fff)}
.ser-card h3 {font-size: 14px; margin: 0; overflow-wrap: anywhere}
.ser-card .ser-verdict {font-size: 22px; font-weight: 700; margin: 2px 0 6px; padding-left: 10px; line-height: 1.25}
.ser-card .ser-doubt {margin: 6px 0 0; padding: 6px 12px; border-radius: 6px; background: #fff3cd; color: #3d2f00}
.ser-card .ser-error {padding-left: 10px; border-left: 8px solid #b3261e; overflow-wrap: anywhere}
.ser-bars {display: grid; grid-template-columns: max-content 1fr max-content; gap: 9px 12px; font-size: 14px}
.ser-bars > div {display: contents} .ser-bars .ser-best {font-weight: 700}
.ser-bars .ser-number {text-align: right}
.ser-track {height: 16px; align-self: center; background: var(--jp-layout-color2, #eef0f2)}
.ser-track, .ser-track span {display: block; border-radius: 3px} .ser-track span {height: 100%; min-width: 2px}
.ser-table {overflow-x: auto; font-size: 13px} .ser-table table {border-collapse: collapse; width: 100%}
.ser-table caption {text-align: left; font-weight: 600; padding: 4px 0}
.ser-table th, .ser-table td {text-align: left; padding: 4px 12px 4px 0; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--jp-border-color2, #e0e0e0)}
.ser-table th:first-child, .ser-table td:last-child {white-space: normal; overflow-wrap: anywhere; min-width: 130px}
.ser-demo a.ser-download {padding: 4px 12px; color: inherit; text-decoration: underline}
</style>"""


class Demo(widgets.VBox):
    """Upload-and-predict: a card for each recording, and a table of all of them.

    Parameters
    ----------
    predictor : sercore.predict.Predictor

    Attributes
    ----------
    upload : ipywidgets.FileUpload
        Takes one recording or several; setting its `value` acts like a visitor's choice.
    clear : ipywidgets.Button
        Forgets everything.
    status : ipywidgets.HTML
        One line: what is being done, or was done.
    results : ipywidgets.VBox
        The cards, the newest first.
    table : ipywidgets.HTML
        All recordings of this session, in the order they came.
    download : ipywidgets.HTML
        A link that holds that table as a CSV file; empty without recordings.
    clips : pd.DataFrame
        That table, with the columns of `Predictor.predict_files`.
    """

    def __init__(self, predictor):
        self._predictor = predictor
        self._rows = []
        self.upload = widgets.FileUpload(accept=ACCEPT, multiple=True, button_style="primary")
        self.upload.description, self.upload.layout.width = "Choose recordings", "190px"
        self.clear = widgets.Button(description="Clear", icon="trash", layout=widgets.Layout(width="100px"))
        self.status, self.table, self.download = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.results = widgets.VBox()
        self.upload.observe(self._on_upload, names="value")
        self.clear.on_click(lambda _: self._forget())
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        controls = widgets.HBox([self.upload, self.clear, self.download], layout=row)
        super().__init__([widgets.HTML(_STYLE + _INTRO), controls, self.status, self.results, self.table])
        self.add_class("ser-demo")
        self._forget()

    @property
    def clips(self):
        return pd.DataFrame(self._rows, columns=_COLUMNS)

    def add(self, name, content):
        """Predict one recording and show its card, as if it had been uploaded.

        Parameters
        ----------
        name : str
            File name, shown to the visitor.
        content : bytes
            The file.

        Returns
        -------
        prediction : sercore.predict.Prediction or None
            None if the recording cannot be used; its card says why.
        """
        name, content = str(name), bytes(content)
        self._say(f"Listening to {name} …")
        try:
            card, row, prediction = self._listen(name, content)
        except AudioError as error:
            row, prediction = {"file": name, "error": str(error)}, None
            card = [widgets.HTML(_complaint(name, error))]
        self._rows.append(row)
        self.results.children = (widgets.VBox(card).add_class("ser-card"), *self.results.children)
        self.table.value, self.download.value = _table(self._rows), _csv_link(self.clips)
        n, n_bad = len(self._rows), sum(bool(row["error"]) for row in self._rows)
        self._say(f"{n} recording{'s' * (n > 1)}{f', {n_bad} of them unusable' * bool(n_bad)}.")
        return prediction

    def snapshot(self):
        """Give what is shown, without the players, as HTML that needs no kernel: for a saved notebook.

        Returns
        -------
        html : str
        """
        parts = [_html(widget) for widget in (self.status, self.results, self.table)]
        return f'{_STYLE}<div class="ser-demo">{"".join(parts)}</div>'

    def _listen(self, name, content):
        if len(content) > MAX_UPLOAD_MB * 10**6:
            raise AudioError(f"Too large: {name} has {len(content) / 1e6:.0f} MB, expected at most {MAX_UPLOAD_MB} MB.")
        file = io.BytesIO(content)
        file.name = name  # what an error message calls it
        y = self._predictor.load(file)
        config = self._predictor.config
        prediction = self._predictor.predict((y, config.sr))
        half, kind = widgets.Layout(flex="1 1 320px", min_width="0"), _FORMATS.get(Path(name).suffix.lower(), "wav")
        player = widgets.Audio(value=content, format=kind, autoplay=False, loop=False)
        player.layout.width = "100%"
        picture = widgets.HTML(_picture(y, config, name))
        sides = [widgets.HTML(_bars(prediction), layout=half), widgets.VBox([player, picture], layout=half)]
        sides = widgets.Box(sides, layout=widgets.Layout(flex_flow="row wrap", grid_gap="12px 24px"))
        card = [widgets.HTML(_head(name, prediction)), sides, widgets.HTML(_doubts(prediction))]
        return card, prediction_row(name, prediction), prediction

    def _on_upload(self, change):
        files = change["new"]
        for file in files:
            self.add(file["name"], file["content"])
        if files:
            self.upload.value = ()  # so that the same file can be chosen again

    def _forget(self):
        for card in self.results.children:
            _close(card)
        self._rows = []
        self.results.children = ()
        self.table.value = self.download.value = ""
        self._say("No recording yet.")

    def _say(self, text):
        self.status.value = f'<p role="status" class="ser-small">{escape(text)}</p>'


def build_demo(predictor=None):
    """Build the upload-and-predict demo; display it as the last expression of a cell.

    Parameters
    ----------
    predictor : Predictor, optional
        Default: one with the shipped weights.

    Returns
    -------
    demo : Demo
        Also drivable without a browser: ``demo.add(name, content)``.

    Raises
    ------
    ConfigError
        If the shipped weights are missing.
    """
    return Demo(predictor or Predictor())


_INTRO = f"""<h2>Which emotion is in the voice?</h2>
<p>Choose one recording or several: WAV, FLAC, OGG, MP3 or AIFF, one person speaking for one to ten seconds.</p>
<p class="ser-small">At most {MAX_UPLOAD_MB} MB at a time where <code>make lab</code> started Jupyter; a plain start
loses more than 10 MB without a word. Recordings stay in this session's memory and are written nowhere.</p>"""


def _html(widget):
    if isinstance(widget, widgets.HTML):
        return widget.value
    inside = "".join(_html(child) for child in getattr(widget, "children", ()))
    return f'<div class="{" ".join(widget._dom_classes)}">{inside}</div>' if inside else ""


def _close(widget):
    for child in getattr(widget, "children", ()):
        _close(child)
    widget.close()


def _head(name, prediction):
    best, second = sorted(EMOTIONS, key=prediction.probabilities.get, reverse=True)[:2]
    sure = prediction.confidence >= MIN_CONFIDENCE
    verdict = f"{best}, {_percent(prediction.confidence)} sure" if sure else f"not sure: {best} or {second}"
    return (
        f'<h3>{escape(name)} <span class="ser-small">({prediction.duration_s:.1f} s)</span></h3>'
        f'<p class="ser-verdict" style="border-left: 8px solid {COLORS[best]}">{verdict}</p>'
    )


def _complaint(name, error):
    return f'<h3>{escape(name)}</h3><p class="ser-error"><b>✕ Cannot use this file.</b> {escape(str(error))}</p>'


def _doubts(prediction):
    notes = [text for text in prediction.warnings if not text.startswith("Not sure")]  # the verdict says it
    return "".join(f'<p class="ser-doubt">⚠ {escape(text)}</p>' for text in notes)


def _bars(prediction):
    rows = []
    for emotion, share in prediction.probabilities.items():
        mark, best = ("▶ ", " ser-best") if emotion == prediction.label else ("", "")
        bar = f'<span style="width: {share:.1%}; background: {COLORS[emotion]}"></span>'
        rows += [
            f'<div role="listitem"><span class="ser-name{best}">{mark}{emotion}</span>',
            f'<span class="ser-track" aria-hidden="true">{bar}</span>',
            f'<span class="ser-number{best}">{_percent(share)}</span></div>',
        ]
    title = 'role="list" aria-label="Calibrated probability of each emotion"'
    return f'<div class="ser-bars" {title}>{"".join(rows)}</div>'


def _percent(share):
    return f"{100 * share:.0f}\u00a0%"  # a space that never breaks


def _picture(y, config, name):
    """Draw waveform and log-mel spectrogram; at most 2,000 frames, however long the recording."""
    S_db = log_mel(y, sr=config.sr, config=config)
    step = -(-S_db.shape[1] // 2000)
    # A Figure of its own: pyplot would keep it, and a notebook would show it a second time.
    with mpl.rc_context({"font.size": 9, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8}):
        figure = Figure(figsize=(6, 3.4), layout="constrained")
        over, under = figure.subplots(2, sharex=True, height_ratios=(1, 1.6))
        plot_waveform(y, sr=config.sr, ax=over).set(xlabel="", ylabel="Amplitude")
        options = {"hop_length": config.hop_length * step, "fmin": config.fmin_hz, "fmax": config.fmax_hz}
        plot_spectrogram(S_db[:, ::step], sr=config.sr, colorbar=False, ax=under, **options)
        under.set(ylabel="Mel (Hz)", xlim=(0, len(y) / config.sr))
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=130)
    # Not widgets.Image: that has no alternative text, and its tooltip keeps the browser from showing it.
    source = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return f'<img src="{source}" alt="Waveform and log-mel spectrogram of {escape(name)}">'


def _table(rows):
    body = []
    for row in rows:
        cells = ["–", "–", "–", row["error"]]
        if not row["error"]:
            cells = [row["label"], _percent(row["confidence"]), f"{row['duration_s']:.1f} s", row["warnings"] or "–"]
        body.append(f'<tr><th scope="row">{escape(row["file"])}</th>')
        body += [f"<td>{escape(cell)}</td>" for cell in cells]
    head = "".join(f'<th scope="col">{text}</th>' for text in ("File", "Emotion", "Confidence", "Duration", "Remarks"))
    top = f"<caption>All recordings of this session</caption><thead><tr>{head}</tr></thead>"
    return f'<div class="ser-table"><table>{top}<tbody>{"".join(body)}</tbody></table></div>'


def _csv_link(clips):
    data = base64.b64encode(clips.to_csv(index=False).encode()).decode()
    link = f'download="emotions.csv" href="data:text/csv;charset=utf-8;base64,{data}"'
    return f'<a class="ser-download" {link}>⬇ Save as CSV</a>'
