"""Everything one comparison finds, from the two arms' accuracies paired by seed and client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.compare.change import Change
from fedfuse.compare.flips import Flips
from fedfuse.compare.interval import Interval, bootstrap
from fedfuse.compare.outcomes import ENOUGH, HARMED, HELPED, outcomes
from fedfuse.errors import FedfuseError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method against a baseline on one test protocol. Accuracies are shares, 0 to 1.

    Args:
        seeds: The S seeds, one row of every [S, K] array each.
        gains: Method minus baseline [S, K], NaN where either is missing or the test is too small.
        outcomes: int8 [S, K]: helped 1, harmed -1, undecided 0 (see :func:`outcomes`).
        method_mean: Mean accuracy of the method over seeds and clients that have a gain.
        baseline_mean: The same of the baseline.
        mean: Mean gain: the mean over seeds of each seed's mean over its clients.
        interval: Of ``mean``; None with one seed, and where the tests are too small.
        worst: The lowest accuracy of a client with the method, mean over seeds.
        worst_decile: Mean accuracy of the tenth of clients (at least one) that are worst with
            the method, mean over seeds.
        std: Standard deviation over the clients with the method, mean over seeds.
        baseline_worst: As ``worst``, of the baseline.
        baseline_worst_decile: As ``worst_decile``, of the baseline.
        lowest_gain: The most that a client lost (or least that one gained), over all seeds.
        flips: Which test samples changed sides; None where single answers are not on record.
        calibration: The expected calibration error of both; None where it was not measured.
        judged: Whether the sizes of the clients' tests are known and large enough; without that
            ``outcomes`` calls nobody helped or harmed.
        too_small: Sizes of the tests that hold fewer than :data:`ENOUGH` samples, ascending. The
            clients behind them do not count, unless a seed has no others.
        speaks: False where a seed has no others: then every client counts and nothing is shown.
    """

    seeds: tuple[int, ...]
    gains: Array
    outcomes: npt.NDArray[np.int8]
    method_mean: float
    baseline_mean: float
    mean: float
    interval: Interval | None
    worst: float
    worst_decile: float
    std: float
    baseline_worst: float
    baseline_worst_decile: float
    lowest_gain: float
    flips: Flips | None = None
    calibration: Change | None = None
    judged: bool = True
    too_small: tuple[int, ...] = ()
    speaks: bool = True

    @property
    def num_clients(self) -> int:
        """Return K."""
        return int(self.gains.shape[1])

    @property
    def compared(self) -> int:
        """Return how many pairs of seed and client have a gain."""
        return int(np.isfinite(self.gains).sum())

    @property
    def helped(self) -> int:
        """Return how many of them gained for certain."""
        return int((self.outcomes == HELPED).sum())

    @property
    def harmed(self) -> int:
        """Return how many of them lost for certain."""
        return int((self.outcomes == HARMED).sum())

    @property
    def significant(self) -> bool:
        """Return whether the interval of the mean gain excludes 0; never with one seed."""
        return self.interval is not None and self.interval.excludes_zero

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Return the ends of the interval of the mean gain; None where there is none."""
        return None if self.interval is None else (self.interval.low, self.interval.high)

    def harmed_clients(self) -> list[tuple[int, int]]:
        """Return (seed, client id) of every client that lost for certain."""
        return [(self.seeds[s], int(k)) for s, k in np.argwhere(self.outcomes == HARMED)]


def compare(
    method: Array,
    baseline: Array,
    *,
    seeds: tuple[int, ...],
    test_sizes: Array | None = None,
    level: float = 0.95,
    draws: int = 4000,
) -> Comparison:
    """Return the comparison of two arms that share data, initial weights and random streams.

    Args:
        method: Accuracies [S, K], NaN where a client was not tested.
        baseline: The same clients' accuracies in the baseline.
        seeds: Of the rows.
        test_sizes: Test samples behind each accuracy [S, K], for decisions about single clients,
            and for what counts at all; None where they are not known.
        level: Confidence of the interval and of each client's decision.
        draws: Bootstrap draws.

    Raises:
        FedfuseError: If the shapes differ or nobody was tested in both arms.
    """
    method = np.asarray(method, dtype=np.float64)
    baseline = np.asarray(baseline, dtype=np.float64)
    if method.shape != baseline.shape or method.ndim != 2 or len(method) != len(seeds):
        raise FedfuseError(
            "The two sides of a comparison do not pair up",
            got=f"{list(method.shape)} and {list(baseline.shape)} for {len(seeds)} seeds",
            allowed="two arrays [seeds, clients] of one shape",
        )
    gains = method - baseline
    there = np.isfinite(gains)
    if not there.any(axis=1).all():
        missing = [seed for seed, any_ in zip(seeds, there.any(axis=1), strict=True) if not any_]
        raise FedfuseError(
            "No client was tested with both the method and the baseline",
            got=f"nobody in the seeds {missing}",
            next_step="Compare runs whose clients were evaluated in the same rounds.",
        )
    few = np.zeros(there.shape, dtype=bool) if test_sizes is None else test_sizes < ENOUGH
    speaks = bool((there & ~few).any(axis=1).all())
    small = () if test_sizes is None else np.sort(np.asarray(test_sizes)[there & few])
    if speaks:
        there &= ~few
        gains = np.where(there, gains, np.nan)
    ours, theirs = np.where(there, method, np.nan), np.where(there, baseline, np.nan)
    return Comparison(
        seeds=tuple(seeds),
        gains=gains,
        outcomes=outcomes(ours, theirs, test_sizes, level),
        method_mean=_over_seeds(ours, np.mean),
        baseline_mean=_over_seeds(theirs, np.mean),
        mean=_over_seeds(gains, np.mean),
        interval=bootstrap(gains, level, draws) if speaks else None,
        worst=_over_seeds(ours, np.min),
        worst_decile=_over_seeds(ours, worst_decile),
        std=_over_seeds(ours, np.std),
        baseline_worst=_over_seeds(theirs, np.min),
        baseline_worst_decile=_over_seeds(theirs, worst_decile),
        lowest_gain=float(np.nanmin(gains)),
        judged=test_sizes is not None and speaks,
        too_small=tuple(int(size) for size in small),
        speaks=speaks,
    )


def worst_decile(values: Array) -> float:
    """Return the mean of the lowest tenth, at least one value.

    >>> worst_decile(np.arange(20.0))
    0.5
    """
    count = max(1, math.floor(len(values) / 10))
    return float(np.sort(values)[:count].mean())


def _over_seeds(values: Array, statistic: Any) -> float:
    """Return the mean over seeds of a statistic of each seed's clients."""
    return float(np.mean([statistic(row[np.isfinite(row)]) for row in values]))
