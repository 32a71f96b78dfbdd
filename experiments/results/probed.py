"""What models answered to the probes: a method's beside its own baseline's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.results.arms import Arm, Array
from experiments.results.runs import Run
from fedfuse.compare import Comparison, compare

PROBED = "probed"
"""The phase of the probes' metrics."""


def asked(runs: Sequence[Run]) -> list[str]:
    """Return the metrics that probes found in any of the runs, in alphabetical order."""
    ends = f"@{PROBED}"
    names = {name for run in runs for name in run.arm.clients if name.endswith(ends)}
    return sorted(name.removesuffix(ends) for name in names)


def both(run: Run, metric: str) -> tuple[Array, Array] | None:
    """Return a probe's metric of a run's clients and of their baseline's, [K] each.

    None where there is no baseline, or where one of them was not asked.
    """
    if run.baseline is None:
        return None
    ours, theirs = (arm.last(metric, PROBED) for arm in (run.arm, run.baseline))
    return None if ours is None or theirs is None else (ours, theirs)


def change(runs: Sequence[Run], metric: str) -> Comparison | None:
    """Compare a method with its own baseline on a probe's metric; None where it was not asked."""
    sides = [
        (run.seed, *found)
        for run in runs
        if (found := both(run, metric)) is not None and np.isfinite(found[0] - found[1]).any()
    ]
    if not sides:
        return None
    ours, theirs = (np.stack([side[i] for side in sides]) for i in (1, 2))
    return compare(ours, theirs, seeds=tuple(side[0] for side in sides))


def by_class(arm: Arm, prefix: str) -> Array | None:
    """Return the accuracy of each class in each round that asked, [R, K, C]; None if none did.

    Args:
        arm: The arm.
        prefix: Before the number of a class in the name of its metric.
    """
    numbers = [
        int(name.removeprefix(prefix).removesuffix(f"@{PROBED}"))
        for name in arm.clients
        if name.startswith(prefix) and name.endswith(f"@{PROBED}")
    ]
    values = [arm.clients[f"{prefix}{number}@{PROBED}"] for number in sorted(numbers)]
    return np.stack(values, axis=-1) if values else None
