"""What ``make test`` leaves out and ``make test-all`` runs: nothing that is tested only there.

Two ways to say it:

* ``@pytest.mark.thinned`` on a parametrised test: of the product of its parameters as many cases
  run as let every value of every parameter occur. ``@pytest.mark.thinned(keep=5)``: five cases,
  spread over all of them, the first and the last among them.
* ``few(3, of=10)`` for a count within a test: 3, or 10 where everything runs.

Which cases remain depends on nothing but the list of cases. ``pytest --all`` runs everything, and
so does naming a test (``pytest tests/x.py::test_y``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

Case = TypeVar("Case")

whole = False
"""Whether everything runs; tests/conftest.py sets it before any test file is read."""


def few(number: int, *, of: int) -> int:
    """Return how often to do what is done ``of`` times where everything runs.

    >>> few(3, of=10)
    3
    """
    return of if whole else number


def spread(cases: Sequence[Case], keep: int) -> list[Case]:
    """Return ``keep`` cases at equal distances, the first and the last among them.

    >>> spread("abcdefghi", 3), spread("ab", 3), spread("abc", 1)
    (['a', 'e', 'i'], ['a', 'b'], ['a'])
    """
    last = len(cases) - 1
    if keep > last:
        return list(cases)
    return [cases[round(at * last / max(keep - 1, 1))] for at in range(keep)]


def cover(cases: Mapping[Case, Iterable[tuple[str, str]]]) -> list[Case]:
    """Return few cases, in order, in which every (parameter, value) of all of them occurs.

    >>> cover({0: "ax", 1: "ay", 2: "bx", 3: "by"})
    [0, 3]
    >>> cover({0: "ax", 1: "bx", 2: "cx"})
    [0, 1, 2]
    """
    open_ = {case: set(values) for case, values in cases.items()}
    kept = set()
    while any(open_.values()):
        best = max(open_, key=lambda case: len(open_[case]))  # the first of several
        kept.add(best)
        covered = set(open_[best])
        for values in open_.values():
            values -= covered
    return [case for case in cases if case in kept]
