"""A loss beside the cross-entropy of public labels, in fixed shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from fedfuse.distill.composite import Composite, require_shared
from fedfuse.distill.losses import KL
from fedfuse.errors import require
from fedfuse.protocols import DistillLoss
from fedfuse.shapes import Float
from fedfuse.train.facts import Facts, ask, wants
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class WithLabels(Composite):
    """``share * CE(label) + (1 - share) * base``, as FedGEMS's clients and server have it.

    Args:
        share: Of the label.
        base: The loss towards the teacher.
    """

    share: float = 0.75
    base: DistillLoss = field(default_factory=KL)
    pseudo_labels: ClassVar[bool] = False
    least_where_agreeing: ClassVar[bool] = False  # but at the label

    def __post_init__(self) -> None:
        require_number("WithLabels", "share", self.share, at_least=0, at_most=1)
        require(callable(self.base), "WithLabels", "base", self.base, "a loss")
        require_shared("WithLabels", "base", self.base)

    @property
    def _losses(self) -> tuple[DistillLoss]:
        return (self.base,)

    @property
    def wants(self) -> frozenset[str]:
        """The labels, and what the loss beside them wants."""
        return wants(self.base) | {"labels"}

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"], facts: Facts
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        assert facts.labels is not None
        label = cross_entropy(student_logits, facts.labels, reduction="none")
        return self.share * label + (1 - self.share) * ask(
            self.base, student_logits, targets, facts
        )
