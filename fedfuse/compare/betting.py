"""Evidence that cannot be talked up: bets against "not better" that win money only where it is.

A test martingale starts with a wealth of 1 and bets on each new observation, at odds that are fair
if the null hypothesis holds. Then no strategy makes money in the mean, and the wealth reaches
1 / alpha with a probability of at most alpha, whenever one looks (Ville's inequality; Waudby-Smith
and Ramdas, 2024, https://arxiv.org/abs/2010.09686, sections 2 and 3). The wealth at any one time is
an *e-value*: non-negative, with a mean of at most 1 under the null. E-values of one null may be
averaged however they depend on each other; multiplied only if each is one given those before it.

What that asks of a federation. Samples of one validation set are new evidence once: asked again
in the next round, of models that have moved a little, they are the same evidence, and wealth that
goes on betting on them is no martingale. So a wealth here runs over the *samples* of one
comparison, not over rounds; rounds may be averaged (:func:`averaged`), and then the null is that
none of them is better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fedfuse.errors import ParameterError

Array = npt.NDArray[np.float64]

STAKES = np.arange(1, 20) / 20
"""What share of the wealth that it may lose a bet stakes: all of these side by side."""


def sign_wealth(wins: int, losses: int) -> float:
    """Return the wealth after so many discordant answers, an e-value against "no more often right".

    Under the null a discordant answer (one of two models is right) is the first model's with a
    probability of at most 1/2, whatever came before. Betting the share b of the wealth on it
    multiplies the wealth by 1 + b or 1 - b; all b from 0 to 1 side by side, each with the same part
    of the money, give in closed form::

        integral_0^1 (1 + b)^wins (1 - b)^losses db
          = B(wins + 1, losses + 1) sum_{k <= wins} C(n + 1, k),  n = wins + losses

    Their order does not matter.

    Args:
        wins: Answers that the first model has right and the second wrong.
        losses: The reverse.

    >>> sign_wealth(0, 0), round(sign_wealth(3, 0), 4), round(sign_wealth(2, 1), 4)
    (1.0, 3.75, 0.9167)
    """
    for name, value in (("wins", wins), ("losses", losses)):
        if value < 0:
            raise ParameterError("sign_wealth", name, value, "at least 0")
    n = wins + losses
    beta = math.lgamma(wins + 1) + math.lgamma(losses + 1) - math.lgamma(n + 2)
    k = range(wins + 1)
    terms = [math.lgamma(n + 2) - math.lgamma(i + 1) - math.lgamma(n + 2 - i) + beta for i in k]
    top = max(terms)
    total = top + math.log(math.fsum(math.exp(term - top) for term in terms))
    return math.exp(total) if total < 709 else math.inf


def mean_wealth(values: Array, null: float, low: float = -1.0, high: float = 1.0) -> Array:
    """Return the wealth after each value, a test martingale against "the mean is at most ``null``".

    The discrete form of Waudby-Smith and Ramdas (section 4): a bet that stakes the share b of what
    may be lost multiplies the wealth by ``1 + b (x - null) / (null - low)``, never below 0. The
    bets of :data:`STAKES` run side by side with equal parts of the money.

    Args:
        values: [n], each within ``low`` and ``high``; the mean of each given those before is at
            most ``null`` under the null hypothesis.
        null: The mean in question, above ``low`` and below ``high``.
        low: The least that a value can be.
        high: The most.

    >>> mean_wealth(np.array([1.0, 1.0, -1.0]), 0.0).round(4).tolist()
    [1.5, 2.325, 0.9375]
    """
    if not low < null < high:
        raise ParameterError("mean_wealth", "null", null, f"between {low} and {high}")
    values = np.asarray(values, dtype=np.float64)
    if ((values < low) | (values > high) | np.isnan(values)).any():
        raise ParameterError("mean_wealth", "values", values.tolist()[:5], f"{low} to {high}")
    gained = 1 + STAKES[:, None] * (values - null) / (null - low)  # [bets, n]
    return np.asarray(np.cumprod(gained, axis=1).mean(axis=0))


def averaged(wealths: Sequence[float]) -> float:
    """Return the mean of e-values, which is an e-value of their common null.

    However they depend on each other: the mean of means of at most 1 is at most 1. With different
    nulls (the models of different rounds) it is one of the null that all of them hold.
    """
    if not len(wealths):
        return 1.0
    return float(np.mean(np.asarray(wealths, dtype=np.float64)))
