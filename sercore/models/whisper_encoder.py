"""models.whisper_encoder: the first layers of Whisper's encoder, that have heard 680,000 hours, under a small head."""

import logging

import safetensors.torch
import torch
from torch import nn

from sercore import settings
from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable

logger = logging.getLogger(__name__)

#: Of Whisper *base*: numbers a frame, heads, and frames of position code.
WIDTH, HEADS, POSITIONS = 512, 8, 1_500
#: The encoder's first layers, below `settings.data_root`; data/README.md says where they come from.
WEIGHTS = "whisper_base_encoder_4_layers.safetensors"
#: Peak learning rate of the topmost layer, as a share of the head's, and of each layer below as a share of the next.
TOP, DECAY = 0.1, 0.7


class Attention(nn.Module):
    """Let every frame gather from all others (Vaswani et al. 2017, arXiv:1706.03762); named as transformers does."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.v_proj, self.out_proj = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.k_proj = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x, mask):
        heads = (part(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for part in (self.q_proj, self.k_proj, self.v_proj))
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


class WhisperEncoder(nn.Module, Trainable):
    """The first layers of Whisper's encoder; their weighted sum, mean and deviation over time, one linear layer.

    It reads `sercore.recipes.WHISPER_FEATURES`. Frames at the end that are as quiet as padding are not attended to, so
    an answer does not depend on padding, nor on the other clips of a batch. The last `tuned` of its `layers` learn, at
    rates that fall by `DECAY` a layer from the top; all others stay as they are.

    Radford et al. (2022), arXiv:2212.04356; weights of OpenAI's Whisper base, MIT licence. The sum of layers is that
    of Yang et al. (2021), "SUPERB", arXiv:2105.01051.
    """

    def __init__(self, *, n_mels=80, layers=4, tuned=4, dropout=0.3, pretrained=False):
        super().__init__()
        self.tuned, self.pretrained = tuned, pretrained
        self.conv1 = nn.Conv1d(n_mels, WIDTH, 3, padding=1)
        self.conv2 = nn.Conv1d(WIDTH, WIDTH, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(POSITIONS, WIDTH)
        self.layers = nn.ModuleList(EncoderLayer() for _ in range(layers))
        self.mix = nn.Parameter(torch.zeros(layers + 1))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * WIDTH, len(EMOTIONS))

    def forward(self, X):
        sounds = (X[:, 0] > X.amin(dim=(1, 2, 3), keepdim=True)[:, 0] + 1e-4).any(dim=1)  # (n, frames)
        heard = sounds.flip(1).cumsum(1).flip(1) > 0  # up to the last frame that is not padding
        heard[:, 0] = True
        n = int(heard.sum(dim=1).max())
        X, heard = X[:, 0, :, :n], heard[:, None, :n]
        x = nn.functional.gelu(self.conv1(X * heard)) * heard  # (n, 512, frames), as if nothing followed
        x = nn.functional.gelu(self.conv2(x)).transpose(1, 2)  # (n, frames/2, 512)
        x = x + self.embed_positions.weight[: x.shape[1]]
        heard = heard[:, 0, ::2]  # (n, frames/2)
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1], heard[:, None, None]))
        weights = self.mix.softmax(0)
        x = sum(w * nn.functional.layer_norm(s, (WIDTH,)) for w, s in zip(weights, states, strict=True))
        share = (heard / heard.sum(dim=1, keepdim=True))[:, :, None]  # (n, frames/2, 1), adds up to 1
        mean = (share * x).sum(dim=1)  # (n, 512)
        deviation = (share * (x - mean[:, None]).square()).sum(dim=1).clamp(min=1e-6).sqrt()
        return self.head(self.dropout(torch.cat([mean, deviation], dim=1)))  # (n, 8)

    def warm_start(self):
        """Load Whisper's weights, if `pretrained`; without their file a warning says that all is trained from scratch."""
        path = settings.data_root() / WEIGHTS
        if not self.pretrained:
            return False
        if not path.is_file():
            logger.warning("WhisperEncoder is trained from scratch, NOT from Whisper: no %s.", path)
            return False
        own = self.state_dict()
        self.load_state_dict(own | {k: v for k, v in safetensors.torch.load_file(path).items() if k in own})
        return True

    def set_stage(self, progress):
        """Keep all but the last `tuned` layers and the head as Whisper has them; a resumed run asks for it too."""
        for part in (self.conv1, self.conv2, self.embed_positions, *self.layers[: len(self.layers) - self.tuned]):
            part.requires_grad_(False)

    def parameter_groups(self):
        groups = [{"params": [self.mix, *self.head.parameters()], "share": 1.0}]
        blocks = [(self.conv1, self.conv2, self.embed_positions), *([layer] for layer in self.layers)]
        for depth, block in enumerate(reversed(blocks)):
            params = [p for part in block for p in part.parameters()]
            groups.append({"params": params, "share": TOP * DECAY**depth})
        return groups
