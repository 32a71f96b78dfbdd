"""What the tables of claims share: reading, pairing seeds, and numbers as one reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.results import Run, RunGroup, load, run_groups
from fedfuse.compare import (
    ENOUGH,
    Comparison,
    Interval,
    bootstrap,
    certain_together,
    compare,
    rounded,
    signed,
)

Row = Sequence[str]
"""Cells of a table. The first row is a heading; one cell alone is a sentence that ends a table."""

Array = npt.NDArray[np.floating]


def read(*folders: Path) -> list[RunGroup]:
    """Return the line-ups of folders.

    Raises:
        ConfigError: If there are no runs, or they cannot be compared.
    """
    return run_groups(load(*folders).runs)


def federation(run_group: RunGroup) -> str:
    """Return what tells a line-up from the others."""
    return run_group.label or "-"


def both(runs: Sequence[Run], test: str) -> tuple[Array, Array, Array, tuple[int, ...]] | None:
    """Return a method's and its own baseline's accuracies at the last round.

    Returns:
        Accuracies of both and test sizes, [S, K] each, and the seeds; None if no run has both.
    """
    found = [
        (run.seed, ours, theirs, np.asarray(sizes, dtype=float))
        for run in runs
        if run.baseline is not None
        and (ours := run.arm.last(test)) is not None
        and (theirs := run.baseline.last(test)) is not None
        and (sizes := run.test_sizes(test)) is not None
    ]
    if not found:
        return None
    ours, theirs = (np.stack([row[i] for row in found]) for i in (1, 2))
    return ours, theirs, np.stack([row[3] for row in found]), tuple(row[0] for row in found)


def against(ours: Sequence[Run], theirs: Sequence[Run], test: str) -> Comparison | None:
    """Compare two methods at their last rounds, on the seeds that both have."""
    others = {run.seed: run.arm.last(test) for run in theirs}
    pairs = [
        (run.seed, mine, other)
        for run in ours
        if (mine := run.arm.last(test)) is not None and (other := others.get(run.seed)) is not None
    ]
    if not pairs:
        return None
    left, right = (np.stack([pair[i] for pair in pairs]) for i in (1, 2))
    told = {run.seed: run.test_sizes(test) for run in ours}
    sizes = [size.astype(float) for seed, *_ in pairs if (size := told[seed]) is not None]
    return compare(
        left,
        right,
        seeds=tuple(pair[0] for pair in pairs),
        test_sizes=np.stack(sizes) if len(sizes) == len(pairs) else None,
    )


def gain(found: Comparison | None) -> str:
    """Return the baseline's mean, the gain over it, and whom it helped and harmed."""
    if found is None:
        return "-"
    counts = f"{found.helped}/{found.harmed} of {found.compared}" if found.judged else "-"
    return f"{100 * found.baseline_mean:.1f}, {difference(found)}, {counts}"


def difference(found: Comparison | None) -> str:
    """Return a mean difference in points and its interval."""
    if found is not None and not found.speaks:
        return f"{signed(found.mean)} (tests < {ENOUGH})"
    return "-" if found is None else spread(found.mean, found.interval)


def marked(
    page: Sequence[tuple[str, Comparison | None]],
) -> Callable[[Comparison | None], str]:
    """Return :func:`difference` in bold for what is certain among all comparisons of a page.

    Args:
        page: Those, and what a reader calls them.
    """
    there = [one for _, one in page if one is not None]
    certain = {id(one) for one, stays in zip(there, certain_together(there), strict=True) if stays}
    return lambda one: f"**{difference(one)}**" if id(one) in certain else difference(one)


def spread(
    mean: float,
    interval: Interval | None,
    *,
    scale: float = 100.0,
    digits: int = 1,
    sign: str = "+",
) -> str:
    """Return a mean and its interval, in points unless the scale is another.

    >>> spread(0.0123, None)
    '+1.2 (1 seed)'
    """

    def format_value(value: float) -> str:
        return rounded(scale * value, digits, sign)

    if interval is None:
        return f"{format_value(mean)} (1 seed)"
    return f"{format_value(mean)} [{format_value(interval.low)}, {format_value(interval.high)}]"


def mean_of(
    values: Sequence[Array], *, scale: float = 100.0, digits: int = 1, sign: str = "+"
) -> str:
    """Return the mean over seeds, of the mean over clients [K] of each, and its interval."""
    rows = [row for row in values if np.isfinite(row).any()]
    if not rows:
        return "-"
    mean = float(np.mean([np.nanmean(row) for row in rows]))
    return spread(mean, bootstrap(np.stack(rows)), scale=scale, digits=digits, sign=sign)


def last_fusion(runs: Sequence[Run], metric: str) -> float | None:
    """Return the mean of a metric of the last fusion, over clients and seeds."""
    found = [run.arm.last(metric, "fuse") for run in runs]
    means = [float(np.nanmean(values)) for values in found if values is not None]
    return float(np.mean(means)) if means else None


def kilobytes(run: Run, way: str) -> float:
    """Return kilobytes that a client sends (``up``) or gets (``down``) a round that fuses."""
    sizes = run.arm.federation[f"bytes_{way}@fuse"]
    fused = sizes[np.nan_to_num(sizes) > 0]
    return float(fused.mean() / run.summary["num_clients"] / 1000) if len(fused) else 0.0
