"""A confidence interval for a mean gain over seeds and the clients within them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.errors import require

Array = npt.NDArray[Any]
NOISE = 1e-9
"""Sums of floats that should be 0 stay below; one answer of a billion tests is more."""
BLOCK = 2**22
"""Numbers drawn at a time, so that memory stays bounded whatever the sizes."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval.

    Args:
        low: Its lower end.
        high: Its upper end.
        level: How often intervals made this way hold the true mean, 0 to 1.
    """

    low: float
    high: float
    level: float

    @property
    def excludes_zero(self) -> bool:
        """Return whether a mean of 0 lies outside."""
        return self.low > NOISE or self.high < -NOISE


def bootstrap(
    gains: Array, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> Interval | None:
    """Return an interval for the mean gain; None where there is only one seed to learn from.

    Clients of one seed share their public set, initial weights and data set, so they are no
    independent witnesses; seeds are. The interval's shape comes from a two-level bootstrap: each
    draw takes S seeds with replacement, and K clients with replacement within each. Its width
    does not: such draws count the clients' spread twice (Davison and Hinkley, 1997, section 3.8)
    and know nothing of Student's t. They are stretched about their mean until their standard
    deviation is the standard error over the S seeds, times t / z. With two seeds t / z is 6.5,
    with three 2.2, with ten 1.2: few seeds say little, and the interval says so.

    Args:
        gains: float [S, K], one row per seed; NaN where a client has no gain.
        level: The confidence, above 0 and below 1.
        draws: Bootstrap draws.
        seed: Of the draws; equal inputs give equal intervals.

    >>> bootstrap(np.array([[0.1, 0.2, 0.3]])) is None
    True
    >>> bootstrap(np.array([[0.1, 0.1], [0.1, 0.1]])).low.__round__(3)
    0.1
    """
    require(0 < level < 1, "bootstrap", "level", level, "a number above 0 and below 1")
    require(draws >= 100, "bootstrap", "draws", draws, "an integer of at least 100")
    gains = np.asarray(gains, dtype=np.float64)
    rows = [kept for row in gains if len(kept := row[np.isfinite(row)])]
    if len(rows) < 2:
        return None
    means = _draw([_sums(row, draws, seed, i) for i, row in enumerate(rows)], draws, seed)
    centre = float(np.mean([row.mean() for row in rows]))
    num_seeds = len(rows)
    error = float(np.std([row.mean() for row in rows], ddof=1)) / math.sqrt(num_seeds)
    spread = float(means.std())
    wide = student_t(num_seeds - 1, level) / _z(level)
    stretch = wide * error / spread if spread > 0 else 0.0
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        centre + stretch * float(low - centre), centre + stretch * float(high - centre), level
    )


def p_value(gains: Array) -> float | None:
    """Return the two-sided p-value of a mean gain of 0; None where there is only one seed.

    Of Student's t over the seeds' means, whose standard error and degrees of freedom also give the
    width of :func:`bootstrap`'s interval. That one's shape comes from draws, so at the edge of
    significance the two may differ by a little.

    Args:
        gains: float [S, K], one row per seed; NaN where a client has no gain.

    >>> round(p_value(np.array([[1.0], [2.0], [3.0]])), 4)
    0.0742
    """
    means = [kept.mean() for row in np.asarray(gains) if len(kept := row[np.isfinite(row)])]
    if len(means) < 2:
        return None
    centre, error = abs(float(np.mean(means))), float(np.std(means, ddof=1)) / math.sqrt(len(means))
    if centre <= NOISE:
        return 1.0
    # Equal gains of all seeds have no error, and no doubt.
    return max(0.0, 1.0 - _mass(centre / error, len(means) - 1)) if error > 0 else 0.0


def _sums(row: Array, draws: int, seed: int, index: int) -> Array:
    """Return the means of ``draws`` resamples of one seed's clients, [draws]."""
    rng = np.random.default_rng([seed, index])
    step = max(1, BLOCK // len(row))
    parts = []
    for begin in range(0, draws, step):
        chosen = rng.integers(len(row), size=(min(step, draws - begin), len(row)))
        parts.append(row[chosen].mean(axis=1))
    return np.concatenate(parts)


def _draw(resampled: list[Array], draws: int, seed: int) -> Array:
    """Return the mean over S seeds drawn with replacement, each with clients of its own draw."""
    table = np.stack(resampled)
    rng = np.random.default_rng([seed, len(resampled), draws])
    chosen = rng.integers(len(table), size=(draws, len(table)))
    # A seed drawn twice brings two draws of its clients, not one draw twice.
    other = rng.integers(draws, size=(draws, len(table)))
    return np.asarray(table[chosen, other].mean(axis=1))


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)


def student_t(df: int, level: float) -> float:
    """Return Student's t that ``level`` of the two-sided mass lies within.

    The distribution's mass from -t to t has a closed form for whole ``df`` (a finite sum in
    ``theta = atan(t / sqrt(df))``; Abramowitz and Stegun, 26.7.3 and 26.7.4), inverted by halving.

    >>> round(student_t(1, 0.95), 3), round(student_t(4, 0.95), 3), round(student_t(29, 0.95), 3)
    (12.706, 2.776, 2.045)
    """
    low, high = 0.0, 1.0
    while _mass(high, df) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _mass(middle, df) < level else (low, middle)
    return high


def _mass(t: float, df: int) -> float:
    """Return the probability that Student's t with ``df`` lies within ±t."""
    theta = math.atan(t / math.sqrt(df))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = df % 2 == 1
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    # Odd: sin * (cos + 2/3 cos^3 + 2*4/(3*5) cos^5 ...); even: sin * (1 + 1/2 cos^2 + ...).
    for i in range(2 if odd else 1, df - 1, 2):
        term *= cosine**2 * i / (i + 1)
        total += term
    if odd:
        return 2 / math.pi * (theta + (sine * total if df > 1 else 0.0))
    return sine * total
