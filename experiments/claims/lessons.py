"""The lessons: what each mechanism adds to the plain mean, on the weights that it was run with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.claims.shared import (
    Row,
    against,
    federation,
    gain,
    marked,
    mean_of,
    read,
)
from experiments.results import SHORT, TESTS, Run, RunGroup, comparisons
from fedfuse.compare import Comparison, corrected

BASE = "mean"
"""The method that every mechanism stands on."""

BESIDE = {
    "accuracy_absent": "absent classes",
    "ece_own": "calibration error, own",
    "ece_global": "calibration error, balanced",
}
"""Metrics that are told beside the tests, and their names for a reader."""


class Lesson(NamedTuple):
    """A mechanism in a federation.

    Args:
        federation: The federation.
        weights: What scored its sources.
        method: The method's name.
        gains: Per test its gain over local training, as one reads it.
        over: Per test its comparison with the base; None for the base itself.
        beside: Per metric of :data:`BESIDE` the difference to the base, as one reads it.
    """

    federation: str
    weights: str
    method: str
    gains: Row
    over: dict[str, Comparison | None]
    beside: Row

    def named(self) -> list[tuple[str, Comparison | None]]:
        """Return its comparisons and what a reader calls them."""
        told = (self.federation, self.method, self.weights)
        what = ", ".join(part for part in told if part != "-")
        return [(f"{what}, {SHORT[test]}", one) for test, one in self.over.items()]


def lessons(*folders: Path) -> Iterator[Row]:
    """Yield each mechanism's gain over local training, and what it adds to the mean.

    The mean is the first one of the same federation with the same scorer; where none was run with
    it (the mechanism is a scorer), the first of all.
    """
    yield (
        *("federation", "weights", "method"),
        *(f"{SHORT[test]}: local, gain [95%], +/−" for test in TESTS),
        *(f"{SHORT[test]}: over {BASE}" for test in TESTS),
        *(f"{name}: over {BASE}" for name in BESIDE.values()),
    )
    found = [one for run_group in read(*folders) for one in _lessons_of(run_group)]
    page = [one for lesson in found for one in lesson.named()]
    bold = marked(page)
    for lesson in found:
        yield (*lesson[:3], *lesson.gains, *map(bold, lesson.over.values()), *lesson.beside)
    yield (f"Bold: certain. {corrected(page)}",)
    yield from _by_method(found, bold)


def _lessons_of(run_group: RunGroup) -> Iterator[Lesson]:
    """Yield a federation's mechanisms, those on one kind of weights together, the base first."""
    compared = {test: comparisons(run_group, test) for test in TESTS}
    bases = [runs for runs in run_group.methods.values() if runs[0].method == BASE]
    named = [name for name in run_group.methods if name in compared["accuracy_own"]]
    order = [_scorer(runs[0]) for runs in bases]
    for name in sorted(named, key=lambda name: _place(run_group.methods[name][0], order)):
        runs = run_group.methods[name]
        same = [base for base in bases if base[0].config["scorer"] == runs[0].config["scorer"]]
        base: Sequence[Run] = (same or bases or [()])[0]
        other = () if base is runs else base
        yield Lesson(
            federation(run_group),
            _scorer(runs[0]),
            _without_scorer(name, runs[0].method),
            [gain(compared[test].get(name)) for test in TESTS],
            {test: against(runs, other, test) for test in TESTS},
            [_change(runs, other, metric) for metric in BESIDE],
        )


def _place(run: Run, order: Sequence[str]) -> tuple[int, bool]:
    """Return where a run's method stands: after its weights' base."""
    scorer = _scorer(run)
    return (order.index(scorer) if scorer in order else len(order)), run.method != BASE


def _without_scorer(name: str, method: str) -> str:
    """Return a method's name with what else tells it apart; its weights have their own column.

    >>> _without_scorer("mean (scorer knfu, rule dempster)", "mean")
    'mean (rule dempster)'
    >>> _without_scorer("mean (scorer knfu, scorer.temperature 2)", "mean")
    'mean (scorer.temperature 2)'
    """
    words = name[len(method) + 2 : -1].split(", ") if name != method else []
    rest = ", ".join(word for word in words if not word.startswith("scorer "))
    return f"{method} ({rest})" if rest else method


def _scorer(run: Run) -> str:
    """Return the name of what scored a run's sources."""
    return str(run.config["scorer"].get("_target_", "-")).rsplit(".", 1)[-1].lower()


def _change(ours: Sequence[Run], theirs: Sequence[Run], metric: str) -> str:
    """Return by how many points a metric of the last round differs, on the seeds of both."""
    others = {run.seed: run.arm.last(metric) for run in theirs}
    return mean_of(
        [
            mine - other
            for run in ours
            if (mine := run.arm.last(metric)) is not None
            and (other := others.get(run.seed)) is not None
        ]
    )


def _by_method(found: Sequence[Lesson], bold: Callable[[Comparison | None], str]) -> Iterator[Row]:
    """Yield what each mechanism adds, a row for all federations."""
    places = list(dict.fromkeys(one.federation for one in found))
    yield (
        *("weights", "method"),
        *(
            f"{SHORT[test]}{'' if place == '-' else f', {place}'}: over {BASE}"
            for test in TESTS
            for place in places
        ),
    )
    cells = {(one.weights, one.method, one.federation): one.over for one in found}
    for weights, method in dict.fromkeys((one.weights, one.method) for one in found):
        over = [cells.get((weights, method, place), {}) for place in places]
        row = [one.get(test) for test in TESTS for one in over]
        if any(row):
            yield (weights, method, *map(bold, row))
