"""A small transformer encoder of the words of a text."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError
from fedfuse.models.layers import text_length
from fedfuse.validation import require_count


class Block(nn.Module):
    """Attention and a perceptron, each added to what came, with a LayerNorm before it.

    Args:
        width: Numbers of a word.
        heads: Attention heads.
        ratio: How much wider the perceptron is.
    """

    def __init__(self, width: int, heads: int, ratio: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, ratio * width),
            nn.GELU(),
            nn.Linear(ratio * width, width),
        )

    def forward(self, words: Tensor, absent: Tensor | None = None) -> Tensor:
        """Map words [B, L, D] to the same; nobody attends to the absent, [B, L], if there are."""
        length, width = words.shape[1:]
        shape = (-1, length, 3, self.heads, width // self.heads)
        parts = self.queries_keys_values(self.norm(words)).reshape(shape)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # each [B, heads, L, D / heads]
        scores = queries @ keys.mT / math.sqrt(width // self.heads)
        if absent is not None:
            # Not infinity: of a text without words the softmax would be no number.
            scores = scores.masked_fill(absent[:, None, None], -1e4)
        weights = scores.softmax(dim=-1)
        words = words + self.joined((weights @ values).transpose(1, 2).flatten(2))
        made: Tensor = words + self.perceptron(words)
        return made


class TextTransformer(nn.Module):
    """Embeddings of words and places, some blocks, the mean over the words, a linear layer.

    Args:
        length: L, words of a text at most.
        num_classes: C.
        blocks: How many blocks.
        width: D, numbers of a word.
        heads: Attention heads of a block.
        buckets: Rows of the table of embeddings that words are hashed to.
    """

    def __init__(
        self, length: int, num_classes: int, blocks: int, width: int, heads: int, buckets: int
    ) -> None:
        super().__init__()
        self.buckets = buckets
        self.embedding = nn.Embedding(buckets, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.places = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map word numbers [B, L], 0 for no word, to logits [B, C]."""
        numbers = inputs.long()
        absent = numbers == 0
        words = self.embedding(numbers % self.buckets) + self.places
        for block in self.blocks:
            words = block(words, absent)
        weights = (~absent).float()
        weights = weights / weights.sum(dim=1, keepdim=True).clamp_min(1)
        mean = (self.norm(words) * weights.unsqueeze(-1)).sum(dim=1)
        logits: Tensor = self.head(mean)
        return logits


def text_transformer(
    input_shape: tuple[int, ...],
    num_classes: int,
    *,
    blocks: int = 2,
    width: int = 64,
    heads: int = 4,
    buckets: int = 8192,
) -> nn.Module:
    """Build a transformer encoder, pre-norm and without dropout.

    Blocks as in Vaswani et al. 2017 (https://arxiv.org/abs/1706.03762), with the normalisation
    first, GELU, learned places and a perceptron of twice the width.

    Args:
        input_shape: Shape of one input: the words of a text.
        num_classes: C.
        blocks: How many blocks.
        width: Numbers of a word, a multiple of ``heads``.
        heads: Attention heads of a block.
        buckets: Rows of the table of embeddings; words share a row by chance.

    Raises:
        ModelError: If the inputs are no texts, or heads do not divide the width.
        ParameterError: If a hyperparameter is out of range.

    >>> text_transformer((64,), 10)(torch.ones(2, 64)).shape
    torch.Size([2, 10])
    """
    sizes = {"blocks": blocks, "width": width, "heads": heads, "buckets": buckets}
    for name, value in {"num_classes": num_classes, **sizes}.items():
        require_count("text_transformer", name, value)
    length = text_length("text_transformer", input_shape)
    if width % heads:
        raise ModelError(
            "Heads of model 'text_transformer' do not divide its width",
            got=f"width={width}, heads={heads}",
            next_step=f"Set model.width={width // heads * heads or heads}.",
        )
    return TextTransformer(length, num_classes, blocks, width, heads, buckets)


text_transformer.needs_text = True  # type: ignore[attr-defined]
