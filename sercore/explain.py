"""explain: what the network listened to in one recording, and the test whether that is so."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from sercore import settings
from sercore.audio import frame_levels_db
from sercore.errors import ConfigError
from sercore.features import FeatureConfig, compute, log_mel, to_windows
from sercore.labels import EMOTIONS
from sercore.models import predict_logits
from sercore.predict import Predictor, Recording

#: Points of the path from silence to the clip: with these the weights of a RAVDESS clip miss their sum by about 1 %.
N_STEPS = 24
#: Random orders of the cells that `deletion_curve` averages over.
N_DRAWS = 5


@dataclass(frozen=True)
class Explanation:
    """How much each cell of a clip's log-mel spectrogram spoke for an emotion.

    `S_db` (n_mels, n_frames) is what the network was given, without quiet ends; `weights`, of the same shape, are in
    units of the logit: above 0 the cell spoke for `emotion`, below 0 against it. Frames are `hop_s` seconds apart.
    """

    emotion: str
    S_db: np.ndarray
    weights: np.ndarray
    hop_s: float

    @property
    def shares(self) -> np.ndarray:
        """What spoke for the emotion around each cell (Gaussian, sd of 1 mel band and 2 frames), in shares of the greatest."""
        weights = gaussian_filter(self.weights, (1, 2)).clip(min=0)
        return weights / max(weights.max(), np.finfo(float).tiny)

    def over_whole(self, y: np.ndarray, config: FeatureConfig) -> "Explanation":
        """Lay it over the whole recording `y`, quiet ends included."""
        start = 0
        if config.trim_db is not None:
            start = 512 * int(np.argmax(frame_levels_db(y) > -config.trim_db)) // config.hop_length  # as `trim_silence`
        S_db = log_mel(y, sr=config.sr, config=config)
        weights = np.zeros_like(S_db)
        part = self.weights[:, : S_db.shape[1] - start]
        weights[:, start : start + part.shape[1]] = part
        return replace(self, S_db=S_db, weights=weights)


def explain(predictor: Predictor, recording: Recording, *, emotion: str | None = None) -> Explanation:
    """Weigh every cell of a clip's spectrogram by its part in the answer, by integrated gradients.

    Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks", ICML, arXiv:1703.01365. The weights add up to
    what the emotion's logit has beyond that of silence (what padding looks like). The logit of a clip is the mean over
    its windows, so a cell counts as often as it was seen.

    Parameters
    ----------
    predictor : Predictor
    recording
        As in `Predictor.predict`.
    emotion : str, optional
        Whose logit is explained; default the predicted label's.

    Returns
    -------
    explanation : Explanation

    Raises
    ------
    AudioError, ConfigError
        If the recording cannot be used; if `emotion` is not known, or the network does not read log-mel.

    Examples
    --------
    >>> explain(Predictor(), "clip.wav").weights.shape  # doctest: +SKIP
    (64, 142)
    """
    # Here, not above: captum takes a second to import.
    from captum.attr import IntegratedGradients

    if emotion not in (None, *EMOTIONS):
        raise ConfigError(f"Bad emotion {emotion!r}: expected one of {list(EMOTIONS)}, or None for the predicted one.")
    model, config = predictor.model, predictor.config
    if model.kind != "log_mel":
        name = predictor.metadata["model"]
        raise ConfigError(
            f"Bad model {name!r}, which reads {model.kind}: expected one that reads log_mel, such as 'cnn'."
        )
    S_db = compute(predictor.load(recording), config=config)
    if emotion is None:
        emotion = EMOTIONS[int(predict_logits(model, [S_db], config=config)[0].argmax())]
    n_mels, n_frames = S_db.shape
    windows = torch.from_numpy(to_windows(S_db, config=config)).to(next(model.parameters()).device)
    # The windows of the frame numbers say which frame is where, and -1 what is padding.
    numbers = to_windows(np.arange(n_frames)[None], config=replace(config, db_floor=-1, db_center=0, db_scale=1))
    weights = np.zeros((n_mels, n_frames + 1), dtype=np.float32)
    # With so few points, the middles of equal steps come nearer to the sum than captum's default, Gauss-Legendre.
    options = {"n_steps": N_STEPS, "method": "riemann_middle", "target": EMOTIONS.index(emotion)}
    options["internal_batch_size"] = 2  # all steps at once take half a gigabyte with Whisper's layers
    silence = (config.db_floor - config.db_center) / config.db_scale
    was_training = model.training
    model.eval()
    try:  # one window at a time, so that memory does not grow with the recording
        for X, frames in zip(windows, numbers[:, 0].astype(int), strict=True):
            X = X[None, None].requires_grad_()
            part = IntegratedGradients(model).attribute(X, baselines=silence, **options)
            weights[:, frames] += part[0, 0].detach().cpu().numpy() / len(windows)
    finally:
        model.train(was_training)
    return Explanation(emotion, S_db, weights[:, :-1], config.hop_length / config.sr)


def deletion_curve(predictor: Predictor, explanation: Explanation, *, steps: int = 10) -> pd.DataFrame:
    """Test an explanation: turn the cells it calls important into silence, and watch the probability fall.

    Columns: the `share` deleted, from 0 to 1, and the emotion's `probability` with the cells of the greatest weight
    first, or `probability_random` with random ones (mean of `N_DRAWS` orders): an explanation that says something makes
    it fall faster (Petsiuk et al. 2018, RISE, BMVC).
    """
    S_db, config, rng = explanation.S_db, predictor.config, np.random.default_rng(settings.SEED)
    orders = [np.argsort(-explanation.weights, axis=None), *(rng.permutation(S_db.size) for _ in range(N_DRAWS))]
    share, target = np.linspace(0, 1, steps + 1), EMOTIONS.index(explanation.emotion)
    curves = []
    for order in orders:
        rank = np.argsort(order).reshape(S_db.shape)
        deleted = [np.where(rank < part * S_db.size, config.db_floor, S_db) for part in share]
        logits = predict_logits(predictor.model, deleted, config=config)
        curves.append(softmax(logits / predictor.temperature, axis=-1)[:, target])
    return pd.DataFrame({"share": share, "probability": curves[0], "probability_random": np.mean(curves[1:], axis=0)})


def deletion_areas(
    clips: pd.DataFrame, predictor: Predictor, *, n_clips: int = 24, results_dir: str | Path | None = None
) -> pd.DataFrame:
    """Average the areas under `deletion_curve` over clips drawn at random, in one row that is kept in deletion.csv.

    In ``n_better`` of ``n_clips`` the ``area`` with the most important cells first is below ``area_random``.
    """
    from sercore.records import KEYS, corpora_of, record, results_dir_of

    drawn, areas = clips.sample(min(n_clips, len(clips)), random_state=settings.SEED), []
    for path in drawn["path"]:
        curve = deletion_curve(predictor, explain(predictor, path))
        areas.append([np.trapezoid(curve[column], curve["share"]) for column in ("probability", "probability_random")])
    first, random = np.transpose(areas)
    row = {"network": predictor.checkpoint.stem, "corpora": corpora_of(clips), "n_clips": len(drawn)}
    row |= {"area": first.mean(), "area_random": random.mean(), "n_better": int((first < random).sum())}
    table = pd.DataFrame([row | {"commit": settings.commit()}])
    record(results_dir_of(clips, results_dir) / "deletion.csv", table, keys=KEYS["deletion"])
    return table
