"""What the predictions that were exchanged in a round show, for whoever advises on them later."""

from __future__ import annotations

from collections.abc import Iterator

from fedfuse.advise.signals import prediction_signals
from fedfuse.payload import Payload
from fedfuse.types import Fusion, KnowledgeBank, MetricRow, Phase, Teachers


def prediction_rows(
    round_: int, knowledge: Payload | None, fusion: Fusion | None
) -> Iterator[MetricRow]:
    """Yield each client's numbers; none where something else than predictions was exchanged.

    Predictions themselves are too large to keep, so what ``fedfuse-advise`` wants to know of them
    is computed while they are there.
    """
    teachers = None if fusion is None else fusion.teachers
    if not isinstance(knowledge, KnowledgeBank) or not isinstance(teachers, Teachers):
        return
    for name, values in prediction_signals(knowledge, teachers).items():
        for client_id, value in zip(knowledge.client_ids.tolist(), values.tolist(), strict=True):
            if value == value:  # a client without a teacher has no disagreement with it
                yield MetricRow(round_, client_id, Phase.FUSE, name, value)
