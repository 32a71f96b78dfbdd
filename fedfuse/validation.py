"""The checks that a part makes on its hyperparameters when it is built.

A bool is no number here and NaN lies in no range, so ``temperature=true`` or ``beta=nan`` in a
configuration fails where it was written and not a thousand steps later.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real

from fedfuse.errors import ParameterError, did_you_mean, require


def require_number(
    owner: str,
    name: str,
    got: object,
    *,
    above: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise :class:`ParameterError` unless ``got`` is a finite number in the range.

    >>> require_number("KnFu", "beta", 10, at_least=0)
    >>> require_number("KnFu", "beta", True, at_least=0)
    Traceback (most recent call last):
    ...
    fedfuse.errors.ParameterError: The 'beta' parameter of KnFu is not valid: got True, \
allowed: a finite number at least 0.
    """
    limits = [
        f"{words} {bound:g}"
        for words, bound in (
            ("above", above),
            ("at least", at_least),
            ("at most", at_most),
            ("below", below),
        )
        if bound is not None
    ]
    allowed = f"a finite number {' and '.join(limits)}".rstrip()
    ok = (
        isinstance(got, Real)
        and not isinstance(got, bool)
        and _finite(got)
        and (above is None or float(got) > above)
        and (at_least is None or float(got) >= at_least)
        and (at_most is None or float(got) <= at_most)
        and (below is None or float(got) < below)
    )
    require(ok, owner, name, got, allowed)


def _finite(number: Real) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer beyond all floats
        return False


def require_count(owner: str, name: str, got: object, *, at_least: int = 1) -> None:
    """Raise :class:`ParameterError` unless ``got`` is an integer of at least ``at_least``."""
    ok = isinstance(got, Integral) and not isinstance(got, bool) and int(got) >= at_least
    require(ok, owner, name, got, f"an integer of at least {at_least}")


def require_flag(owner: str, name: str, got: object) -> None:
    """Raise :class:`ParameterError` unless ``got`` is True or False."""
    require(isinstance(got, bool), owner, name, got, "true or false")


def require_one_of(owner: str, name: str, got: object, options: Iterable[str]) -> None:
    """Raise :class:`ParameterError`, with the nearest option, unless ``got`` is one of them."""
    known = list(options)
    if isinstance(got, str) and got in known:
        return
    guess = did_you_mean(got, known) if isinstance(got, str) else None
    raise ParameterError(
        owner,
        name,
        got,
        f"one of {', '.join(known)}",
        next_step=f"Did you mean '{guess}'?" if guess else None,
    )
