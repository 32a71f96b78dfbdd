"""Linear regression with a penalty, whose uncertainty comes from cases it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.errors import FedfuseError

Array = npt.NDArray[Any]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""The penalties that are tried, in units of one case's standardised features."""

MARGIN = 1.0
"""How many standard deviations beyond the range of a feature that was seen it may lie."""


@dataclass(frozen=True)
class Ridge:
    """A fitted regression ``y = intercept + weights . z``, ``z`` the standardised features.

    Args:
        names: The F features.
        centre: Their means over the cases, [F].
        scale: Their standard deviations, [F]; 1 for one that never varied.
        low: The least value of each that was seen, [F].
        high: The largest.
        intercept: The mean of y.
        weights: [F].
        covariance: Inverse of ``Z'Z + penalty I`` over the intercept and the features,
            [F+1, F+1]: what the coefficients' uncertainty is proportional to.
        sigma: The error of a forecast, from cases of groups that were left out.
        penalty: The penalty, chosen by them.
    """

    names: tuple[str, ...]
    centre: Array
    scale: Array
    low: Array
    high: Array
    intercept: float
    weights: Array
    covariance: Array
    sigma: float
    penalty: float

    def standardised(self, x: Array) -> Array:
        """Return features [N, F] in standard deviations from their mean."""
        return np.asarray((np.asarray(x, dtype=np.float64) - self.centre) / self.scale)

    def expect(self, x: Array) -> Array:
        """Return the expected y of features [N, F], [N]."""
        return np.asarray(self.intercept + self.standardised(x) @ self.weights)

    def error(self, x: Array) -> Array:
        """Return the standard deviation of y around its expectation, [N].

        It grows with the distance from the cases that were fitted.
        """
        return np.asarray(self.sigma * np.sqrt(1 + _leverage(self.standardised(x), self)))

    def shares(self, x: Array) -> Array:
        """Return what each feature adds to the expectation, [N, F]; with the intercept its sum."""
        return self.standardised(x) * self.weights

    def strange(self, x: Array) -> npt.NDArray[np.bool_]:
        """Return which features lie well outside of all that was seen, [N, F]."""
        x, room = np.asarray(x, dtype=np.float64), MARGIN * self.scale
        return np.asarray((x < self.low - room) | (x > self.high + room))


def fit_ridge(
    x: Array,
    y: Array,
    groups: Sequence[Any],
    names: Sequence[str],
    penalties: Sequence[float] = PENALTIES,
    units: Array | None = None,
) -> Ridge:
    """Fit a regression; its penalty and its error come from leaving out one group at a time.

    Cases of one group are no independent witnesses, so a group is left out as a whole. Of an error
    on a case left out, the part that is the coefficients' uncertainty is divided away, as
    :meth:`Ridge.error` multiplies it in.

    Args:
        x: Features [N, F], finite.
        y: What came of it, [N].
        groups: Whom a case belongs to, [N].
        names: Of the features.
        penalties: To choose from.
        units: In which the coefficients and the penalty are chosen, 1 in the geometric mean, so
            that cases in which all is larger do not decide for the others, [N]; the error is of y
            itself. None for 1.

    Raises:
        FedfuseError: If there is one group alone, or a number is not finite.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    kinds, where = np.unique([str(group) for group in groups], return_inverse=True)
    if len(kinds) < 2:
        raise FedfuseError("Of one group of cases none can be left out")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise FedfuseError("A feature or a gain to learn from is not a finite number")
    best: tuple[float, float, float] | None = None
    aim = y if units is None else y / units
    for penalty in penalties:
        squares = np.zeros(len(y))
        relative = np.zeros(len(y))
        for kind in range(len(kinds)):
            out = where == kind
            part = _solve(x[~out], aim[~out], names, penalty)
            expected = part.expect(x[out])
            squares[out] = (aim[out] - expected) ** 2
            room = 1 + _leverage(part.standardised(x[out]), part)
            relative[out] = (y[out] - expected) ** 2 / room
        if best is None or squares.mean() < best[0]:
            best = float(squares.mean()), penalty, float(np.sqrt(relative.mean()))
    assert best is not None
    _, penalty, sigma = best
    return _solve(x, aim, names, penalty, sigma)


def _solve(x: Array, y: Array, names: Sequence[str], penalty: float, sigma: float = 0.0) -> Ridge:
    """Return the coefficients for one penalty; the intercept pays none."""
    centre, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12, scale, 1.0)
    z = np.column_stack([np.ones(len(x)), (x - centre) / scale])
    paid = np.diag([0.0, *[penalty] * x.shape[1]])
    covariance = np.linalg.inv(z.T @ z + paid)
    found = covariance @ z.T @ y
    return Ridge(
        names=tuple(names),
        centre=centre,
        scale=scale,
        low=x.min(axis=0),
        high=x.max(axis=0),
        intercept=float(found[0]),
        weights=found[1:],
        covariance=covariance,
        sigma=sigma,
        penalty=penalty,
    )


def _leverage(z: Array, ridge: Ridge) -> Array:
    """Return each case's variance due to the coefficients, in units of ``sigma ** 2``, [N]."""
    ones = np.column_stack([np.ones(len(z)), z])
    return np.asarray(np.einsum("nf,fg,ng->n", ones, ridge.covariance, ones))
