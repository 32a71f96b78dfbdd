"""The few numbers that are worth showing while a run is under way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

from fedfuse.compare import signed
from fedfuse.types import Phase, RoundRecord


def mean(record: RoundRecord, metric: str, phase: str = Phase.FUSED) -> float | None:
    """Return the mean of a metric over the clients, or None if the round was not evaluated."""
    values = [
        row.value
        for row in record.metrics
        if row.metric == metric and row.phase == phase and row.client_id >= 0
    ]
    values = [value for value in values if math.isfinite(value)]
    return sum(values) / len(values) if values else None


def percent(value: float | None) -> str:
    """Return an accuracy as a percentage, five characters wide.

    >>> percent(0.8312), percent(None)
    (' 83.1', '    -')
    """
    return f"{100 * value:5.1f}" if value is not None else "    -"


def points(value: float | None) -> str:
    """Return a difference of accuracies in percentage points, always with its sign.

    The sign carries the message without colour; no difference has none.

    >>> points(0.018), points(-0.05), points(-0.0004), points(0.0), points(None)
    (' +1.8', ' -5.0', '-0.04', '  0.0', '    -')
    """
    return "    -" if value is None else f"{signed(value):>5}"


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours where there are any.

    >>> clock(83), clock(3723)
    ('1:23', '1:02:03')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def named(client_ids: Sequence[int], most: int = 6) -> str:
    """Return ascending client ids in words: runs of them as ranges, at most ``most`` entries.

    >>> named([3]), named([3, 7]), named([0, 1, 2, 3, 9])
    ('client 3', 'clients 3, 7', 'clients 0-3, 9')
    >>> named(range(0, 20, 2), most=3)
    'clients 0, 2, 4 and 7 more'
    """
    runs = [
        [client_id for _, client_id in run]
        for _, run in groupby(enumerate(client_ids), lambda pair: pair[1] - pair[0])
    ]
    shown = ", ".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs[:most]
    )
    left = sum(map(len, runs[most:]))
    more = f" and {left} more" if left else ""
    return f"client{'s' if len(client_ids) > 1 else ''} {shown}{more}"
