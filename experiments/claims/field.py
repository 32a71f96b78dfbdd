"""The table: every method on every data set, a line each, and where it ranks over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.shared import Array, Row, federation, kilobytes, marked, read
from experiments.results import SHORT, TESTS, Run, RunGroup, comparisons
from fedfuse.compare import LOCAL, Comparison, compare, corrected, signed

Gains = Mapping[tuple[str, str, str], Comparison]
"""A gain over local training by method, federation and test set."""

BOTH = " / ".join(SHORT[test] for test in TESTS)


def field(*folders: Path) -> Iterator[Row]:
    """Yield each method's mean gains over local training by federation, best mean rank first.

    A method's rank is its place by the mean gain among the methods of a federation, 1 the best and
    equal ones at their mean; the mean of it is over the federations where the method was run.
    """
    groups = read(*folders)
    places = _places(groups)
    found = {
        (method, place, test): one
        for place, run_group in zip(places, groups, strict=True)
        for test in TESTS
        for method, one in comparisons(run_group, test).items()
    }
    # What was tested one way only, as local training whose prior is put right afterwards, has no
    # place among those that were tested both ways.
    gains: Gains = {
        (method, place, test): one
        for (method, place, test), one in found.items()
        if all((method, place, other) in found for other in TESTS)
    }
    sent: dict[str, list[float]] = {}
    for run_group in groups:
        for method, runs in run_group.methods.items():
            sent.setdefault(method, []).extend(map(_traffic, runs))
    ranks = {test: mean_ranks(gains, test) for test in TESTS}
    methods = sorted(
        dict.fromkeys(method for method, *_ in gains),
        key=lambda method: sum(ranks[test].get(method, len(gains)) for test in TESTS),
    )
    overall = {(m, test): over_all(gains, m, test) for m in methods for test in TESTS}
    page: list[tuple[str, Comparison | None]] = [
        (f"{m} on {place}, {SHORT[test]}", one) for (m, place, test), one in gains.items()
    ]
    page += [(f"{m} on all, {SHORT[test]}", one) for (m, test), one in overall.items()]
    bold = marked(page)

    def short(one: Comparison | None) -> str:
        if one is None:
            return "-"
        return f"**{signed(one.mean)}**" if bold(one).startswith("**") else signed(one.mean)

    yield (
        *("method", "kB a client and round"),
        *(f"{place}: {BOTH}" for place in dict.fromkeys(places)),
        f"mean rank: {BOTH}",
        *(f"all of them, {SHORT[test]} [95%]" for test in TESTS),
    )
    yield (LOCAL, "-", *(_alone(gains, place) for place in dict.fromkeys(places)), "-", "-", "-")
    for method in methods:
        yield (
            *(method, _short(sent.get(method))),
            *(
                " / ".join(short(gains.get((method, place, test))) for test in TESTS)
                for place in dict.fromkeys(places)
            ),
            " / ".join(f"{ranks[test][method]:.1f}" for test in TESTS if method in ranks[test]),
            *(bold(overall[method, test]) for test in TESTS),
        )
    yield (
        f"{LOCAL}: accuracy in %; below it: a method's gain in points over its own run's, with "
        f"as many steps. Bold: certain. "
        f"{corrected(page)}",
    )


def over_all(gains: Gains, method: str, test: str) -> Comparison | None:
    """Return a method's gain over all federations; its units are federations times seeds.

    The interval is of these federations: it says nothing of a data set that is not among them.
    None where the method was run on fewer than two.
    """
    found = [one for (m, _, t), one in gains.items() if (m, t) == (method, test) and one.speaks]
    if len(found) < 2:
        return None
    rows: list[Array] = [row for one in found for row in one.gains]
    padded = np.full((len(rows), max(map(len, rows))), np.nan)
    for line, row in zip(padded, rows, strict=True):
        line[: len(row)] = row
    return compare(padded, np.zeros_like(padded), seeds=tuple(range(len(rows))))


def mean_ranks(gains: Gains, test: str) -> dict[str, float]:
    """Return each method's rank by its mean gain, over the federations where it was run."""
    found: dict[str, list[float]] = {}
    for place in {place for _, place, _ in gains}:
        means = {m: one.mean for (m, *where), one in gains.items() if where == [place, test]}
        for method, mean in means.items():
            better = sum(other > mean for other in means.values())
            level = sum(other == mean for other in means.values())
            found.setdefault(method, []).append(better + (level + 1) / 2)
    return {method: float(np.mean(own)) for method, own in found.items()}


def _alone(gains: Gains, place: str) -> str:
    """Return what local training reaches on both tests, in the federation of the most methods."""
    return " / ".join(
        f"{100 * Counter(own).most_common(1)[0][0]:.1f}"
        for test in TESTS
        if (own := [gains[cell].baseline_mean for cell in gains if cell[1:] == (place, test)])
    )


def _places(run_groups: Sequence[RunGroup]) -> list[str]:
    """Return each federation's data set, or what else tells it apart where that does not.

    Some methods bring their own public set or read a part of it, which makes theirs a federation
    of its own, on the same clients: that is one place as long as no method is there twice.
    """
    places = [str(next(iter(g.methods.values()))[0].summary["dataset"]) for g in run_groups]
    entries = [(p, m) for p, g in zip(places, run_groups, strict=True) for m in g.methods]
    return places if len(set(entries)) == len(entries) else [federation(g) for g in run_groups]


def _traffic(run: Run) -> float:
    return sum(kilobytes(run, way) for way in ("up", "down"))


def _short(sizes: Sequence[float] | None) -> str:
    """Return a mean with two digits, or all that are before the point."""
    if sizes is None:
        return "-"
    mean = float(np.mean(sizes))
    return f"{mean:,.0f}" if mean >= 10 else f"{mean:.2g}"
