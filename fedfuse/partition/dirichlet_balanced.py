"""Dirichlet label skew, convention (iv): label skew at equal client sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedfuse.partition.deal import deal, even_sizes
from fedfuse.partition.request import check_request, class_ids
from fedfuse.partition.simplex import log_dirichlet, log_normalise
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number

_ITERATIONS = 200
_DEPTH = 50.0  # below exp(-50) a share is nothing, but which nothing is larger still matters


def sinkhorn(
    logs: npt.NDArray[np.float64], rows: IntArray, columns: IntArray
) -> npt.NDArray[np.float64]:
    """Return the logarithm of ``exp(logs)`` [K, C] scaled towards the margins given.

    Scales columns and rows in turn (Sinkhorn and Knopp 1967) until the margins are met, at most a
    fixed number of times: where each row is nearly one-hot, exact scaling is out of reach. Shares
    that are practically 0 are compressed but keep their order, and with it the client's
    preferences.

    Args:
        logs: float64 [K, C], finite, at most 0.
        rows: int64 [K], positive.
        columns: int64 [C], positive, with the same sum.
    """
    deep = _DEPTH * np.log(np.maximum(-logs / _DEPTH, 1.0))
    logs = np.maximum(logs, -_DEPTH) - deep
    for _ in range(_ITERATIONS):
        logs = log_normalise(logs.T).T + np.log(columns)
        logs = log_normalise(logs) + np.log(rows)[:, None]
        if np.abs(np.exp(logs).sum(axis=0) - columns).max() < 0.01:
            break
    return logs


def round_to_margins(logs: npt.NDArray[np.float64], rows: IntArray, columns: IntArray) -> IntArray:
    """Return integers [K, C] near ``exp(logs)`` whose row and column sums are exact.

    Scales down what exceeds its margin, rounds down, adds one where the fraction lost was
    largest, and at last fills the cells as they come in descending order. Both margins have the
    same sum, so while a row misses something some column does too: it always works out.

    >>> logs = np.log([[1.5, 0.5], [0.5, 1.5]])
    >>> round_to_margins(logs, np.array([2, 2]), np.array([2, 2]))
    array([[2, 0],
           [0, 2]])
    """
    scaled = np.exp(logs)
    scaled *= np.minimum(1.0, rows / np.maximum(scaled.sum(axis=1), 1e-9))[:, None]
    scaled *= np.minimum(1.0, columns / np.maximum(scaled.sum(axis=0), 1e-9))
    # A whisker up, so that 2.9999999 counts as 3; never enough to exceed an integer margin.
    counts = np.floor(scaled + 1e-9).astype(np.int64)
    row_left = (rows - counts.sum(axis=1)).tolist()
    column_left = (columns - counts.sum(axis=0)).tolist()

    def fill(cells: IntArray, largest: int) -> None:
        for k, c in zip(
            *(axis.tolist() for axis in np.unravel_index(cells, logs.shape)), strict=True
        ):
            step = min(row_left[k], column_left[c], largest)
            counts[k, c] += step
            row_left[k] -= step
            column_left[c] -= step

    fraction = (scaled - counts).ravel()
    by_fraction = np.argsort(-fraction, kind="stable")
    fill(by_fraction[fraction[by_fraction] > 0.01], largest=1)
    fill(np.argsort(-logs, axis=None, kind="stable"), largest=int(rows.sum()))
    return counts


@dataclass(frozen=True, slots=True)
class DirichletBalanced:
    """Draw each client's classes from Dirichlet(alpha), then make all sizes equal within one.

    The doubly stochastic convention of CFD and FedAUX (our reading: rows drawn from the
    Dirichlet, then Sinkhorn scaling to equal row sums and to the class sizes). The scaling moves
    the priors, the more so the smaller alpha is.

    Args:
        alpha: Concentration, above 0: small is skewed.
        min_samples: Least number of samples per client; too many clients for it are refused.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = DirichletBalanced(alpha=0.1)(labels, 8, np.random.default_rng(0))
    >>> [len(part) for part in parts]
    [125, 125, 125, 125, 125, 125, 125, 125]
    """

    alpha: float = 0.5
    min_samples: int = 40

    def __post_init__(self) -> None:
        require_number("dirichlet_balanced", "alpha", self.alpha, above=0)
        require_count("dirichlet_balanced", "min_samples", self.min_samples)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        check_request("dirichlet_balanced", labels, num_clients, self.min_samples)
        classes, class_sizes = class_ids(labels)
        sizes = even_sizes(len(labels), num_clients)
        logs = log_dirichlet(self.alpha, num_clients, len(class_sizes), rng)
        plan = sinkhorn(logs, sizes, class_sizes)
        return deal(classes, round_to_margins(plan, sizes, class_sizes), rng)
