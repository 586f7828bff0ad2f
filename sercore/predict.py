"""predict: from a recording to an emotion, its probability, and what to distrust."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import librosa
import numpy as np
import pandas as pd

from sercore.audio import check_waveform, describe_audio, level_dbfs, load_audio, resample, trim_silence
from sercore.errors import AudioError, SilenceError
from sercore.features import compute
from sercore.labels import EMOTIONS
from sercore.models import load_checkpoint, predict_logits, softmax

#: The shipped networks by name, the default first; their model card lies beside them.
VARIANTS = {name: Path(__file__).parent / "pretrained" / f"cnn_{name}.safetensors" for name in ("any_voice", "ravdess")}

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


@dataclass(frozen=True)
class Prediction:
    """What a model makes of one recording.

    Attributes
    ----------
    label : str
        The most probable emotion.
    confidence : float in [0, 1]
        Its calibrated probability.
    probabilities : dict of str to float
        All eight, in the order of `sercore.labels.EMOTIONS`.
    warnings : tuple of str
        What to distrust; empty if nothing was noticed.
    duration_s : float [s]
        Of the recording as it was given.
    """

    label: str
    confidence: float
    probabilities: dict
    warnings: tuple
    duration_s: float


class Predictor:
    """A trained network, ready to be asked.

    Parameters
    ----------
    checkpoint : str or Path, optional
        A ``.safetensors`` file from `sercore train`, or a name in `VARIANTS`; default "any_voice".
    device : str
        Where the network runs.

    Raises
    ------
    ConfigError
        If the checkpoint is missing or damaged.
    """

    def __init__(self, checkpoint="any_voice", *, device="cpu"):
        self.checkpoint = VARIANTS.get(str(checkpoint), Path(checkpoint))
        self.model, self.metadata = load_checkpoint(self.checkpoint)
        self.model.to(device)
        self.config = self.metadata["feature_config"]
        self.temperature = self.metadata["temperature"]

    def predict(self, recording):
        """Recognise the emotion of one clip.

        Parameters
        ----------
        recording : str, Path, binary file object, or tuple (y, sr)
            A file, or a mono float waveform with its sampling rate.

        Returns
        -------
        prediction : Prediction
            Of a clip longer than the network's window, the mean over windows.

        Raises
        ------
        AudioError
            If the recording cannot be used.
        """
        y = self.load(recording)
        feature = self._feature(y)
        proba = self._probabilities(feature)
        label = EMOTIONS[int(proba.argmax())]
        novelty = self.metadata["novelty"](feature) if self.metadata["novelty"] else 0.0
        warnings = _distrust(y, self.config.sr, proba, novelty)
        return Prediction(
            label,
            float(proba.max()),
            dict(zip(EMOTIONS, map(float, proba), strict=True)),
            warnings,
            len(y) / self.config.sr,
        )

    def load(self, recording):
        """Bring a recording to the waveform that the network's features are computed from.

        Parameters
        ----------
        recording
            As in `predict`.

        Returns
        -------
        y : np.ndarray [shape=(n_samples,)]
            At `config.sr`.
        """
        if isinstance(recording, tuple):
            y, sr = recording
            return resample(check_waveform(y), sr, self.config.sr)
        return load_audio(recording, sr=self.config.sr)

    def predict_files(self, paths):
        """Recognise many clips; one that cannot be used gets its error, and the others their emotions.

        Parameters
        ----------
        paths : iterable of str or Path

        Returns
        -------
        table : pd.DataFrame
            Columns ``file, label, confidence``, one for each emotion, ``duration_s, warnings, error``.
        """
        return pd.DataFrame(
            [self._row(path) for path in paths],
            columns=["file", "label", "confidence", *EMOTIONS, "duration_s", "warnings", "error"],
        )

    def _row(self, path):
        try:
            prediction = self.predict(path)
        except AudioError as error:
            return {"file": Path(path).name, "error": str(error)}
        return prediction_row(Path(path).name, prediction)

    def timeline(self, recording, *, window_s=None, hop_s=1.0):
        """Follow the emotion through a long recording, one window at a time.

        A file is decoded window by window, so memory does not grow with its length.

        Parameters
        ----------
        recording : str, Path, or tuple (y, sr)
        window_s : float [s], optional
            Default: what the network sees at once.
        hop_s : float > 0 [s]

        Returns
        -------
        table : pd.DataFrame
            Columns ``start_s, end_s, label, confidence`` and one for each emotion; in windows without
            sound the label is "silence" and the numbers are NaN.

        Raises
        ------
        AudioError
            If the recording cannot be opened, or `window_s` or `hop_s` is not above 0.
        """
        window_s = window_s or self.config.window_s
        if not (window_s > 0 and hop_s > 0):
            raise AudioError(f"Bad window_s {window_s} or hop_s {hop_s}: expected seconds above 0.")
        duration_s = (
            len(recording[0]) / recording[1] if isinstance(recording, tuple) else describe_audio(recording).duration_s
        )
        rows = []
        starts = hop_s * np.arange(1 + int(np.ceil(max(duration_s - window_s, 0.0) / hop_s)))
        for start_s in starts[starts < duration_s]:
            row = {"start_s": start_s, "end_s": min(start_s + window_s, duration_s), "label": "silence"}
            y = self._part(recording, start_s, window_s)
            if y is not None:
                proba = self._probabilities(self._feature(y))
                row |= {"label": EMOTIONS[int(proba.argmax())], "confidence": proba.max()} | dict(
                    zip(EMOTIONS, proba, strict=True)
                )
            rows.append(row)
        return pd.DataFrame(rows, columns=["start_s", "end_s", "label", "confidence", *EMOTIONS])

    def _part(self, recording, start_s, window_s):
        """One window of a recording, or None if there is nothing to hear in it."""
        try:
            if isinstance(recording, tuple):
                y, sr = recording
                y = self.load((y[round(start_s * sr) : round((start_s + window_s) * sr)], sr))
            else:
                y = load_audio(recording, sr=self.config.sr, offset_s=start_s, duration_s=window_s)
        except SilenceError:
            return None
        return y if level_dbfs(y) >= MIN_LEVEL_DBFS else None

    def _feature(self, y):
        return compute(y, config=self.config, kind=self.model.kind)

    def _probabilities(self, feature):
        logits = predict_logits(self.model, [feature], config=self.config)
        return softmax(logits[0], temperature=self.temperature)


def _distrust(y, sr, proba, novelty):
    """Say in words what speaks against believing a prediction."""
    speech = trim_silence(y)
    speech_s, level, dynamic_db = len(speech) / sr, level_dbfs(speech), _dynamic_db(speech)
    clipped = float(np.mean(np.abs(y) >= 0.999))
    first, second = (EMOTIONS[k] for k in np.argsort(proba)[::-1][:2])
    checks = {
        f"Too short: {speech_s:.1f} s of speech, expected at least {MIN_SPEECH_S:.0f} s.": speech_s < MIN_SPEECH_S,
        f"Long: {speech_s:.0f} s of speech get one answer; the timeline shows how it changes.": speech_s > MAX_CLIP_S,
        f"Too quiet: {level:.0f} dBFS, expected above {MIN_LEVEL_DBFS:.0f} dBFS.": level < MIN_LEVEL_DBFS,
        f"Clipped: {clipped:.1%} of the samples are at full scale; record at a lower level.": clipped
        > MAX_CLIPPED_SHARE,
        f"No speech found: the level moves by {dynamic_db:.0f} dB only, speech moves more.": dynamic_db
        < MIN_DYNAMIC_DB,
        "Unlike the training data: it sounds like none of the voices and microphones there.": novelty > 1,
        f"Not sure: {first} or {second}.": proba.max() < MIN_CONFIDENCE,
    }
    return tuple(text for text, holds in checks.items() if holds)


def _dynamic_db(y, frame=640):
    """Spread of the frame levels [dB]: 95th minus 10th percentile."""
    levels = librosa.power_to_db(
        librosa.feature.rms(y=y, frame_length=frame, hop_length=frame // 2)[0] ** 2, top_db=None
    )
    return float(np.percentile(levels, 95) - np.percentile(levels, 10))


def prediction_row(file, prediction):
    """Lay a prediction out as a table row, as `Predictor.predict_files` does.

    Parameters
    ----------
    file : str
        Name of the clip.
    prediction : Prediction

    Returns
    -------
    row : dict
    """
    return {
        "file": file, "label": prediction.label, "confidence": prediction.confidence, **prediction.probabilities,
        "duration_s": prediction.duration_s, "warnings": " ".join(prediction.warnings), "error": "",
    }  # fmt: skip


@lru_cache(maxsize=4)
def _predictor(checkpoint):
    return Predictor(checkpoint)


def predict_emotion(recording, *, checkpoint="any_voice"):
    """Recognise the emotion of one clip, with the shipped network for any voice unless told otherwise.

    Parameters
    ----------
    recording : str, Path, binary file object, or tuple (y, sr)
        As in `Predictor.predict`.
    checkpoint : str or Path, optional
        As in `Predictor`. The network is loaded on the first call, and kept.

    Returns
    -------
    prediction : Prediction

    Raises
    ------
    AudioError
        If the recording cannot be used.
    ConfigError
        If the checkpoint is missing or damaged.
    """
    return _predictor(checkpoint).predict(recording)
