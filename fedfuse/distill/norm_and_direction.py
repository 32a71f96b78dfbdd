"""Feature norm and direction: features as long as their class's prototype, and as it points.

KD++ (Wang et al., arXiv 2305.17007) adds this to distillation, with the class means of a teacher
as prototypes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_number


def norm_and_direction(
    features: Float[Tensor, "B D"], towards: Float[Tensor, "B D"], norm: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Return ``1 - <s, e> / max(|s|, norm)``: 0 for what is as long as its norm and points to e.

    Args:
        features: s, the student's.
        towards: e, a direction of length 1 for each.
        norm: The length up to which a longer feature loses less.

    >>> s, e = torch.tensor([[3.0, 4.0], [3.0, 4.0], [12.0, 0.0]]), torch.eye(2)[[0, 0, 0]]
    >>> norm_and_direction(s, e, torch.tensor([10.0, 2.0, 10.0]))
    tensor([0.7000, 0.4000, 0.0000])
    """
    length = torch.maximum(torch.linalg.vector_norm(features, dim=1), norm)
    along = (features * towards).sum(dim=1)
    return 1 - along / length.clamp_min(torch.finfo(length.dtype).tiny)


def told_of(
    prototypes: Float[Tensor, "C D"], present: Bool[Tensor, " C"], labels: Int[Tensor, " N"]
) -> Float[Tensor, "N D+2"]:
    """Return what :class:`NormAndDirection` is told of samples: direction, norm, whether it counts.

    A class without a prototype does not count, nor does one whose prototype is zero.
    """
    norm = torch.linalg.vector_norm(prototypes, dim=1, keepdim=True)
    towards = prototypes / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    counts = (present.unsqueeze(1) & (norm > 0)).to(prototypes.dtype)
    return torch.cat([towards, norm, counts], dim=1)[labels]


@dataclass(frozen=True, slots=True)
class NormAndDirection:
    """``lam (1 - <s, e> / max(|s|, nu))`` of features s; 0 where the class has no prototype.

    Args:
        lam: Weight of the term.
    """

    lam: float = 2.0

    def __post_init__(self) -> None:
        require_number("NormAndDirection", "lam", self.lam, at_least=0)

    def __call__(
        self, features: Float[Tensor, "B D"], told: Float[Tensor, "B D+2"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss; see :func:`told_of` for what is told."""
        width = features.shape[1]
        towards, norm, counts = told.narrow(1, 0, width), told.select(1, width), told.select(1, -1)
        return self.lam * counts * norm_and_direction(features, towards, norm)
