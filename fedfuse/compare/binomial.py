"""The binomial distribution, summed exactly: tails, Clopper-Pearson intervals."""

from __future__ import annotations

import math
from collections.abc import Callable

from fedfuse.compare.interval import Interval
from fedfuse.errors import ParameterError


def at_most(count: int, trials: int, probability: float) -> float:
    """Return P[Binomial(trials, probability) <= count], summed in float64.

    >>> round(at_most(1, 3, 0.5), 12), at_most(-1, 3, 0.5), at_most(3, 3, 0.2)
    (0.5, 0.0, 1.0)
    """
    if not 0 <= probability <= 1:
        raise ParameterError("at_most", "probability", probability, "0 to 1")
    if count < 0:
        return 0.0
    if count >= trials or probability == 0:
        return 1.0
    if probability == 1:
        return 0.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    whole = math.lgamma(trials + 1)
    return min(
        1.0,
        math.fsum(
            math.exp(
                whole
                - math.lgamma(k + 1)
                - math.lgamma(trials - k + 1)
                + k * log_p
                + (trials - k) * log_q
            )
            for k in range(count + 1)
        ),
    )


def clopper_pearson(count: int, trials: int, level: float = 0.95) -> Interval:
    """Return the exact two-sided interval of a share (Clopper and Pearson, 1934).

    Args:
        count: Successes, 0 to ``trials``.
        trials: At least 1.
        level: How often such intervals hold the true share, at least.

    >>> found = clopper_pearson(4, 200)
    >>> round(found.low, 4), round(found.high, 4)
    (0.0055, 0.0504)
    """
    if trials < 1 or not 0 <= count <= trials:
        raise ParameterError("clopper_pearson", "count", count, f"0 to {trials}, at least 1")
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else _root(lambda p: 1 - at_most(count - 1, trials, p) >= tail)
    high = 1.0 if count == trials else _root(lambda p: at_most(count, trials, p) <= tail)
    return Interval(low, high, level)


def _root(reached: Callable[[float], bool]) -> float:
    """Return where a condition begins to hold between 0 and 1, by halving."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
