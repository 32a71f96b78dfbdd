"""What the tests of clients found, and what the clients have spent: as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch

from fedfuse.types import ClientMetrics
from fedfuse.wire.messages import SPENT, TWIN


def _nothing() -> npt.NDArray[np.uint8]:
    return np.zeros(0, dtype=np.uint8)


@dataclass(slots=True)
class Tested:
    """How good one model is.

    Args:
        metrics: Its metrics by name.
        right_own: Which samples of the client's own test set it gets right, uint8 [bytes], a bit
            a sample.
        right_global: The same of the balanced test set.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    right_own: npt.NDArray[np.uint8] = field(default_factory=_nothing)
    right_global: npt.NDArray[np.uint8] = field(default_factory=_nothing)


def with_spending(
    tested: Sequence[Tested],
    cohort: Sequence[int],
    spent: Mapping[int, Mapping[str, float]],
    found: Mapping[int, Mapping[str, float]] = MappingProxyType({}),
) -> list[Tested]:
    """Return a cohort's tests and what it has spent; the latter alone where nobody was tested.

    What was found beside goes with tests, but for names that a test has.
    """
    for row, client_id in zip(tested, cohort, strict=False):
        row.metrics.update({**found.get(client_id, {}), **row.metrics})
    rows = list(tested) or [Tested() for _ in cohort]
    nothing = dict.fromkeys(SPENT, 0.0)
    for row, client_id in zip(rows, cohort, strict=True):
        row.metrics.update(spent.get(client_id, nothing))
    return rows


def with_twins(
    spent: Mapping[int, dict[str, float]], twins: Mapping[int, Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """Return what clients have spent, and beside it what their local twins have."""
    nothing = dict.fromkeys(SPENT, 0.0)
    return {
        i: {**spent.get(i, nothing), **{f"{TWIN}{k}": v for k, v in twins.get(i, nothing).items()}}
        for i in {*spent, *twins}
    }


def stacked(table: Mapping[int, Tested], *, answers: bool) -> ClientMetrics | None:
    """Return what is known of clients, by ascending client; None if there are none."""
    ids = sorted(table)
    return as_table(ids, [table[i] for i in ids], answers=answers) if ids else None


def as_table(
    client_ids: Sequence[int], rows: Sequence[Tested], *, answers: bool = False
) -> ClientMetrics:
    """Stack what the tests of several clients found.

    Args:
        client_ids: Whose.
        rows: What was found; a metric that a client lacks (no validation data) is NaN.
        answers: Whether to tell which samples are right.
    """
    names = tuple(sorted({name for row in rows for name in row.metrics}))
    values = [[row.metrics.get(name, float("nan")) for name in names] for row in rows]
    return ClientMetrics(
        client_ids=torch.tensor(client_ids),
        names=names,
        values=torch.tensor(values, dtype=torch.float64),
        right_own=_together([row.right_own for row in rows]) if answers else None,
        right_global=_together([row.right_global for row in rows]) if answers else None,
    )


def _together(rows: Sequence[npt.NDArray[np.uint8]]) -> torch.Tensor:
    """Stack bits of different lengths, zeros behind the shorter ones."""
    table = np.zeros((len(rows), max(len(row) for row in rows)), dtype=np.uint8)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(table)
