"""Hashed n-grams: texts as bags of words and of pairs of words, for texts alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.models.layers import text_length
from fedfuse.validation import require_count

_FACTOR, _RANGE = 1_000_003, 2**31 - 1
"""Of the polynomial hash of an n-gram; products stay below 2^52."""


class HashedNgrams(nn.Module):
    """The mean of the embeddings of a text's n-grams, normalised, and a linear layer.

    What an ``nn.EmbeddingBag`` of mode ``mean`` computes, by an ``nn.Embedding``: where many
    clients are trained at once, torch takes the former client by client, the latter together.
    After fastText (Joulin et al. 2017, https://arxiv.org/abs/1607.01759), with a LayerNorm, so
    that the learning rate of other models serves.

    Args:
        num_classes: C.
        order: Words of the longest n-grams.
        buckets: Rows of the table of embeddings that n-grams are hashed to.
        width: Numbers of an embedding.
    """

    def __init__(self, num_classes: int, order: int, buckets: int, width: int) -> None:
        super().__init__()
        self.order, self.buckets = order, buckets
        self.embedding = nn.Embedding(buckets, width)
        nn.init.uniform_(self.embedding.weight, -1 / width, 1 / width)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map word numbers [B, words], 0 for no word, to logits [B, C]."""
        bags, counts = ngram_buckets(inputs.long(), self.order, self.buckets)
        weights = counts / counts.sum(dim=1, keepdim=True).clamp_min(1)
        mean = (self.embedding(bags) * weights.unsqueeze(-1)).sum(dim=1)
        logits: Tensor = self.head(self.norm(mean))
        return logits


def ngram_buckets(words: Tensor, order: int, buckets: int) -> tuple[Tensor, Tensor]:
    """Return the bucket of every n-gram of 1 to ``order`` words, and whether it is one.

    Args:
        words: int64 [B, L], 0 for no word.
        order: Words of the longest n-grams.
        buckets: How many buckets there are.

    Returns:
        int64 [B, G] and float32 [B, G], 1 where all words of the n-gram are words.

    >>> bags, counts = ngram_buckets(torch.tensor([[5, 7, 0]]), 2, 1000)
    >>> bags.tolist(), counts.tolist()
    ([[5, 7, 0, 22, 21]], [[1.0, 1.0, 0.0, 1.0, 0.0]])
    """
    hashed, whole = words, words != 0
    bags, counts = [], []
    for size in range(1, order + 1):
        if size > 1:
            hashed = (hashed[:, :-1] * _FACTOR + words[:, size - 1 :]) % _RANGE
            whole = whole[:, :-1] & (words[:, size - 1 :] != 0)
        bags.append(hashed % buckets)
        counts.append(whole)
    return torch.cat(bags, dim=1), torch.cat(counts, dim=1).float()


def ngrams(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    order: int = 2,
    buckets: int = 8192,
    width: int = 64,
) -> nn.Module:
    """Build a linear model of a text's hashed n-grams.

    Args:
        input_shape: Shape of one input: the words of a text.
        num_classes: C.
        order: Words of the longest n-grams: 2 for words and pairs of them.
        buckets: Rows of the table of embeddings; n-grams share a row by chance.
        width: Numbers of an embedding.

    Raises:
        ModelError: If the inputs are no texts.
        ParameterError: If a hyperparameter is out of range.

    >>> sum(p.numel() for p in ngrams((64,), 10).parameters())
    525066
    """
    sizes = {"order": order, "buckets": buckets, "width": width}
    for name, value in {"num_classes": num_classes, **sizes}.items():
        require_count("ngrams", name, value)
    length = text_length("ngrams", input_shape)
    return HashedNgrams(num_classes, min(order, length), buckets, width)


ngrams.needs_text = True  # type: ignore[attr-defined]
