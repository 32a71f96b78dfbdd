"""What a curve of accuracies by round says: how soon it was high, and what was lost again."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def area(accuracy: Array) -> Array:
    """Return the area under a curve: the mean over the rounds that were tested.

    After the "forward transfer" of LIBERO (Liu et al. 2023, https://arxiv.org/abs/2306.03310).

    Args:
        accuracy: [R, ...], NaN where a round was not tested.

    >>> area(np.array([0.2, 0.6, 0.8])).round(6).tolist()
    0.533333
    """
    return _mean(accuracy)


def backward_loss(accuracy: Array) -> Array:
    """Return what was known and is not: the mean over later rounds of (best so far - now).

    Per class it tells forgetting from what another class gained meanwhile. After the "negative
    backward transfer" of LIBERO; the form per class is ours.

    Args:
        accuracy: [R, ...], NaN where a round was not tested; with fewer than two rounds the result
            is NaN.

    >>> backward_loss(np.array([0.9, 0.7, 0.8])).round(6).tolist()
    0.15
    """
    known = np.asarray(accuracy, dtype=np.float64)
    best = np.fmax.accumulate(known, axis=0)  # NaN only before the first tested round
    before = np.full_like(known, np.nan)
    before[1:] = best[:-1]
    return _mean(np.where(np.isfinite(before), best - known, np.nan))


def backward_transfer(accuracy: Array) -> Array:
    """Return the last accuracy minus the first one.

    Lopez-Paz and Ranzato 2017 (https://arxiv.org/abs/1706.08840), of one curve.

    Args:
        accuracy: [R, ...], NaN where a round was not tested.

    >>> backward_transfer(np.array([0.8, 0.7])).round(6).tolist()
    -0.1
    """
    known = np.asarray(accuracy, dtype=np.float64)
    there = np.isfinite(known)
    first = np.argmax(there, axis=0)
    last = len(known) - 1 - np.argmax(there[::-1], axis=0)
    ends = (np.take_along_axis(known, at[None], axis=0)[0] for at in (last, first))
    return np.asarray(next(ends) - next(ends))


def _mean(values: Array) -> Array:
    """Return the mean over the first axis of what is there; NaN where nothing is."""
    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(axis=0)
    return np.asarray(np.where(there.any(axis=0), total, np.nan) / np.maximum(there.sum(axis=0), 1))
