"""models.transcript_rnn: a recurrent network over the words alone, deaf to how they are spoken."""

import re
import zlib

import numpy as np
import torch
from torch import nn

from sercore.labels import EMOTIONS
from sercore.models.trainable import Trainable


def word_numbers(text: str, *, n_words: int = 512, length: int = 32) -> np.ndarray:
    """Turn a transcript into `length` numbers, 0 for padding, by hashing its words: no vocabulary needs keeping."""
    words = re.findall(r"[\w']+", text.lower())[:length]
    numbers = np.zeros(length, dtype=np.int64)
    # Not hash(): that differs from process to process.
    numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % (n_words - 1) for word in words]
    return numbers


class TranscriptRNN(nn.Module, Trainable):
    """A word embedding, a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), one dense layer.

    The text half of multimodal projects. On RAVDESS the words tell nothing: what it scores above chance is a fault.
    """

    kind = "words"

    def __init__(self, *, n_words=512, embedding=64, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(n_words, embedding, padding_idx=0)
        self.gru = nn.GRU(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, len(EMOTIONS))

    def forward(self, X):
        words = X[:, 0]  # (n, 32)
        states, _ = self.gru(self.embed(words))  # (n, 32, 64)
        last = (words != 0).sum(dim=1).clamp(min=1) - 1  # (n,)   position of the last word, 0 if there is none
        return self.head(states[torch.arange(len(words), device=X.device), last])  # (n, 8)
