"""The answers of a report: every method against local training, in words and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from experiments.report.axes import points
from experiments.report.contents import Verdict
from experiments.report.figure import Numbers
from experiments.report.table import Cell, Column, Table
from experiments.results import TESTS, Moment, RunGroup, comparisons, share_undone
from fedfuse.compare import ENOUGH, Comparison, ranking, ranking_over, verdict
from fedfuse.compare.interval import Interval

BEST = "which method is best"


@dataclass(frozen=True)
class Compared:
    """A comparison and what it is of.

    Args:
        federation: The line-up's label; empty if there is only one.
        method: The method's name.
        test: A key of TESTS.
        found: The statistics.
        undone: The share of distillations that a guard undid; None without one.
    """

    federation: str
    method: str
    test: str
    found: Comparison
    undone: float | None = None


def compared(run_group: RunGroup, moment: Moment = Moment.LAST) -> list[Compared]:
    """Return every comparison of a line-up, method by method."""
    found = {test: comparisons(run_group, test, moment) for test in TESTS}
    return [
        Compared(run_group.label, method, test, found[test][method], share_undone(runs))
        for method, runs in run_group.methods.items()
        for test in TESTS
        if method in found[test]
    ]


def sentences(done: Sequence[Compared]) -> tuple[Verdict, ...]:
    """Return which method is best on which test, then a sentence per comparison."""
    if not done:
        return ()
    return Verdict(ranking(_by_test(done)), BEST, "best"), *(
        Verdict(
            verdict(item.found, item.method),
            f"{item.method} · tested on: {TESTS[item.test]}",
            _tone(item.found),
        )
        for item in done
    )


def overall(done: Sequence[Compared]) -> tuple[Verdict, ...]:
    """Return a sentence per method and test set on several federations together.

    It only counts what the single comparisons show; they stand with their federations.
    """
    if not done:
        return ()
    federations: dict[str, list[Compared]] = {}
    kinds: dict[tuple[str, str], list[Comparison]] = {}
    for item in done:
        federations.setdefault(item.federation, []).append(item)
        kinds.setdefault((item.method, item.test), []).append(item.found)
    each = [_by_test(items) for items in federations.values()]
    told = [Verdict(ranking_over(each), BEST, "best")]
    for (method, test), found in kinds.items():
        told_of = len(found)
        found = [one for one in found if one.speaks]
        silent = told_of - len(found)
        where = f"{method} · tested on: {TESTS[test]}"
        few = f"In {silent} of {told_of} federations the tests hold fewer than {ENOUGH} samples."
        if not found:
            told.append(Verdict(f"No verdict on {method}. {few}", where, ""))
            continue
        won = sum(one.significant and one.mean > 0 for one in found)
        lost = sum(one.significant and one.mean < 0 for one in found)
        spread = sorted(one.mean for one in found)
        unsure = len(found) - won - lost
        text = (
            f"{method} beats local training in {won} of {len(found)} federations and loses in "
            f"{lost}; no difference is shown in {unsure}. Mean gains run from "
            f"{points(spread[0])} to {points(spread[-1])} points."
        )
        if all(one.interval is None for one in found):
            text = (
                f"With one seed there is no interval, so nothing is shown: the mean gains of "
                f"{method} over {len(found)} federations run from {points(spread[0])} to "
                f"{points(spread[-1])} points."
            )
        tone = "gain" if won and not lost else "loss" if lost and not won else ""
        told.append(Verdict(f"{text} {few}" if silent else text, where, tone))
    return tuple(told)


def _by_test(done: Sequence[Compared]) -> dict[str, dict[str, Comparison]]:
    found: dict[str, dict[str, Comparison]] = {}
    for test, words in TESTS.items():
        found[words] = {item.method: item.found for item in done if item.test == test}
    return found


def _tone(found: Comparison) -> str:
    if not found.significant:
        return ""
    return "gain" if found.mean > 0 else "loss"


SHORT = {"accuracy_own": "own", "accuracy_global": "balanced"}

WHICH = (
    Column("federation", numeric=False, about="What tells this federation from the others"),
    Column("method", numeric=False),
    Column("tested on", numeric=False, about="The clients' own distribution, or a balanced set"),
)
"""The columns that say which comparison a row is about."""

_COLUMNS = (
    *WHICH,
    Column("seeds"),
    Column("local", about="Mean accuracy of local training, %"),
    Column("fusion", about="Mean accuracy of the method, %"),
    Column("gain", about="Points of accuracy over local training, mean over seeds and clients"),
    Column("interval", about="95% confidence interval of the gain over the seeds, points"),
    Column("helped", about="Clients that gained beyond the error of their test sets"),
    Column("harmed", about="Clients that lost beyond the error of their test sets"),
    Column("undone", about="Share of distillations that clients with a guard went back from"),
    Column("worst", about="Accuracy of the worst client with the method, %"),
    Column("worst tenth", about="Mean accuracy of the worst tenth of the clients, %"),
    Column("std", about="Standard deviation over the clients, points"),
)


def comparison_table(done: Sequence[Compared], *, name: str, title: str, caption: str) -> Table:
    """Return the comparisons as a table.

    The federation is left out where there is only one, and the guard's column where there is none.
    """
    first = 0 if len({item.federation for item in done}) > 1 else 1
    guarded = any(item.undone is not None for item in done)
    shown = [i for i, c in enumerate(_COLUMNS) if i >= first and (guarded or c.name != "undone")]
    rows = tuple(tuple(_row(item)[i] for i in shown) for item in done)
    columns = tuple(_COLUMNS[i] for i in shown)
    names = (
        "federation method test seeds local_mean method_mean gain gain_low gain_high level helped "
        "harmed compared worst worst_decile std local_worst local_worst_decile lowest_gain undone"
    )
    numbers = Numbers(tuple(names.split()), tuple(_numbers(item) for item in done))
    return Table(name, title, caption, columns, rows, numbers)


def _row(item: Compared) -> tuple[Cell, ...]:
    found = item.found
    return (
        *which(item),
        Cell(str(len(found.seeds)), len(found.seeds)),
        percent(found.baseline_mean),
        percent(found.method_mean),
        Cell(points(found.mean), found.mean, _tone(found)),
        interval_of(found, found.interval),
        _count(found.helped, found),
        _count(found.harmed, found),
        Cell("–") if item.undone is None else percent(item.undone),
        percent(found.worst),
        percent(found.worst_decile),
        percent(found.std),
    )


def _count(clients: int, found: Comparison) -> Cell:
    return Cell(f"{clients}/{found.compared}", clients) if found.judged else Cell("–", "")


def which(item: Compared) -> tuple[Cell, ...]:
    """Return the cells of :data:`WHICH`."""
    return Cell(item.federation), Cell(item.method), Cell(SHORT[item.test])


def interval_of(found: Comparison, interval: Interval | None) -> Cell:
    """Return an interval in points as a cell; without several seeds or large tests there is none.

    Args:
        found: The comparison that it belongs to.
        interval: Of its gain, or of another change.
    """
    if not found.speaks:
        return Cell(f"tests < {ENOUGH}", "")
    if interval is None:
        return Cell("one seed", "")
    return Cell(f"[{points(interval.low)}, {points(interval.high)}]", interval.low)


def percent(value: float) -> Cell:
    """Return a share as a cell in percent."""
    return Cell(f"{100 * value:.1f}", value)


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
        found.helped if found.judged else None,
        found.harmed if found.judged else None,
        found.compared,
        found.worst,
        found.worst_decile,
        found.std,
        found.baseline_worst,
        found.baseline_worst_decile,
        found.lowest_gain,
        item.undone,
    )
