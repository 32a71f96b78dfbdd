"""Clipping: a gradient longer than a bound is shortened to it (Pascanu et al., arXiv 1211.5063)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

SMALL = 1e-6
"""Added to a norm before it divides, as torch does."""


def clip(model: nn.Module, parameters: Iterable[Tensor], max_norm: float) -> None:
    """Shorten a model's gradient to a norm of at most ``max_norm``, in place.

    Models that are trained side by side (a module with ``separate``, which returns them) are
    clipped each by itself, as if it were trained alone.

    Args:
        model: The model.
        parameters: Those that are trained; such without a gradient do not count.
        max_norm: The largest L2 norm.
    """
    separate = getattr(model, "separate", None)
    groups = [parameters] if separate is None else [part.parameters() for part in separate()]
    for group in groups:
        torch.nn.utils.clip_grad_norm_(group, max_norm)


def clip_rows(gradients: Tensor, max_norm: float) -> None:
    """Do the same with the gradients of many clients, [A, D], each client's by itself.

    >>> gradients = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    >>> clip_rows(gradients, 1.0)
    >>> gradients
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    norms = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    gradients.mul_((max_norm / (norms + SMALL)).clamp_max(1.0))
