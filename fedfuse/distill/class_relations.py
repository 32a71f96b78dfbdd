"""How a client's classes lie to each other, matched to how the fused ones do.

Similarity-preserving distillation (arXiv 1907.09682, :mod:`fedfuse.distill.relations`) on
prototypes of classes in the place of samples. It compares no feature with one of another model,
only inner products of each model's own, so that models of other architectures can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_number


def told_of(
    prototypes: Float[Tensor, "C D"], counts: Bool[Tensor, " C"], labels: Int[Tensor, " N"]
) -> Float[Tensor, "N W"]:
    """Return what :class:`ClassRelations` is told of samples, [N, 3C].

    The label's row of inner products with all classes that count, divided by the row's norm; which
    classes count, none where the label's own does not; and which is its own.
    """
    grams = prototypes @ prototypes.T
    rows = functional.normalize(grams * counts, dim=1)
    pairs = (counts.unsqueeze(1) & counts.unsqueeze(0)).to(rows.dtype)
    return torch.cat([rows * pairs, pairs, torch.eye(len(rows)).to(rows)], dim=1)[labels]


@dataclass(frozen=True, slots=True)
class ClassRelations:
    """``weight * ||G_t[y] - G_s[y]||**2 / C``, G the rows' inner products over each row's norm.

    The student's row is that of its own prototypes with the sample's features in the place of its
    class's: ``<s, P_c>`` for the other classes and ``<s, s>`` for its own. C are the classes that
    both sides have.

    Args:
        weight: Of the term.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        require_number("ClassRelations", "weight", self.weight, at_least=0)

    def __call__(
        self, readings: Float[Tensor, "B R"], told: Float[Tensor, "B W"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss.

        Args:
            readings: ``<s, P_c>`` for each class, and ``<s, s>``: [B, C + 1].
            told: See :func:`told_of`.
        """
        theirs, counts, own = told.chunk(3, dim=1)
        products, square = readings[:, :-1], readings[:, -1:]
        ours = functional.normalize(counts * torch.where(own > 0, square, products), dim=1)
        squares = (ours - theirs).square().sum(dim=1)
        return self.weight * squares / counts.sum(dim=1).clamp_min(1)
