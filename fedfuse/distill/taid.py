"""Towards a target that moves from the student's own prediction to the teacher's (TAID)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedfuse.distill.losses import kl_forward
from fedfuse.interpolation import between
from fedfuse.shapes import Float
from fedfuse.train.facts import Facts
from fedfuse.types import Space
from fedfuse.validation import require_number


def taid(
    student_logits: Float[Tensor, "B C"],
    targets: Float[Tensor, "B C"],
    t: float | Float[Tensor, "B 1"],
    temperature: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return ``KL(r || softmax(z / T))`` with ``r = softmax((1 - t) z / T + t log target)``, nats.

    No gradient flows through r. At t = 0 there is none at all, at t = 1 it is the forward KL.

    >>> import torch
    >>> taid(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]).softmax(dim=1), 0.4)
    tensor([0.0137])
    """
    own = student_logits.detach() / temperature
    return kl_forward(student_logits, between(own, targets, t), temperature)


@dataclass(frozen=True, slots=True)
class TAID:
    """Temporally adaptive interpolated distillation (arXiv 2501.16937), at the client's own time.

    How far the client is, the clock tells: a stage of uptake that sets it (``uptake=clock``). The
    authors take the cross-entropy to r, which has the same gradient and is not 0 where student and
    teacher agree. No factor of T squared.

    Args:
        temperature: T of the student's softmax; take that of the teacher's probabilities.
    """

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    wants: ClassVar[frozenset[str]] = frozenset({"clock"})

    def __post_init__(self) -> None:
        require_number("TAID", "temperature", self.temperature, above=0)

    def __call__(
        self,
        student_logits: Float[Tensor, "B C"],
        targets: Float[Tensor, "B C"],
        facts: Facts,
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample."""
        assert facts.clock is not None
        return taid(student_logits, targets, facts.clock.unsqueeze(-1), self.temperature)
