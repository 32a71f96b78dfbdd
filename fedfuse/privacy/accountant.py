"""How much noise a budget buys, and what noise costs: composition over a whole run.

Noise is counted in units of the sensitivity: a multiplier z means a scale of z times the largest
distance between two clipped vectors. The figures come from Google's dp-accounting
(https://github.com/google/differential-privacy), which the extra ``privacy`` installs.

* Gaussian: k releases with multiplier z are one release with z / sqrt(k); its (epsilon, delta) is
  the exact one of Balle and Wang 2018 (https://arxiv.org/abs/1805.06530, theorem 8).
* Laplace: the smaller of k / z (pure composition) and the bound by Renyi divergences.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

from fedfuse.errors import ConfigError

_STEPS = 60


def gaussian_epsilon(multiplier: float, num_queries: int, delta: float) -> float:
    """Return the epsilon of ``num_queries`` Gaussian releases at ``delta``."""
    once = multiplier / math.sqrt(num_queries)
    return float(_library("gaussian_mechanism").get_epsilon_gaussian(once, delta))


def gaussian_multiplier(epsilon: float, num_queries: int, delta: float) -> float:
    """Return the least multiplier at which ``num_queries`` releases cost at most ``epsilon``."""
    once = float(_library("gaussian_mechanism").get_sigma_gaussian(epsilon, delta))
    return once * math.sqrt(num_queries)


def laplace_epsilon(multiplier: float, num_queries: int, delta: float) -> float:
    """Return an epsilon of ``num_queries`` Laplace releases at ``delta``; 0 composes purely."""
    pure = num_queries / multiplier
    if delta == 0:
        return pure
    event = _library("dp_event")
    accountant = _library("rdp").RdpAccountant()
    once = event.LaplaceDpEvent(multiplier)
    accountant.compose(event.SelfComposedDpEvent(once, num_queries))
    return min(pure, float(accountant.get_epsilon(delta)))


def laplace_multiplier(epsilon: float, num_queries: int, delta: float) -> float:
    """Return a multiplier, close to the least, at which the releases cost at most ``epsilon``."""
    enough = num_queries / epsilon  # by pure composition
    if delta == 0:
        return enough
    too_little = enough / num_queries / 2  # one release alone would cost twice the budget
    for _ in range(_STEPS):
        middle = math.sqrt(too_little * enough)
        if laplace_epsilon(middle, num_queries, delta) <= epsilon:
            enough = middle
        else:
            too_little = middle
    return enough


def _library(module: str) -> Any:
    """Import a part of dp-accounting, which runs without a budget never need."""
    try:
        return importlib.import_module(f"dp_accounting.{module}")
    except ImportError as error:
        raise ConfigError(
            "This privacy mechanism needs an accountant, and dp-accounting is not installed",
            got=str(error),
            next_step="Run: pip install -c constraints.txt -e '.[privacy]'",
        ) from error
