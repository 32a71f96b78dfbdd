"""Which test samples change sides: wrong before and right now, or right before and wrong now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Flips:
    """Prediction flips of a method against its baseline, on the same test samples.

    A gain of a point may be one sample in a hundred won, or eleven won and ten lost. The first
    rate minus the second is the gain in accuracy. The negative one is the negative flip rate of
    Yan et al. 2021 (https://arxiv.org/abs/2011.09161).

    Args:
        positive: Per seed and client [S, K] the share of its test samples that it gets wrong with
            the baseline and right with the method; NaN where either is unknown.
        negative: The share that it gets right with the baseline and wrong with the method.
    """

    positive: Array
    negative: Array

    @property
    def newly_right(self) -> float:
        """Return the mean positive flip rate: over seeds, of the mean over clients."""
        return _mean(self.positive)

    @property
    def newly_wrong(self) -> float:
        """Return the mean negative flip rate."""
        return _mean(self.negative)

    @property
    def fuar(self) -> float:
        """Return the mean of :func:`fuar` over clients that won something; NaN if none did."""
        return _mean(fuar(self.positive, self.negative))


def flips(method: Bits, baseline: Bits, sizes: Array) -> tuple[Array, Array]:
    """Return the positive and the negative flip rate of each client, [K] each.

    Args:
        method: uint8 [K, bytes], a bit per test sample (``np.packbits``), 1 where the client is
            right with the method; zeros behind the last sample.
        baseline: The same of the baseline, of the same samples in the same order.
        sizes: Test samples of each client [K]; the rates of one without any are NaN.

    >>> ours, theirs = np.packbits([[1, 1, 0, 0]], axis=1), np.packbits([[0, 1, 1, 0]], axis=1)
    >>> flips(ours, theirs, np.array([4]))
    (array([0.25]), array([0.25]))
    """
    width = max(method.shape[1], baseline.shape[1])
    ours, theirs = (_wide(bits, width) for bits in (method, baseline))
    known = np.where(np.asarray(sizes) > 0, sizes, np.nan)
    changed: tuple[Bits, Bits] = (ours & ~theirs, theirs & ~ours)
    there = np.arange(8 * width) < np.asarray(sizes)[:, None]  # a client's word ends with its tests
    positive, negative = (
        (np.unpackbits(bits, axis=1) * there).sum(axis=1) / known for bits in changed
    )
    return positive, negative


def fuar(positive: Array, negative: Array) -> Array:
    """Return how much is lost for what is won: forgotten / (updated + acquired).

    Jang et al. 2022 (https://arxiv.org/abs/2110.03215) compare forgotten with new knowledge so; 1
    is as much lost as won. That knowledge is right answers to test samples is ours.

    Args:
        positive: Positive flip rates, of any shape.
        negative: Negative flip rates.

    Returns:
        A ratio for each; infinite where nothing was won, NaN where nothing changed either.

    >>> fuar(np.array([0.05, 0.0, 0.0]), np.array([0.02, 0.1, 0.0])).round(6).tolist()
    [0.4, inf, nan]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(negative, positive))


def _wide(bits: Bits, width: int) -> Bits:
    return np.pad(bits, ((0, 0), (0, width - bits.shape[1])))


def _mean(rates: Array) -> float:
    rows = [row[np.isfinite(row)] for row in rates]
    means = [row.mean() for row in rows if len(row)]
    return float(np.mean(means)) if means else float("nan")
