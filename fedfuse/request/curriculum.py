"""From easy samples to hard ones: curriculum learning on the public set.

The curriculum of KICP (A Knowledge-Injected Curriculum Pretraining Framework for Question
Answering), of which the abstract was read: easy first. How hard a sample is, and the schedule, are
the usual ones of curriculum learning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.request.knowledge import best, budget, cross_entropy, entropy, lesson_of
from fedfuse.request.remembering import Remembering
from fedfuse.rng import Streams
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_number, require_one_of

ORDERS = ("easy_first", "hard_first", "random")
BY = ("entropy", "label")


def pace(exchange: int, start: float, ramp_rounds: int) -> float:
    """Return the share of samples asked for in an exchange, ``min(1, s + (1 - s) r / ramp)``.

    >>> [budget(None, pace(r, 0.3, 10), 10) for r in (0, 5, 10, 20)]
    [3, 7, 10, 10]
    """
    return min(1.0, start + (1 - start) * exchange / ramp_rounds)


@dataclass(frozen=True, slots=True)
class Curriculum(Remembering):
    """Ask for the easiest samples, and for more of them in every exchange.

    A sample is as hard as the last fused target of it is undecided (its entropy), or as far as that
    is from the public label. What nobody has answered yet is asked for first. The first exchange
    asks for all.

    Args:
        start: Share of the samples at exchange 0.
        ramp_rounds: Exchanges until all are asked for.
        order: ``easy_first``; or the controls ``hard_first`` and ``random``.
        by: What makes a sample hard: the target's ``entropy``, or its cross-entropy to the
            ``label``, where the public labels are known.
        seed: Of ``random``.
    """

    start: float = 0.3
    ramp_rounds: int = 10
    order: str = "easy_first"
    by: str = "entropy"
    seed: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Curriculum", "start", self.start, above=0, at_most=1)
        require_count("Curriculum", "ramp_rounds", self.ramp_rounds)
        require_one_of("Curriculum", "order", self.order, ORDERS)
        require_one_of("Curriculum", "by", self.by, BY)
        require_count("Curriculum", "seed", self.seed, at_least=0)

    @property
    def needs_labels(self) -> bool:
        """Whether it needs public labels."""
        return self.by == "label"

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Tensor,
        client_ids: Sequence[int],  # noqa: ARG002 - all are asked alike
    ) -> Tensor:
        """Return the samples that the exchange asks for, bool [m]."""
        hardness = self.known("hardness", index)
        if hardness is None:
            return torch.ones(len(index), dtype=torch.bool)
        exchange = int(self.memory["exchanges"])
        count = budget(None, pace(exchange, self.start, self.ramp_rounds), len(index))
        if self.order == "random":
            draw = Streams(self.seed).torch("public", "request", round)
            return best(torch.rand(len(index), generator=draw), count)
        return best(hardness if self.order == "hard_first" else -hardness, count)

    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Tensor | None,
        round: int,  # noqa: A002, ARG002 - exchanges count
        index: Tensor,
    ) -> None:
        """Remember how hard the samples of a fusion are."""
        lesson = lesson_of(bank, teachers, labels)
        by_label = self.by == "label"
        hardness = (
            cross_entropy(lesson.teacher, lesson.labels) if by_label else entropy(lesson.teacher)
        )
        self.remember("hardness", index[lesson.rows], hardness)
        self.memory["exchanges"] = self.memory.get("exchanges", torch.tensor(0)) + 1
