"""What a plugged-in part says about itself, whether it is a class, a function or a partial of one.

The configuration binds a function to its options with ``functools.partial``, which hides the
function's own attributes and name; looking through it lets ``my_rule.space = Space.LOGITS`` work.
"""

from __future__ import annotations

import functools
from typing import TypeVar

T = TypeVar("T")


def declared(part: object, name: str, default: T) -> T:
    """Return the attribute ``name`` of the part, or ``default`` if it declares none.

    >>> def scorer(bank, labels): ...
    >>> scorer.needs_labels = True
    >>> declared(functools.partial(scorer), "needs_labels", False)
    True
    """
    while isinstance(part, functools.partial) and not hasattr(part, name):
        part = part.func
    value: T = getattr(part, name, default)
    return value


def part_name(part: object) -> str:
    """Return the part's name as its author knows it.

    >>> part_name(functools.partial(max, 3)), part_name(object())
    ('max', 'object')
    """
    while isinstance(part, functools.partial):
        part = part.func
    return str(getattr(part, "__name__", type(part).__name__))
