"""models: one readable file a design, built by name; and the checkpoint that carries one.

Every network's ``forward(X)`` takes scaled windows from `sercore.features.to_windows`, ``X`` (n, 1, n_mels, n_frames)
for log-mel, of any number of frames; or (n, 1, k) for a vector, as the network's ``kind`` says: functionals as they
are, the numbers of words, or what Whisper's layers made of a clip. It gives logits (n, 8), one for each of
`sercore.labels.EMOTIONS`; divided by the checkpoint's temperature, `scipy.special.softmax` makes them probabilities.
"""
# ruff: noqa: F401 - names for the rooms below

from sercore.models.build import MODELS, Ensemble, all_options, at_tempo, build_model, count_parameters, predict_logits
from sercore.models.checkpoint import load_checkpoint, save_checkpoint
from sercore.models.trainable import Trainable
from sercore.models.whisper_encoder import WhisperSummary, under_heads
