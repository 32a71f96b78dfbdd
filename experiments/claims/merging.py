"""Merging: what merged models are worth to the clients they were made of, and to others.

The protocol of the model-merging study (arXiv 2410.03617) on clients: *held in* are those that take
part (``participation=held_in``), *held out* those that never do and get what was merged. Accuracies
are shares of what the same client reaches alone, with as many steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.claims.shared import Array, Row, federation, marked, mean_of, read
from experiments.results import SHORT, TESTS, Run, RunGroup
from fedfuse.compare import Comparison, compare, corrected

BASE = "fedavg"
"""The method that every merge is compared with."""

SIDES: dict[str, Callable[[int], slice]] = {
    "held in": lambda clients: slice(0, clients),
    "held out": lambda clients: slice(clients, None),
}
"""Clients that take part, and those that never do, by how many take part: the first ids."""

PLACES = [(side, test) for side in SIDES for test in TESTS]


class Worth(NamedTuple):
    """A method's clients of one side on one test.

    Args:
        local: Their mean accuracy alone, as one reads it.
        share: Their accuracy as a share of it, as one reads it.
        over: The difference of that share to the base's; None for the base itself.
    """

    local: str
    share: str
    over: Comparison | None


def merging(*folders: Path) -> Iterator[Row]:
    """Yield shares of local accuracy by method, held in and held out; then those over FedAvg's."""
    found = {
        (federation(run_group), name): [
            _worth(runs, _bases(run_group), side, test) for side, test in PLACES
        ]
        for run_group in read(*folders)
        for name, runs in run_group.contenders.items()
    }
    page = [
        (f"{', '.join(part for part in where if part != '-')}, {side}, {SHORT[test]}", one.over)
        for where, worths in found.items()
        for (side, test), one in zip(PLACES, worths, strict=True)
    ]
    bold = marked(page)
    yield ("federation", "method", *(f"{side}, {SHORT[test]}" for side, test in PLACES))
    seen = None
    for (place, method), worths in found.items():
        if place != seen:
            yield (place, "alone", *(one.local for one in worths))
        seen = place
        yield (place, method, *(one.share for one in worths))
    yield (
        "alone: accuracy of local training in %; below it: in % of what the same client has alone",
    )
    yield ("federation", f"over {BASE}", *(f"{side}, {SHORT[test]}" for side, test in PLACES))
    for (place, method), worths in found.items():
        if any(one.over for one in worths):
            yield (place, method, *(bold(one.over) for one in worths))
    yield (f"Differences of these shares, in points. Bold: certain. {corrected(page)}",)


def _bases(run_group: RunGroup) -> Sequence[Run]:
    """Return the runs of the base."""
    return next((runs for runs in run_group.methods.values() if runs[0].method == BASE), ())


def _worth(runs: Sequence[Run], bases: Sequence[Run], side: str, test: str) -> Worth:
    """Return what a method's clients of a side reach, beside alone and beside the base's."""
    ours, theirs = ({run.seed: _shares(run, side, test) for run in some} for some in (runs, bases))
    local = [alone for alone, _ in ours.values() if alone.size]
    rows = [shares for _, shares in ours.values() if shares.size]
    both = [seed for seed in ours if seed in theirs and ours[seed][1].size and runs is not bases]
    return Worth(
        local=mean_of(local, sign=""),
        share=mean_of(rows, sign=""),
        over=compare(
            *(np.stack([side_[seed][1] for seed in both]) for side_ in (ours, theirs)),
            seeds=tuple(both),
        )
        if both
        else None,
    )


def _shares(run: Run, side: str, test: str) -> tuple[Array, Array]:
    """Return accuracies alone and the method's shares of them, of a side's clients; NaN for 0."""
    told = run.config["participation"].get("clients")
    clients = SIDES[side](int(run.config["num_clients"] if told is None else told))
    ours, alone = run.arm.last(test), None if run.baseline is None else run.baseline.last(test)
    if ours is None or alone is None:
        return np.zeros(0), np.zeros(0)
    ours, alone = ours[clients], alone[clients]
    return alone, np.divide(ours, alone, out=np.full(len(alone), np.nan), where=alone > 0)
