"""Rows of different lengths: side by side with padding, or one after the other without."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Bool, Int


def valid(lengths: Int[Tensor, " k"], width: int) -> Bool[Tensor, "k width"]:
    """Return True for the first ``lengths[i]`` places of row i.

    >>> valid(torch.tensor([2, 0]), 3)
    tensor([[ True,  True, False],
            [False, False, False]])
    """
    return torch.arange(width, device=lengths.device) < lengths.unsqueeze(1)


def cut(padded: Tensor, lengths: Int[Tensor, " k"]) -> Tensor:
    """Return the rows of ``padded`` [k, width, ...] one after the other, without padding."""
    return padded[valid(lengths, padded.shape[1])]


def pad(flat: Tensor, lengths: Int[Tensor, " k"]) -> Tensor:
    """Return the rows of ``flat`` [sum of lengths, ...] side by side, filled up with zeros.

    Raises:
        KnowledgeError: If ``flat`` is not as long as the rows together.

    >>> pad(torch.tensor([1, 2, 3]), torch.tensor([2, 1]))
    tensor([[1, 2],
            [3, 0]])
    """
    check_length(flat, lengths)
    padded = flat.new_zeros(len(lengths), int(lengths.max()), *flat.shape[1:])
    padded[valid(lengths, padded.shape[1])] = flat
    return padded


def check_length(flat: Tensor, lengths: Int[Tensor, " k"]) -> None:
    """Raise :class:`KnowledgeError` unless ``flat`` is as long as the rows together."""
    total = int(lengths.sum())
    if len(flat) != total or bool((lengths < 0).any()):
        raise KnowledgeError(
            "An encoded message is damaged", got=f"{len(flat)} bytes", allowed=f"{total}"
        )
