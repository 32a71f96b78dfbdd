"""The comparisons of a report: every method against local training, on each test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.report.axes import points
from experiments.report.figure import Numbers
from experiments.report.gather import Lineup
from experiments.report.material import TESTS, Array, Run
from experiments.report.page import Verdict
from experiments.report.table import Cell, Column, Table
from fedfuse.compare import Comparison, compare, verdict

LAST, BEST = "last", "best validation"
"""The moments that a comparison can be of; never the best on test data."""

LEVEL = 0.95


@dataclass(frozen=True)
class Compared:
    """A comparison and what it is of.

    Args:
        federation: The line-up's label.
        method: The method's name in the report.
        test: A key of TESTS.
        found: The statistics.
    """

    federation: str
    method: str
    test: str
    found: Comparison


def comparisons(lineups: Sequence[Lineup], moment: str = LAST) -> list[Compared]:
    """Return every comparison that the runs allow, federation by federation."""
    done = []
    for lineup in lineups:
        for method, runs in lineup.contenders.items():
            for test in TESTS:
                if (found := compared(runs, test, moment)) is not None:
                    done.append(Compared(lineup.label, method, test, found))
    return done


def compared(runs: Sequence[Run], test: str, moment: str = LAST) -> Comparison | None:
    """Return a method's runs against their own baselines; None if nothing was tested.

    Args:
        runs: Of one method on one federation, a run a seed.
        test: Which test protocol.
        moment: The last round, or the round of the best validation accuracy, chosen for each arm.
    """
    rows: list[tuple[Array, Array, Array | None, int]] = []
    for run in runs:
        if run.baseline is None:
            continue
        after, before = (
            arm.last(test) if moment == LAST else arm.at_best(test)
            for arm in (run.arm, run.baseline)
        )
        if after is not None and before is not None:
            rows.append((after, before, run.test_sizes(test), run.seed))
    if not rows:
        return None
    sizes = [row[2] for row in rows if row[2] is not None]
    return compare(
        np.stack([row[0] for row in rows]),
        np.stack([row[1] for row in rows]),
        seeds=tuple(row[3] for row in rows),
        test_sizes=np.stack(sizes) if len(sizes) == len(rows) else None,
        level=LEVEL,
    )


def sentences(done: Sequence[Compared]) -> tuple[Verdict, ...]:
    """Return a sentence per comparison."""
    return tuple(
        Verdict(
            verdict(item.found, item.method),
            " · ".join(
                filter(None, (item.method, f"tested on: {TESTS[item.test]}", item.federation))
            ),
            _tone(item.found),
        )
        for item in done
    )


def _tone(found: Comparison) -> str:
    if not found.significant:
        return ""
    return "gain" if found.mean > 0 else "loss"


_COLUMNS = (
    Column("federation", numeric=False, about="What tells this federation from the others"),
    Column("method", numeric=False),
    Column("test set", numeric=False),
    Column("seeds"),
    Column("local", about="Mean accuracy of local training, %"),
    Column("method, %", about="Mean accuracy of the method, %"),
    Column("gain", about="Points of accuracy over local training, mean over seeds and clients"),
    Column(f"{LEVEL:.0%} interval", about="Confidence interval of the gain over the seeds, points"),
    Column("helped", about="Clients that gained beyond the error of their test sets"),
    Column("harmed", about="Clients that lost beyond the error of their test sets"),
    Column("worst", about="Accuracy of the worst client with the method, %"),
    Column("worst tenth", about="Mean accuracy of the worst tenth of the clients, %"),
    Column("std", about="Standard deviation over the clients, points"),
)


def comparison_table(done: Sequence[Compared], *, name: str, title: str, caption: str) -> Table:
    """Return the comparisons as a table; the federation is left out where there is only one."""
    several = len({item.federation for item in done}) > 1
    rows = tuple(_row(item)[0 if several else 1 :] for item in done)
    columns = _COLUMNS[0 if several else 1 :]
    names = (
        "federation method test seeds local_mean method_mean gain gain_low gain_high level helped "
        "harmed compared worst worst_decile std local_worst local_worst_decile lowest_gain"
    )
    numbers = Numbers(tuple(names.split()), tuple(_numbers(item) for item in done))
    return Table(name, title, caption, columns, rows, numbers)


def _row(item: Compared) -> tuple[Cell, ...]:
    found = item.found
    interval = "one seed: none"
    if found.interval is not None:
        interval = f"[{points(found.interval.low)}, {points(found.interval.high)}]"
    return (
        Cell(item.federation),
        Cell(item.method),
        Cell(TESTS[item.test]),
        Cell(str(len(found.seeds)), len(found.seeds)),
        _percent(found.baseline_mean),
        _percent(found.method_mean),
        Cell(points(found.mean), found.mean, _tone(found)),
        Cell(interval, found.interval.low if found.interval else None),
        _count(found.helped, found),
        _count(found.harmed, found),
        _percent(found.worst),
        _percent(found.worst_decile),
        _percent(found.std),
    )


def _percent(value: float) -> Cell:
    return Cell(f"{100 * value:.1f}", value)


def _count(value: int, found: Comparison) -> Cell:
    return Cell(f"{value} of {found.compared}", value)


def _numbers(item: Compared) -> tuple[Any, ...]:
    found, interval = item.found, item.found.interval
    return (
        item.federation,
        item.method,
        item.test,
        len(found.seeds),
        found.baseline_mean,
        found.method_mean,
        found.mean,
        interval.low if interval else None,
        interval.high if interval else None,
        interval.level if interval else None,
        found.helped,
        found.harmed,
        found.compared,
        found.worst,
        found.worst_decile,
        found.std,
        found.baseline_worst,
        found.baseline_worst_decile,
        found.lowest_gain,
    )
