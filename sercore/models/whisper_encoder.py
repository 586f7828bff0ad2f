"""models.whisper_encoder: the first layers of Whisper's encoder, that have heard 680,000 hours, under a small head."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import torch
from torch import nn

from sercore import settings
from sercore.errors import ConfigError
from sercore.features import FeatureConfig, to_windows
from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable

if TYPE_CHECKING:  # an answer varies nothing
    from sercore.augment import SpectrogramWarp

#: Of Whisper *base*: numbers a frame, heads of attention, and frames of position code.
WIDTH, ATTENTION_HEADS, POSITIONS = 512, 8, 1_500
#: Of these all the layers that are shipped are read; the file, below `settings.data_root`, has one more.
SHIPPED = Path(__file__).parents[1] / "pretrained" / "whisper_any_voice.safetensors"
WEIGHTS = "whisper_base_encoder_4_layers.safetensors"


class Attention(nn.Module):
    """Let every frame gather from all others (Vaswani et al. 2017, arXiv:1706.03762); named as transformers does."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, mask):
        parts = (self.q_proj, self.k_proj, self.v_proj)
        heads = (part(x).unflatten(2, (ATTENTION_HEADS, -1)).transpose(1, 2) for part in parts)
        y = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask)  # (n, 8, frames, 64)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # (n, frames, 512)


class EncoderLayer(nn.Module):
    """Attention, then two linear layers, each on normalised input and added to it."""

    def __init__(self):
        super().__init__()
        self.self_attn_layer_norm, self.self_attn = nn.LayerNorm(WIDTH), Attention()
        self.final_layer_norm = nn.LayerNorm(WIDTH)
        self.fc1, self.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, mask):
        x = x + self.self_attn(self.self_attn_layer_norm(x), mask)
        return x + self.fc2(nn.functional.gelu(self.fc1(self.final_layer_norm(x))))


class Encoder(nn.Module):
    """Sum up windows by the mean over time of what each of Whisper's first layers gives, (n, layers * 512).

    It reads `sercore.recipes.WHISPER_FEATURES`. Frames at the end that are as quiet as padding are not attended to, so
    a summary does not depend on padding, nor on the other clips of a batch. Radford et al. (2022), arXiv:2212.04356.
    """

    def __init__(self, n_mels=80, layers=3):
        super().__init__()
        self.conv1 = nn.Conv1d(n_mels, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        # Zeros until weights are loaded: drawing at random on the device "meta" would load torch._dynamo, 2 s and 120 MB.
        self.embed_positions = nn.Embedding.from_pretrained(torch.zeros(POSITIONS, WIDTH))
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(layers))
        self.requires_grad_(False)

    def forward(self, X):
        sounds = (X[:, 0] > X.amin(dim=(1, 2, 3), keepdim=True)[:, 0] + 1e-4).any(dim=1)  # (n, frames)
        heard = sounds.long().flip(1).cumsum(1).flip(1) > 0  # up to the last frame that is not padding
        heard[:, 0] = True
        traced = torch.jit.is_tracing()  # an export fixes nothing that depends on the clip
        n = X.shape[3] if traced else int(heard.sum(dim=1).max())
        X, heard = X[:, 0, :, :n], heard[:, None, :n]
        x = nn.functional.gelu(self.conv1(X * heard)) * heard  # (n, 512, frames), as if nothing followed
        x = nn.functional.gelu(self.conv2(x)).transpose(1, 2)  # (n, frames/2, 512)
        x = x + self.embed_positions.weight[: x.shape[1]]
        heard = heard[:, 0, ::2]  # (n, frames/2)
        mask = None if not traced and heard.all() else heard[:, None, None]
        share = (heard / heard.sum(dim=1, keepdim=True))[:, :, None]  # (n, frames/2, 1), adds up to 1
        means = []
        for layer in self.layers:
            x = layer(x, mask)
            means.append((share * nn.functional.layer_norm(x, (WIDTH,))).sum(dim=1))  # (n, 512)
        return torch.cat(means, dim=1)


class WhisperHead(nn.Module, Trainable):
    """What is trained: a scaler and two dense layers that turn a summary by `Encoder` into emotions."""

    kind = "whisper"

    def __init__(self, *, layers=3, hidden=256, dropout=0.6):
        super().__init__()
        self.scaler = nn.BatchNorm1d(layers * WIDTH, affine=False)  # learned from training clips alone
        self.dense = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(layers * WIDTH, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(EMOTIONS)),
        )

    def forward(self, X):
        return self.dense(self.scaler(X[:, 0]))  # (n, 8) from (n, 1, layers * 512)

    def warm_start(self):
        """Tell that what it reads comes from pretrained layers, which have nothing left to load."""
        return True


class WhisperEncoder(nn.Module, Trainable):
    """The first layers of Whisper's encoder, as they came, under heads that answer together: what is shipped."""

    def __init__(self, *, n_mels=80, layers=3, n_heads=1, hidden=256, dropout=0.6):
        super().__init__()
        self.encoder = Encoder(n_mels, layers)
        self.heads = nn.ModuleList(WhisperHead(layers=layers, hidden=hidden, dropout=dropout) for _ in range(n_heads))

    def forward(self, X):
        summary = self.encoder(X)[:, None]
        return torch.stack([head(summary) for head in self.heads]).mean(dim=0)  # (n, 8)


def under_heads(heads: list[WhisperHead], **options) -> tuple[dict, WhisperEncoder]:
    """Put Whisper's layers under trained heads, whose options are given: options for `build_model`, and the network."""
    options = options | {"n_heads": len(heads)}
    model = WhisperEncoder(**options)
    model.encoder.load_state_dict(pretrained_encoder(options["layers"]).state_dict())
    model.heads = nn.ModuleList(heads)
    return options, model.half().float().eval()  # the file is half as large if the heads are rounded, too


@lru_cache(maxsize=1)
def pretrained_encoder(layers: int = 3) -> Encoder:
    """Read Whisper's first layers from the shipped network or, if there are more than it has, from the data folder."""
    encoder = Encoder(layers=layers).eval()
    for path, prefix in ((SHIPPED, "encoder."), (settings.data_root() / WEIGHTS, "")):
        if not path.is_file():
            continue
        with safetensors.safe_open(path, framework="pt") as file:
            names = {name: prefix + name for name in encoder.state_dict()}
            if set(names.values()) <= set(file.keys()):
                encoder.load_state_dict({name: file.get_tensor(key) for name, key in names.items()})
                return encoder
    raise ConfigError(
        f"No {layers} layers of Whisper: expected at most 3, or {WEIGHTS} in {settings.data_root()}, with 4; "
        "data/README.md says where it comes from."
    )


@dataclass(frozen=True)
class WhisperSummary:
    """Sum up a log-mel spectrogram as `Encoder` does, varied by `warp` if there is an `rng`; for `sercore.cache`."""

    config: FeatureConfig
    layers: int = 3
    warp: "SpectrogramWarp | None" = None
    statistics: str = "mean"  # part of a cache's key

    def __call__(self, S_db: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Give the mean over the windows of a clip [shape=(layers * 512,)]."""
        config = self.config
        if rng is not None and self.warp:
            room = round(S_db.shape[1] * np.expm1(self.warp.max_stretch))  # a slower clip is not to lose its end
            S_db = np.pad(S_db, ((0, 0), (0, room)), constant_values=config.db_floor)
            S_db = self.warp(S_db, rng=rng, floor_db=config.db_floor, hop_s=config.hop_length / config.sr)
            S_db = np.maximum(S_db - S_db.max(), config.db_floor)  # the loudest bin is 0 dB, as of every recording
        X = torch.from_numpy(to_windows(S_db, config=config))[:, None]
        encoder = pretrained_encoder(self.layers)  # outside, or its weights would be fit for inference alone
        with torch.inference_mode():
            return encoder(X).mean(dim=0).numpy()
