"""models.transcript_rnn: a recurrent network over the words alone, deaf to how they are spoken."""

import re
import zlib

import numpy as np
import torch
from torch import nn


def word_numbers(text, *, n_words=512, length=32):
    """Turn a transcript into numbers by hashing its words, so that no vocabulary needs keeping.

    Parameters
    ----------
    text : str
    n_words : int >= 2
        Size of the vocabulary; two words may share a number.
    length : int
        Words kept, the first ones.

    Returns
    -------
    numbers : np.ndarray [shape=(length,)]
        int64: CRC-32 of each lower-cased word, folded into 1 to ``n_words - 1``; 0 is padding.
    """
    words = re.findall(r"[\w']+", text.lower())[:length]
    numbers = np.zeros(length, dtype=np.int64)
    # Not hash(): that differs from process to process.
    numbers[: len(words)] = [1 + zlib.crc32(word.encode()) % (n_words - 1) for word in words]
    return numbers


class TranscriptRNN(nn.Module):
    """A word embedding, a gated recurrent unit (Cho et al. 2014, arXiv:1406.1078), one dense layer.

    It stands for the text half of multimodal projects. On RAVDESS two sentences are spoken with all emotions, so
    the words tell nothing and it must come out at chance, one in eight: what it scores above that is a fault of
    the split or of the labels. For a corpus without transcripts, `sercore.transcripts.transcribe` writes them.

    Parameters
    ----------
    n_words : int
        Of `word_numbers`.
    n_classes : int
    embedding : int
        Size of a word's vector.
    hidden : int
        Size of the recurrent state.
    """

    kind = "words"

    def __init__(self, *, n_words=512, n_classes=8, embedding=64, hidden=64):
        super().__init__()
        self.embed = nn.Embedding(n_words, embedding, padding_idx=0)
        self.gru = nn.GRU(embedding, hidden, batch_first=True)
        self.head = nn.Linear(hidden, n_classes)

    def forward(self, X):
        """Score the emotions.

        Parameters
        ----------
        X : torch.Tensor of int64 [shape=(n, 1, length)]
            From `word_numbers`; its padding does not change the answer.

        Returns
        -------
        logits : torch.Tensor [shape=(n, n_classes)]
        """
        words = X[:, 0]  # (n, 32)
        states, _ = self.gru(self.embed(words))  # (n, 32, 64)
        last = (words != 0).sum(dim=1).clamp(min=1) - 1  # (n,)   position of the last word, 0 if there is none
        x = states[torch.arange(len(words), device=X.device), last]  # (n, 64)
        return self.head(x)  # (n, 8)
