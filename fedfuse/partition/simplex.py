"""Dirichlet draws that survive any concentration, in log space."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_TINY = 1e-100  # below it a Dirichlet draw is one-hot in any floating-point type anyway


def log_dirichlet(
    alpha: float, rows: int, columns: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the logarithms of ``rows`` symmetric Dirichlet draws, [rows, columns], all finite.

    A gamma variable with a shape far below 1 underflows to 0, and 0 / 0 is where other
    implementations get their NaN. Here its logarithm is drawn: if G has shape alpha + 1 and U is
    uniform, then G * U**(1 / alpha) has shape alpha.

    >>> shares = np.exp(log_dirichlet(1e-6, 3, 4, np.random.default_rng(0)))
    >>> shares.sum(axis=1).tolist(), shares.max(axis=1).tolist()
    ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0])
    """
    shape = max(alpha, _TINY)
    size = (rows, columns)
    logs = np.log(rng.standard_gamma(shape + 1, size)) - rng.standard_exponential(size) / shape
    return log_normalise(logs)


def log_normalise(logs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``logs`` [..., C] shifted so that their exponentials sum to 1 in the last axis."""
    shifted = logs - logs.max(axis=-1, keepdims=True)
    normalised: npt.NDArray[np.float64] = shifted - np.log(
        np.exp(shifted).sum(axis=-1, keepdims=True)
    )
    return normalised
