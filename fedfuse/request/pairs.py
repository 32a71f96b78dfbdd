"""Clients beside their teachers, each client with its own: what several requesters look at."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space, Teachers


def own_and_taught(
    bank: KnowledgeBank, teachers: Teachers
) -> tuple[Float[Tensor, "k m C"], Float[Tensor, "k m C"], Bool[Tensor, "k m"]]:
    """Return what clients say and what they are taught, as probabilities, and where both is there.

    All at temperature 1.
    """
    own, taught = bank.logits.float().softmax(dim=-1), teachers.targets.float()
    if teachers.space is Space.LOGITS:
        taught = taught.softmax(dim=-1)
    there = torch.ones(own.shape[:2], dtype=torch.bool)
    if bank.mask is not None:
        there &= bank.mask
    if teachers.sample_weight is not None:
        there &= teachers.sample_weight > 0
    return own, taught, there


def mean_there(values: Tensor, there: Bool[Tensor, "k m"]) -> Tensor:
    """Return the mean of [k, m, ...] over the clients for which it is there; NaN without any.

    >>> mean_there(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([[True, False]] * 2))
    tensor([2., nan])
    """
    counts = there.view(*there.shape, *[1] * (values.ndim - 2)).to(values.dtype)
    return torch.where(counts > 0, values, 0).sum(dim=0) / counts.sum(dim=0)
