"""Let a code that is made for probabilities carry logits too."""

from __future__ import annotations

from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.types import Space

EPS = 1e-8
"""Smallest probability that has a logarithm here; the codes produce exact zeros."""


def to_probabilities(
    values: Float[Tensor, "*batch C"], space: Space, temperature: float
) -> Float[Tensor, "*batch C"]:
    """Return probabilities as they are and logits as ``softmax(z / T)``."""
    if space is Space.PROBABILITIES:
        return values
    return (values / temperature).softmax(dim=-1)


def from_probabilities(
    probs: Float[Tensor, "*batch C"], space: Space, temperature: float
) -> Float[Tensor, "*batch C"]:
    """Return probabilities as they are, or as logits ``T log p``.

    The softmax of these logits at the same temperature gives the probabilities back, so a fusion
    rule on probabilities sees exactly what was sent, up to ``EPS`` where p is zero.

    >>> import torch
    >>> from_probabilities(torch.tensor([1.0, 0.0]), Space.LOGITS, 2.0)
    tensor([  0.0000, -36.8414])
    """
    if space is Space.PROBABILITIES:
        return probs
    return temperature * probs.clamp_min(EPS).log()
