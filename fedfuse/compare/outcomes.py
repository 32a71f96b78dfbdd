"""Which clients gained and which lost, beyond what the size of their test sets can fake."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

HELPED, UNDECIDED, HARMED = 1, 0, -1
"""What became of a client."""

ENOUGH = 50
"""Test samples below which nothing is said of a client: with so many, an accuracy of 0.9 still has
a standard error of 4 points."""


def outcomes(
    method: npt.NDArray[Any],
    baseline: npt.NDArray[Any],
    test_sizes: npt.NDArray[Any] | None,
    level: float = 0.95,
) -> npt.NDArray[np.int8]:
    """Return for each client whether it was helped, harmed, or neither for certain.

    An accuracy p on n samples has the standard error sqrt(p (1 - p) / n). The two accuracies of a
    client are taken as independent; they are of the same samples and agree on most, so the true
    error of their difference is smaller and the decision is cautious. p is shrunk by one success
    and one failure (Agresti and Caffo, 2000), or a client that is right on all of few samples
    would have no error at all. A test of fewer than :data:`ENOUGH` samples decides nothing.

    Args:
        method: Accuracies [...], 0 to 1, NaN where unknown.
        baseline: The same of the baseline.
        test_sizes: Test samples behind each accuracy [...]; None leaves everybody undecided.
        level: Two-sided confidence of each client's decision, taken for itself: among many
            clients without any difference about 1 - level would be called one way or the other.

    >>> outcomes(np.array([0.9, 0.9, 0.5]), np.array([0.8, 0.89, 0.7]), np.array([500, 500, 500]))
    array([ 1,  0, -1], dtype=int8)
    """
    method = np.asarray(method, dtype=np.float64)
    baseline = np.asarray(baseline, dtype=np.float64)
    decided = np.zeros(method.shape, dtype=np.int8)
    if test_sizes is None:
        return decided
    sizes = np.asarray(test_sizes, dtype=np.float64)
    enough = sizes >= ENOUGH
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = _variance(method, sizes) + _variance(baseline, sizes)
        away = (method - baseline) / np.sqrt(variance)
        critical = NormalDist().inv_cdf((1 + level) / 2)
        decided[enough & (away > critical)] = HELPED
        decided[enough & (away < -critical)] = HARMED
    return decided


def _variance(accuracy: npt.NDArray[Any], sizes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    shrunk = (accuracy * sizes + 1) / (sizes + 2)
    return np.asarray(shrunk * (1 - shrunk) / sizes)
