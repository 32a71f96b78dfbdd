"""Between what a model says and what its teacher says, and when to stand where.

TAID (Shing et al., arXiv 2501.16937): a target moves from the student's own prediction (t = 0) to
the teacher's (t = 1). A client does that with ``uptake=clock`` and ``distill=taid``, the server
with ``rule=mix_by_round``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.errors import require
from fedfuse.shapes import Float
from fedfuse.validation import require_count, require_number

EPS = 1e-8
"""Smallest target whose logarithm is taken."""


def between(
    logits: Float[Tensor, "*batch C"],
    targets: Float[Tensor, "*batch C"],
    t: float | Float[Tensor, "*batch 1"],
) -> Float[Tensor, "*batch C"]:
    """Return ``softmax((1 - t) z + t log target)``; at t = 1 the target, to the bit.

    >>> between(torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]).softmax(dim=0), 0.4)
    tensor([0.8022, 0.1978])
    """
    mixed = ((1 - t) * logits + t * targets.clamp_min(EPS).log()).softmax(dim=-1)
    return torch.where(torch.as_tensor(t >= 1, device=targets.device), targets, mixed)


def linear(t_start: float, t_end: float, progress: float) -> float:
    """Return t on a straight line from start to end, and the end from a progress of 1 on.

    >>> round(linear(0.4, 1.0, 0.5), 6), linear(0.4, 1.0, 3.0)
    (0.7, 1.0)
    """
    return t_end if progress >= 1 else t_start + (t_end - t_start) * max(0.0, progress)


def require_ramp(owner: str, t_start: float, t_end: float, ramp_rounds: int) -> None:
    """Raise unless t can go from its start to its end: it stays in [0, 1] and never falls."""
    require_number(owner, "t_start", t_start, at_least=0, at_most=1)
    require_number(owner, "t_end", t_end, above=0, at_most=1)
    rises = "at least t_start, because t never falls"
    require(t_end >= t_start, owner, "t_end", t_end, rises)
    require_count(owner, "ramp_rounds", ramp_rounds, at_least=1)
