"""explain: what the network listened to in one recording, and the test whether that is so."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from sercore import settings
from sercore.errors import ConfigError
from sercore.features import compute, to_windows
from sercore.labels import EMOTIONS
from sercore.models import predict_logits, softmax

#: Points of the path from silence to the clip: with these the weights of a RAVDESS clip miss their sum by about 1 %.
N_STEPS = 24
#: Random orders of the cells that `deletion_curve` averages over.
N_DRAWS = 5


@dataclass(frozen=True)
class Explanation:
    """How much each cell of a clip's log-mel spectrogram spoke for an emotion.

    Attributes
    ----------
    emotion : str
    S_db : np.ndarray [shape=(n_mels, n_frames)]
        What the network was given: the recording without its quiet ends.
    weights : np.ndarray [shape=(n_mels, n_frames)]
        float32, in units of the logit. Above 0 the cell spoke for `emotion`, below 0 against it.
    hop_s : float [s]
        From one frame to the next.
    """

    emotion: str
    S_db: np.ndarray
    weights: np.ndarray
    hop_s: float


def explain(predictor, recording, *, emotion=None):
    """Weigh every cell of a clip's spectrogram by its part in the answer.

    The weights add up to what the emotion's logit has beyond that of silence (what padding looks like). The logit of
    a clip is the mean over its windows, so a cell counts as often as it was seen.

    Parameters
    ----------
    predictor : sercore.predict.Predictor
    recording
        As in `Predictor.predict`.
    emotion : str, optional
        Whose logit is explained; default the predicted label's.

    Returns
    -------
    explanation : Explanation
        By integrated gradients. Grad-CAM is left out: on 40 RAVDESS clips its coarse maps did no better in
        `deletion_curve` than random cells.

    Raises
    ------
    AudioError
        If the recording cannot be used.
    ConfigError
        If `emotion` is not known, or the network does not read log-mel.

    References
    ----------
    Sundararajan et al. (2017), "Axiomatic Attribution for Deep Networks", ICML, arXiv:1703.01365.
    """
    if emotion not in (None, *EMOTIONS):
        raise ConfigError(f"Bad emotion {emotion!r}: expected one of {list(EMOTIONS)}, or None for the predicted one.")
    S_db, model, config = _log_mel(predictor, recording), predictor.model, predictor.config
    if emotion is None:
        emotion = EMOTIONS[int(predict_logits(model, [S_db], config=config)[0].argmax())]
    windows = torch.from_numpy(to_windows(S_db, config=config))[:, None].to(next(model.parameters()).device)
    was_training = model.training
    model.eval()
    try:  # one window at a time, so that memory does not grow with the recording
        parts = [_integrate(model, X[None], EMOTIONS.index(emotion), config) for X in windows]
    finally:
        model.train(was_training)
    return Explanation(emotion, S_db, _stitch(parts, S_db.shape[1], config), config.hop_length / config.sr)


def _log_mel(predictor, recording):
    if (kind := predictor.model.kind) != "log_mel":
        raise ConfigError(
            f"Bad model {predictor.metadata['model']!r}, which reads {kind}: expected one that reads log_mel, such as 'cnn'."
        )
    return compute(predictor.load(recording), config=predictor.config)


def _integrate(model, X, target, config):
    # Here, not above: captum takes a second to import.
    from captum.attr import IntegratedGradients

    silence = (config.db_floor - config.db_center) / config.db_scale
    # With so few points, the middles of equal steps come nearer to the sum than captum's default, Gauss-Legendre.
    weights = IntegratedGradients(model).attribute(
        X.requires_grad_(), baselines=silence, target=target, n_steps=N_STEPS, method="riemann_middle"
    )
    return weights[0, 0].detach().cpu().numpy()


def _stitch(parts, n_frames, config):
    """Bring the weights of windows to their place in the clip, as parts of the mean over windows."""
    # The windows of the frame numbers say which frame is where, and -1 what is padding.
    numbers = to_windows(np.arange(n_frames)[None], config=replace(config, db_floor=-1, db_center=0, db_scale=1))
    weights = np.zeros((config.n_mels, n_frames + 1), dtype=np.float32)
    for part, place in zip(parts, numbers[:, 0].astype(int), strict=True):
        weights[:, place] += part / len(parts)
    return weights[:, :-1]


def deletion_curve(predictor, recording, *, explanation, steps=10):
    """Test an explanation: take away what it calls important, and watch the emotion's probability fall.

    The deletion test of Petsiuk et al. 2018 (RISE, BMVC, arXiv:1806.07421). Deleted cells become silence. An
    explanation that says something makes the probability fall faster than the same number of random cells.

    Parameters
    ----------
    predictor : sercore.predict.Predictor
    recording
        As in `Predictor.predict`.
    explanation : Explanation
        Of this recording.
    steps : int > 0
        Equal steps from nothing to everything deleted.

    Returns
    -------
    curve : pd.DataFrame
        ``share`` deleted, from 0 to 1, and the emotion's probability with the cells of the greatest weight deleted
        first (``probability``) or random ones (``probability_random``, the mean of `N_DRAWS` seeded orders).

    Raises
    ------
    AudioError
        If the recording cannot be used.
    ConfigError
        If `steps` is not above 0, or the explanation is not of this recording.
    """
    if steps < 1:
        raise ConfigError(f"Bad steps {steps}: expected 1 or more.")
    S_db, config = _log_mel(predictor, recording), predictor.config
    if S_db.shape != explanation.S_db.shape or not np.allclose(S_db, explanation.S_db, atol=1e-3):
        raise ConfigError(
            f"Bad explanation of a clip of shape {explanation.S_db.shape}: expected that of this recording, {S_db.shape}; "
            "make it by explain(predictor, recording)."
        )
    rng = np.random.default_rng(settings.SEED)
    orders = [np.argsort(-explanation.weights, axis=None), *(rng.permutation(S_db.size) for _ in range(N_DRAWS))]
    share, target = np.linspace(0, 1, steps + 1), EMOTIONS.index(explanation.emotion)
    curves = []
    for order in orders:
        rank = np.empty(S_db.size, dtype=int)
        rank[order] = np.arange(S_db.size)
        deleted = [np.where(rank.reshape(S_db.shape) < part * S_db.size, config.db_floor, S_db) for part in share]
        logits = predict_logits(predictor.model, deleted, config=config)
        curves.append(softmax(logits, temperature=predictor.temperature)[:, target])
    return pd.DataFrame({"share": share, "probability": curves[0], "probability_random": np.mean(curves[1:], axis=0)})
