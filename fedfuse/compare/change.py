"""How any metric changes from a baseline to a method, paired by seed and client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.compare.interval import Interval, bootstrap

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A metric with a method and with its baseline.

    Args:
        method_mean: With the method: the mean over seeds of each seed's mean over its clients.
        baseline_mean: The same with the baseline.
        mean: The first minus the second.
        interval: Of ``mean``, as :func:`fedfuse.compare.bootstrap` makes it; None with one seed.
    """

    method_mean: float
    baseline_mean: float
    mean: float
    interval: Interval | None

    @property
    def significant(self) -> bool:
        """Return whether the interval excludes 0; never with one seed."""
        return self.interval is not None and self.interval.excludes_zero


def change(
    method: Array, baseline: Array, *, level: float = 0.95, draws: int = 4000
) -> Change | None:
    """Return how a metric changes; None if no client has it in both.

    Args:
        method: Values [S, K], NaN where there is none.
        baseline: The same clients' with the baseline.
        level: Confidence of the interval.
        draws: Bootstrap draws.

    >>> change(np.array([[0.2, 0.4]]), np.array([[0.1, 0.1]])).mean.__round__(3)
    0.2
    """
    there = np.isfinite(method) & np.isfinite(baseline)
    seeds = there.any(axis=1)
    if not seeds.any():
        return None
    ours, theirs = (np.where(there, table, np.nan)[seeds] for table in (method, baseline))
    return Change(
        method_mean=float(np.nanmean(ours, axis=1).mean()),
        baseline_mean=float(np.nanmean(theirs, axis=1).mean()),
        mean=float(np.nanmean(ours - theirs, axis=1).mean()),
        interval=bootstrap(ours - theirs, level, draws),
    )
