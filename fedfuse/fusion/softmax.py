"""Softmax over a handful of classes, at the speed of the exponential."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedfuse.shapes import Float

_FEW = 32  # classes up to which torch's own CPU softmax is bound by its cost per row
_SAFE = 1e-20, 1e30  # sums of exponentials that neither underflowed nor overflowed


def softmax(logits: Float[Tensor, "*batch C"], temperature: float) -> Float[Tensor, "*batch C"]:
    """Return ``softmax(z / T)`` over the last dimension.

    On CPU torch's softmax takes some 200 ns for a row of 10 classes, ten times the exponentials in
    it. So they are taken unshifted, as powers of 2, and only where a sum of theirs comes near the
    limits of float32 is the block done again by torch. The result is the exact softmax of logits
    that differ from the given ones in their last bit.

    >>> softmax(torch.tensor([[0.0, 0.0], [2000.0, 0.0]]), temperature=2.0)
    tensor([[0.5000, 0.5000],
            [1.0000, 0.0000]])
    """
    if logits.device.type != "cpu" or logits.dtype != torch.float32 or logits.shape[-1] > _FEW:
        return (logits / temperature).softmax(dim=-1)
    powers = (logits * (math.log2(math.e) / temperature)).exp2_()
    sums = powers.sum(dim=-1, keepdim=True)
    least, most = torch.aminmax(sums)
    if not (float(least) > _SAFE[0] and float(most) < _SAFE[1]):
        return (logits / temperature).softmax(dim=-1)
    return powers.div_(sums)
