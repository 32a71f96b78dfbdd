"""Which of several ways to train nothing else beats on everything that counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def pareto_front(points: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which points no other point dominates.

    One dominates another if it is at least as large everywhere and larger somewhere; equal points
    do not dominate each other. Nothing is said of certainty: these are means.

    Args:
        points: float [N, D], larger is better; one with a NaN is on no front and dominates none.

    Returns:
        bool [N].

    >>> pareto_front(np.array([[0, 0], [1, 3], [2, 1], [1, 1]])).tolist()
    [False, True, True, False]
    """
    points = np.asarray(points, dtype=np.float64)
    known = np.isfinite(points).all(axis=1)
    as_good = (points[:, None] >= points[None, :]).all(axis=2)
    better = (points[:, None] > points[None, :]).any(axis=2)
    dominated = (as_good & better & known[:, None]).any(axis=0)
    return np.asarray(known & ~dominated)
