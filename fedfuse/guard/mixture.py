"""Two models' answers as one: their log-probabilities mixed."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

from fedfuse.guard.protocol import Paired
from fedfuse.shapes import Float

GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares that are tried; finer ones differ by less than some dozens of samples can tell."""


def mixed(
    local: Float[Tensor, "*b C"], fused: Float[Tensor, "*b C"], share: float
) -> Float[Tensor, "*b C"]:
    """Return the log-linear pool ``share log p_fused + (1 - share) log p_local``, normalised.

    Its loss is at most the same mean of the two models' losses, on every sample: what normalises
    it is at most 1 (Hölder's inequality). So half of each can lose at most half of what the worse
    one loses. At 0 and 1 it is the one model, to the bit.

    Args:
        local: Logits or log-probabilities.
        fused: The same of the other model, of the same label prior.
        share: From 0 to 1.

    >>> import torch
    >>> half = mixed(torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log(), 0.5)
    >>> half.exp()  # 3 to 1, where one model says 9 to 1 and the other 1 to 1
    tensor([0.7500, 0.2500])
    """
    if share in (0.0, 1.0):
        return fused if share else local
    ours, theirs = (logits.log_softmax(dim=-1) for logits in (fused, local))
    return (share * ours + (1 - share) * theirs).log_softmax(dim=-1)


def loss(pairs: Paired, share: float) -> float:
    """Return the mixture's weighted mean negative log-likelihood, in nats; NaN without a sample."""
    total = float(pairs.weight.sum())
    if not total > 0:
        return math.nan
    losses = F.nll_loss(
        mixed(pairs.local, pairs.fused, share).log_softmax(dim=-1), pairs.labels, reduction="none"
    )
    return float((losses * pairs.weight).sum()) / total


def shares(pairs: Paired, grid: tuple[float, ...] = GRID) -> float:
    """Return the share of ``grid`` with the smallest loss; of equals the one nearest to a half.

    The loss and not the accuracy: it speaks of every sample, the accuracy only of those on which
    the answer turns. What is chosen on n samples is as uncertain as they are few.
    """
    losses = [loss(pairs, share) for share in grid]
    if any(math.isnan(value) for value in losses):
        return 0.5
    return min(zip(losses, grid, strict=True), key=lambda item: (item[0], abs(item[1] - 0.5)))[1]
