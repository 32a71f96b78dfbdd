"""Distil as much as the teacher ranks well: the reciprocal rank of the label (AP@k)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.distill.composite import Composite, require_shared
from fedfuse.distill.labels import require_classes
from fedfuse.distill.losses import KL
from fedfuse.errors import require
from fedfuse.protocols import DistillLoss
from fedfuse.shapes import Float, Int
from fedfuse.train.facts import Facts, ask, wants
from fedfuse.validation import require_count


def reciprocal_rank(
    targets: Float[Tensor, "B C"], labels: Int[Tensor, " B"], k: int
) -> Float[Tensor, " B"]:
    """Return 1 / rank of the label in the target, 0 if it is beyond k or unknown (below 0).

    The rank is one more than the classes that are strictly likelier.

    >>> import torch
    >>> said = torch.tensor([[0.5, 0.3, 0.2]]).expand(3, -1)
    >>> reciprocal_rank(said, torch.tensor([0, 1, 2]), k=2).tolist()
    [1.0, 0.5, 0.0]
    """
    label = targets.gather(-1, labels.clamp_min(0).unsqueeze(-1))
    rank = 1 + (targets > label).sum(dim=-1)
    return ((rank <= k) & (labels >= 0)).to(targets.dtype) / rank


@dataclass(frozen=True, slots=True)
class APAtK(Composite):
    """A loss, times the reciprocal rank of the public label in the teacher's target.

    From self-distillation for question answering across languages (arXiv 2309.17134), whose authors
    multiply a batch's KL by the batch's mean of the ranks; a factor for each sample is ours.

    Args:
        k: Ranks that count, at most as many as there are classes: 1 distils only where the teacher
            is right. The authors take 10, for spans of text.
        base: The loss that is weighed.
    """

    k: int = 3
    base: DistillLoss = field(default_factory=KL)
    pseudo_labels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_count("APAtK", "k", self.k)
        require(callable(self.base), "APAtK", "base", self.base, "a loss")
        require_shared("APAtK", "base", self.base)

    @property
    def _losses(self) -> tuple[DistillLoss]:
        return (self.base,)

    @property
    def wants(self) -> frozenset[str]:
        """The labels, and what the loss that is weighed wants."""
        return wants(self.base) | {"labels"}

    @property
    def min_classes(self) -> int:
        """Ranks that count, or what the loss that is weighed needs."""
        return max(2, self.k, declared(self.base, "min_classes", 2))

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        require_classes("APAtK", f"counts {self.k} ranks", targets.shape[-1], self.k)
        assert facts.labels is not None
        factor = reciprocal_rank(targets, facts.labels, self.k)
        return factor * ask(self.base, student_logits, targets, facts)
