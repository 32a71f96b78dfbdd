"""What models answered to the probes, and what they kept and lost of each class, as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from experiments.report.axes import points
from experiments.report.figure import Numbers
from experiments.report.table import Cell, Column, Table
from experiments.report.verdicts import interval_of, percent
from experiments.results import TESTS, Run, RunGroup
from experiments.results.arms import Arm, Array
from experiments.results.probed import asked, by_class, change
from fedfuse.compare import Comparison, area, backward_loss, backward_transfer, compare
from fedfuse.probes.by_class import OF_CLASS
from fedfuse.probes.protocol import is_share

FEDERATION = Column("federation", numeric=False, about="What tells this federation from the others")
_VALUES = (
    Column("local", about="Local training, mean over clients and seeds"),
    Column("method", about="The method, likewise"),
    Column("Δ", about="The second minus the first, of the same clients"),
    Column("interval", about="95% confidence interval of Δ over the seeds"),
)
_NUMBERS = ("federation", "method", "measure", "local", "fused", "change", "low", "high")


def probed_table(found: Sequence[RunGroup]) -> Table | None:
    """Return each probe's metric in both arms and their difference; None where nobody asked."""
    rows = [
        (group.label, method, metric, compared)
        for group in found
        for method, runs in group.methods.items()
        for metric in asked(runs)
        if not metric.startswith(OF_CLASS) and (compared := change(runs, metric)) is not None
    ]
    return _table(
        "probes",
        "What models answered to the probes",
        "At the last round that asked, shares in %. Samples and random numbers are the same for "
        "all clients and arms; accuracy_clean is of the same samples as they are. Δ of "
        "accuracy_distance_1 to _4 is the gain by how far a test sample is from the nearest public "
        "one, the nearest quarter first; distance_1 to _4 are the quarters' mean distances, in "
        "units of the inputs.",
        rows,
        len(found) > 1,
        is_share,
    )


LOST = "backward loss"
"""The measure of which less is better."""

OF_CLASSES: dict[str, Callable[[Array], Array]] = {
    LOST: backward_loss,
    "backward transfer": backward_transfer,
}
"""What is told of each class's accuracies by round."""


def transfer_table(found: Sequence[RunGroup]) -> Table | None:
    """Return how soon accuracy was high and what was lost; None where no class was told apart."""
    rows = [
        (group.label, method, measure, compared)
        for group in found
        for method, runs in group.methods.items()
        for measure, compared in _transfer(runs)
    ]
    return _table(
        "transfer",
        "What was kept from round to round",
        "The area is the mean over the tested rounds. Backward loss, of each class on the balanced "
        "test: the mean over later rounds of its best accuracy so far less its accuracy then, in "
        "the mean over the classes; less is less forgotten. Backward transfer is the last accuracy "
        "of a class less its first. In %.",
        rows,
        len(found) > 1,
        lambda _: True,
    )


def _transfer(runs: Sequence[Run]) -> Iterator[tuple[str, Comparison]]:
    """Yield the measures of a method that tells classes apart, against its own baseline."""
    sides = [
        (run, classes, theirs)
        for run in runs
        if run.baseline is not None
        and (classes := by_class(run.arm, OF_CLASS)) is not None
        and (theirs := by_class(run.baseline, OF_CLASS)) is not None
    ]
    if not sides:
        return
    seeds = tuple(run.seed for run, _, _ in sides)
    for test, words in TESTS.items():
        curves = [(_area(run.arm, test), _area(run.baseline, test)) for run, _, _ in sides]
        if all(ours is not None and theirs is not None for ours, theirs in curves):
            yield f"area, {words}", _compared(curves, seeds)
    for name, measure in OF_CLASSES.items():
        values = [tuple(_over_classes(measure(side)) for side in both) for _, *both in sides]
        if all(np.isfinite(side).any() for both in values for side in both):
            yield name, _compared(values, seeds)


def _area(arm: Arm | None, test: str) -> Array | None:
    values = None if arm is None else arm.at(test)
    return None if values is None else area(values)


def _over_classes(values: Array) -> Array:
    """Return the mean over the classes [K] of values [K, C], of those that are there."""
    there = np.isfinite(values)
    total = np.where(there, values, 0.0).sum(axis=-1)
    return np.asarray(
        np.where(there.any(axis=-1), total / np.maximum(there.sum(axis=-1), 1), np.nan)
    )


def _compared(sides: Sequence[Any], seeds: tuple[int, ...]) -> Comparison:
    ours, theirs = (np.stack([side[i] for side in sides]) for i in (0, 1))
    return compare(ours, theirs, seeds=seeds)


def _table(
    name: str,
    title: str,
    caption: str,
    rows: Sequence[tuple[str, str, str, Comparison]],
    several: bool,
    in_percent: Callable[[str], bool],
) -> Table | None:
    if not rows:
        return None
    columns = (FEDERATION, *_NAMED)[0 if several else 1 :]
    shown = []
    for label, method, measure, found in rows:
        cells = (Cell(label, label), Cell(method, method), Cell(measure, measure))
        shown.append((*cells[0 if several else 1 :], *_values(measure, found, in_percent(measure))))
    numbers = tuple(
        (
            *(label, method, measure, found.baseline_mean, found.method_mean, found.mean),
            *(found.bounds or (None, None)),
        )
        for label, method, measure, found in rows
    )
    return Table(name, title, caption, columns, tuple(shown), Numbers(_NUMBERS, numbers))


_NAMED = (Column("method", numeric=False), Column("measure", numeric=False), *_VALUES)


def _values(measure: str, found: Comparison, share: bool) -> Iterator[Cell]:
    """Yield both sides, the difference and its interval: shares in percent, others as they are."""
    for value in (found.baseline_mean, found.method_mean):
        yield percent(value) if share else Cell(f"{value:.3g}", value)
    better = found.mean < 0 if measure == LOST else found.mean > 0
    tone = ("gain" if better else "loss") if share and found.significant else ""
    unit, interval = 1.0 if share else 0.01, found.interval  # what is told is hundredths
    yield Cell(points(unit * found.mean), found.mean, tone)
    if interval is not None:
        interval = replace(interval, low=unit * interval.low, high=unit * interval.high)
    yield interval_of(found, interval)
