"""Send clients what they wish for: other targets do not travel and do not count."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedfuse.exchange.kind import Combine
from fedfuse.types import Fusion, KnowledgeBank, Teachers

WISHED = "samples_wished"
"""Metric of a fusion: how many targets a client wished for, the mean over the clients."""


@dataclass(frozen=True, slots=True)
class HeedWishes:
    """Leave out of each client's teacher what it did not wish for.

    Args:
        combine: What fuses; a model of the server's own learns from all of it.
    """

    combine: Combine

    def __call__(self, knowledge: object, round_: int) -> Fusion:
        """Return the fusion with teachers that are what was wished for."""
        fusion = self.combine(knowledge, round_)
        assert isinstance(knowledge, KnowledgeBank)
        assert isinstance(fusion.teachers, Teachers)
        if knowledge.wishes is None:
            return fusion
        wanted, weight = knowledge.wishes.float(), fusion.teachers.sample_weight
        counts = wanted if weight is None else weight * wanted
        return replace(
            fusion,
            teachers=replace(fusion.teachers, sample_weight=counts),
            metrics={**fusion.metrics, WISHED: float(wanted.sum(dim=1).mean())},
        )
