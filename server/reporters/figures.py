"""The few numbers that are worth showing while a run is under way."""

from __future__ import annotations

import math

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

    The sign carries the message without colour. A difference that rounds to nothing is shown as
    ``0.0`` without one.

    >>> points(0.018), points(-0.05), points(0.0002), points(None)
    (' +1.8', ' -5.0', '  0.0', '    -')
    """
    if value is None:
        return "    -"
    text = f"{100 * value:+5.1f}"
    return "  0.0" if text.strip() in ("+0.0", "-0.0") else text


def clock(seconds: float) -> str:
    """Return a duration as minutes and seconds, with hours where there are any.

    >>> clock(83), clock(3723)
    ('1:23', '1:02:03')
    """
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
