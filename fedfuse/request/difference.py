"""What the teacher likes better than a reference does: difference sampling (MiniPLM, 2410.17215).

Read in the authors' code (thu-coai/MiniPLM), where reference and teacher are two language models.
Here the reference is what the clients said in the first exchange, and the form without labels is
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import CLOSE, best, budget, cross_entropy, entropy, lesson_of
from fedfuse.request.remembering import Remembering
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_flag, require_number


def difference(
    reference: Float[Tensor, "n C"],
    teacher: Float[Tensor, "n C"],
    labels: Int[Tensor, " n"] | None,
) -> Float[Tensor, " n"]:
    """Return how much better the teacher does than the reference, ``loss_ref - loss_T``.

    Args:
        reference: Probabilities.
        teacher: Probabilities.
        labels: The loss is the cross-entropy to them; without them it is the entropy.

    >>> difference(torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.1]]), None)
    tensor([0.3681])
    """
    if labels is None:
        return entropy(reference) - entropy(teacher)
    return cross_entropy(reference, labels) - cross_entropy(teacher, labels)


@dataclass(frozen=True, slots=True)
class Difference(Remembering):
    """Ask for the share of samples that what is fused likes best, compared with the beginning.

    The reference of a sample is the clients' mean prediction when it was first answered; the
    teacher its last fused target. What nobody has answered yet is asked for first, and so is what
    has been answered once under a rule whose target is the clients' mean itself, so that there is
    nothing to compare. The first exchange asks for all.

    Args:
        keep: Of the samples; 1 asks for all.
        refresh: The scores are taken anew with every so many fusions.
        labels: Whether public labels are read where anybody knows them; False compares entropies.
    """

    keep: float = 0.5
    refresh: int = 1
    labels: bool = True
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Difference", "keep", self.keep, above=0, at_most=1)
        require_count("Difference", "refresh", self.refresh)
        require_flag("Difference", "labels", self.labels)

    @property
    def pseudo_labels(self) -> bool:
        """Whether it reads public labels, and does without where there are none."""
        return self.labels

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        index: Tensor,
        client_ids: Sequence[int],  # noqa: ARG002 - all are asked alike
    ) -> Tensor:
        """Return the samples with the largest difference, bool [m]."""
        scores = self.known("score", index)
        if scores is None:
            return torch.ones(len(index), dtype=torch.bool)
        return best(scores, budget(None, self.keep, len(index)))

    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Tensor | None,
        round: int,  # noqa: A002, ARG002 - fusions count
        index: Tensor,
    ) -> None:
        """Compare what was fused with what clients said first."""
        lesson = lesson_of(bank, teachers, labels)
        rows = index[lesson.rows]
        before = self.known("reference", rows)
        fresh = torch.ones(len(rows), dtype=torch.bool)
        if before is not None:
            fresh = before.isnan().any(dim=1)
        self.remember("reference", rows[fresh], lesson.students[fresh])
        due = int(self.memory.get("fusions", 0)) % self.refresh == 0
        self.memory["fusions"] = self.memory.get("fusions", torch.tensor(0)) + 1
        again = torch.ones(len(rows), dtype=torch.bool) if due else fresh
        reference = self.known("reference", rows)
        if reference is None or not bool(again.any()):
            return
        known = None if labels is None else lesson.labels[again]
        scores = difference(reference[again], lesson.teacher[again], known)
        same = (lesson.students - lesson.teacher).abs().amax(dim=1) < CLOSE
        scores[(fresh & same)[again]] = torch.nan
        self.remember("score", rows[again], scores)
