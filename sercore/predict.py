"""predict: from a recording to an emotion, its probability, and what to distrust."""

import numbers
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from sercore import __version__
from sercore.audio import (
    check_waveform,
    cut_pauses,
    frame_levels_db,
    level_dbfs,
    load_audio,
    resample,
    stream_audio,
    trim_silence,
    windows_of,
)  # fmt: skip
from sercore.decoder import converted
from sercore.errors import OF_THE_PATH, AudioError, ConfigError
from sercore.features import compute, one_thread
from sercore.labels import EMOTIONS
from sercore.models import load_checkpoint, predict_logits

if TYPE_CHECKING:  # loaded where it is needed: an answer alone comes in half the time
    import pandas as pd

#: The shipped networks by name, the default first; their model card lies beside them.
VARIANTS = {
    name.partition("_")[2]: Path(__file__).parent / "pretrained" / f"{name}.safetensors"
    for name in ("whisper_any_voice", "cnn_ravdess", "cnn_small")
}

#: Speech shorter than this [s] says little; the shortest RAVDESS clip, trimmed, lasts 1.2 s.
MIN_SPEECH_S = 1.0
#: A clip longer than this [s] holds more than one utterance, and perhaps more than one emotion.
MAX_CLIP_S = 10.0
#: Levels [dBFS] of trimmed RAVDESS speech reach from -60 to -15; below the first, a window counts as silence.
MIN_LEVEL_DBFS = -60.0
#: Share of samples at full scale above which a recording counts as clipped.
MAX_CLIPPED_SHARE = 0.001
#: Speech moves its level by more than this [dB] between loud and quiet frames (RAVDESS: 17 at least); hum and hiss do not.
MIN_DYNAMIC_DB = 6.0
#: Below this calibrated probability the answer is called unsure.
MIN_CONFIDENCE = 0.5

#: So many files are answered together.
TOGETHER = 8

#: Columns of `Predictor.predict_files` and of `Predictor.timeline`.
COLUMNS = ["file", "network", "label", "confidence", *EMOTIONS, "duration_s", "warnings", "error"]
TIMES = ["start_s", "end_s", "label", "confidence", *EMOTIONS]

Recording = str | Path | BinaryIO | tuple[np.ndarray, int]


class Doubt(NamedTuple):
    """What speaks against an answer: "short", "long", "quiet", "clipped", "no_speech", "unlike" or "unsure", in words."""

    code: str
    text: str


@dataclass(frozen=True)
class Prediction:
    """What a network makes of one recording.

    `confidence` is the calibrated probability of `label`; `probabilities` has all eight emotions, in the order of
    `labels.EMOTIONS`; `duration_s` is that of the recording as it was given, and `network` says who answered.
    """

    label: str
    confidence: float
    probabilities: dict[str, float]
    warnings: tuple[Doubt, ...]
    duration_s: float
    network: str


class Predictor:
    """A trained network, ready to be asked.

    Parameters
    ----------
    checkpoint : str or Path
        A ``.safetensors`` file from `sercore train`, or a name in `VARIANTS`.
    device : str

    Raises
    ------
    ConfigError
        If the checkpoint is missing or damaged.

    Examples
    --------
    >>> Predictor("ravdess").name
    'ravdess 0.1.0'
    """

    def __init__(self, checkpoint: str | Path = "any_voice", *, device: str = "cpu"):
        self.checkpoint = _file_of(checkpoint)
        shipped = {path: f"{name} {__version__}" for name, path in VARIANTS.items()}
        self.name = shipped.get(self.checkpoint, self.checkpoint.stem)
        self.model, self.metadata = load_checkpoint(self.checkpoint)
        self.model.to(device)
        self.config = self.metadata["feature_config"]
        self.temperature = self.metadata["temperature"]

    def predict(self, recording: Recording) -> Prediction:
        """Recognise the emotion of one clip; of one longer than what the network sees at once, by the mean over windows.

        Parameters
        ----------
        recording : str, Path, binary file object, or tuple (y, sr)
            A file, or a mono float waveform with its sampling rate.

        Returns
        -------
        prediction : Prediction

        Raises
        ------
        AudioError
            If the recording cannot be used.

        Examples
        --------
        >>> Predictor().predict("clip.wav").label  # doctest: +SKIP
        'happy'
        """
        return self._answer([self._hear(recording)])[0]

    def _hear(self, recording):
        """What is kept of a recording: a feature, what is to be doubted whatever the answer, and its length [s]."""
        y, sr, outliers = self.load(recording), self.config.sr, self.metadata["outliers"]
        with one_thread():
            # What does not fit the network's window is heard in several, and pauses would vote.
            fits = len(trim_silence(y)) <= self.config.window_s * sr
            speech = y if fits else cut_pauses(y, sr=sr)
            feature = compute(speech, config=self.config, kind=self.model.kind)
            return feature, _doubts(speech, sr, outliers(feature) if outliers else 0.0), len(y) / sr

    def _answer(self, heard):
        """Give the predictions of some recordings; together they take half the time."""
        features, doubts, durations = zip(*heard, strict=True)
        return [
            Prediction(
                label=EMOTIONS[int(proba.argmax())],
                confidence=float(proba.max()),
                probabilities=dict(zip(EMOTIONS, map(float, proba), strict=True)),
                warnings=doubted + _unsure(proba),
                duration_s=duration_s,
                network=self.name,
            )
            for proba, doubted, duration_s in zip(self._probabilities(features), doubts, durations, strict=True)
        ]

    def load(self, recording: Recording) -> np.ndarray:
        """Bring a recording to the waveform (n_samples,), at `config.sr`, that the features are computed from."""
        if not isinstance(recording, tuple):
            return load_audio(_file(recording), sr=self.config.sr)
        y, sr = _waveform(recording)
        return resample(check_waveform(y), sr, self.config.sr)

    def predict_files(self, paths: Iterable[str | Path], *, jobs: int = 1) -> Iterator[dict]:
        """Recognise many clips, and give a row for each as it comes, in their order: ``pd.DataFrame(rows, columns=COLUMNS)``.

        A clip that cannot be used gets its ``error``, and the others their emotions. `jobs` processes share the work (-1:
        one a core); then even a decoder that dies takes no other clip along.
        """
        paths = [Path(path) for path in paths]
        if jobs == 1:
            for part in _parts(paths):
                yield from self._rows(part)
            return
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        while paths:
            n_done = 0
            try:
                for rows in _in_processes(self.checkpoint, _parts(paths), jobs):
                    n_done += len(rows)
                    yield from rows
                return
            except TerminatedWorkerError:  # one of these killed its process: each is asked about alone
                suspects, paths = paths[n_done:][: 8 * TOGETHER], paths[n_done:][8 * TOGETHER :]
            for path in suspects:
                try:
                    for rows in _in_processes(self.checkpoint, [[path]], 2):
                        yield from rows
                except TerminatedWorkerError:
                    why = f"Decoder died on {path.name}: expected a whole recording{converted(path.name)}."
                    yield _failed(path, self.name, why)

    def _rows(self, paths):
        """Ask about some files together; one that cannot be used has its own row."""
        rows, heard = {}, {}
        for path in paths:
            try:
                heard[path] = self._hear(path)
            except AudioError as error:
                rows[path] = _failed(path, self.name, str(error))
            except OSError as error:
                if error.errno not in OF_THE_PATH:
                    raise
                rows[path] = _failed(path, self.name, f"Cannot open {path.name}: {error.strerror}.")
        if heard:
            answers = self._answer(list(heard.values()))
            rows |= {path: prediction_row(path, answer) for path, answer in zip(heard, answers, strict=True)}
        return [rows[path] for path in paths]

    def timeline(self, recording: Recording, *, window_s: float | None = None, hop_s: float = 1.0) -> "pd.DataFrame":
        """Follow the emotion through a long recording, one window at a time.

        A file is decoded window by window, so memory does not grow with its length.

        Parameters
        ----------
        recording : str, Path, or tuple (y, sr)
        window_s, hop_s : float > 0 [s]
            Length of a window, by default what the network sees at once, and from one start to the next.

        Returns
        -------
        table : pd.DataFrame
            Columns ``start_s, end_s, label, confidence`` and one for each emotion; in windows without
            sound the label is "silence" and the numbers are NaN.

        Raises
        ------
        AudioError
            If the recording cannot be opened, or `window_s` or `hop_s` is not above 0.

        Examples
        --------
        >>> Predictor().timeline("lecture.wav", hop_s=2.0)["label"].value_counts()  # doctest: +SKIP
        """
        window_s = self.config.window_s if window_s is None else window_s
        if not (window_s > 0 and hop_s > 0):
            raise AudioError(f"Bad window_s {window_s} or hop_s {hop_s}: expected seconds above 0.")
        sr, rows = self.config.sr, []
        if isinstance(recording, tuple):
            y, given_sr = _waveform(recording)
            blocks = [resample(np.asarray(y, dtype=np.float32), given_sr, sr)]
        else:
            blocks = stream_audio(_file(recording), sr=sr)
        for start_s, y in windows_of(blocks, sr=sr, window_s=window_s, hop_s=hop_s):
            row = {"start_s": start_s, "end_s": start_s + len(y) / sr, "label": "silence"}
            if level_dbfs(y - y.mean()) >= MIN_LEVEL_DBFS:
                proba = self._probabilities([compute(y, config=self.config, kind=self.model.kind)])[0]
                row |= {"label": EMOTIONS[int(proba.argmax())], "confidence": proba.max()}
                row |= dict(zip(EMOTIONS, proba, strict=True))
            rows.append(row)
        import pandas as pd

        return pd.DataFrame(rows, columns=TIMES)

    def _probabilities(self, features):
        """Of each feature [shape=(n, 8)]; those of like length go through the network together, and need no padding."""
        order = sorted(range(len(features)), key=lambda k: features[k].shape[-1])
        logits = np.empty((len(features), len(EMOTIONS)))
        logits[order] = predict_logits(self.model, [features[k] for k in order], config=self.config, batch_size=4)
        proba = np.exp((logits - logits.max(axis=1, keepdims=True)) / self.temperature)
        proba /= proba.sum(axis=1, keepdims=True)
        if not np.isfinite(proba).all():
            raise ConfigError(f"Bad network {self.name}: its answer is not finite; expected another checkpoint.")
        return proba


def _file_of(checkpoint):
    return VARIANTS.get(str(checkpoint), Path(checkpoint))


def _doubts(y, sr, distance):
    speech = trim_silence(y)
    speech_s, level = len(speech) / sr, level_dbfs(speech)
    dynamic_db = np.subtract(*np.percentile(frame_levels_db(speech, frame_length=640, hop_length=320), [95, 10]))
    clipped = float(np.mean(np.abs(y) >= 0.999))
    doubts = {}
    if speech_s < MIN_SPEECH_S:
        doubts["short"] = f"Too short: {speech_s:.1f} s of speech, expected at least {MIN_SPEECH_S:.0f} s."
    if speech_s > MAX_CLIP_S:
        doubts["long"] = f"Long: {speech_s:.0f} s of speech get one answer; the timeline shows how it changes."
    if level < MIN_LEVEL_DBFS:
        doubts["quiet"] = f"Too quiet: {level:.0f} dBFS, expected above {MIN_LEVEL_DBFS:.0f} dBFS."
    if clipped > MAX_CLIPPED_SHARE:
        doubts["clipped"] = f"Clipped: {clipped:.1%} of the samples are at full scale; record at a lower level."
    if dynamic_db < MIN_DYNAMIC_DB:
        doubts["no_speech"] = f"No speech found: the level moves by {dynamic_db:.0f} dB only, speech moves more."
    if distance > 1:
        doubts["unlike"] = "Unlike the training data: it sounds like none of the voices and microphones there."
    return tuple(Doubt(code, text) for code, text in doubts.items())


def _unsure(proba):
    first, second = (EMOTIONS[k] for k in np.argsort(proba)[::-1][:2])
    return (Doubt("unsure", f"Not sure: {first} or {second}."),) if proba.max() < MIN_CONFIDENCE else ()


def prediction_row(file: str | Path, prediction: Prediction) -> dict:
    """Lay the prediction of a clip of this name out as a row, as `Predictor.predict_files` does."""
    row = {"file": str(file), "network": prediction.network, "label": prediction.label}
    row |= {"confidence": prediction.confidence, **prediction.probabilities, "duration_s": prediction.duration_s}
    return row | {"warnings": " ".join(doubt.text for doubt in prediction.warnings), "error": ""}


def _failed(path, network, reason):
    return {"file": str(path), "network": network, "error": reason}


def _parts(paths):
    return [paths[k : k + TOGETHER] for k in range(0, len(paths), TOGETHER)]


def _in_processes(checkpoint, parts, jobs):
    from joblib import Parallel, delayed

    return Parallel(n_jobs=jobs, return_as="generator", batch_size=1)(delayed(_ask)(checkpoint, p) for p in parts)


def _ask(checkpoint, paths):
    return kept(checkpoint)._rows(paths)


def _file(recording):
    if isinstance(recording, str | Path) or hasattr(recording, "read"):
        return recording
    kind = type(recording).__name__
    raise AudioError(f"Bad recording of type {kind}: expected a path, an open binary file, or a tuple (y, sr).")


def _waveform(recording):
    y, sr = recording if len(recording) == 2 else (None, None)
    if isinstance(y, numbers.Real) and np.ndim(sr):
        raise AudioError("Bad recording: got (sr, y), expected a tuple (y, sr), the waveform first.")
    if not np.ndim(y) or not isinstance(sr, numbers.Real) or isinstance(sr, bool) or sr != int(sr):
        raise AudioError(
            f"Bad recording: expected a tuple (y, sr) of a waveform and its rate [Hz], got {recording!r:.60}."
        )
    return y, int(sr)


def kept(checkpoint: str | Path = "any_voice") -> Predictor:
    """Give the predictor of a checkpoint: loaded once, shared by all who ask, and loaded anew when its file changes."""
    path = _file_of(checkpoint)
    return _kept(path, path.stat().st_mtime_ns if path.is_file() else None)


@lru_cache(maxsize=4)
def _kept(checkpoint, changed_ns):
    return Predictor(checkpoint)


def predict_emotion(recording: Recording, *, checkpoint: str | Path = "any_voice") -> Prediction:
    """Recognise the emotion of one clip; the network is loaded on the first call, and kept until its file changes.

    Parameters
    ----------
    recording : str, Path, binary file object, or tuple (y, sr)
    checkpoint : str or Path
        As in `Predictor`.

    Raises
    ------
    AudioError, ConfigError
        If the recording, or the checkpoint, cannot be used.

    Examples
    --------
    >>> predict_emotion("clip.wav").confidence  # doctest: +SKIP
    0.83
    """
    return kept(checkpoint).predict(recording)
