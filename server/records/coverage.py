"""How many public samples clients answered for, and how many of them nobody learns from."""

from __future__ import annotations

from collections.abc import Iterator

from fedfuse.payload import Payload
from fedfuse.types import Fusion, KnowledgeBank, MetricRow, Phase, Teachers


def coverage(round_: int, knowledge: Payload | None, fusion: Fusion | None) -> Iterator[MetricRow]:
    """Yield each client's counts.

    ``samples_answered`` of its own where clients send masks, ``samples_left_out`` of its teacher's
    where some do not count.
    """
    if isinstance(knowledge, KnowledgeBank) and knowledge.mask is not None:
        counts = knowledge.mask.sum(dim=1).tolist()
        for client_id, count in zip(knowledge.client_ids.tolist(), counts, strict=True):
            yield MetricRow(round_, client_id, Phase.FUSE, "samples_answered", float(count))
    teachers = None if fusion is None else fusion.teachers
    if isinstance(teachers, Teachers) and teachers.sample_weight is not None:
        counts = (teachers.sample_weight == 0).sum(dim=1).tolist()
        for client_id, count in zip(teachers.client_ids.tolist(), counts, strict=True):
            yield MetricRow(round_, client_id, Phase.FUSE, "samples_left_out", float(count))
