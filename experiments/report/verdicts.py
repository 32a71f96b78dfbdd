"""The answers of a report: every method against training alone, in words and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from experiments.report.axes import points
from experiments.report.contents import Verdict
from experiments.report.figure import Numbers
from experiments.report.table import Cell, Column, Table
from experiments.results import SHORT, TESTS, Compared, to_tell
from fedfuse.compare import (
    CONTROLS,
    ENOUGH,
    LOCAL,
    Answer,
    Comparison,
    ranking,
    ranking_over,
)
from fedfuse.compare.interval import Interval

BEST = "which method is best"


def sentences(done: Sequence[Compared]) -> tuple[Verdict, ...]:
    """Return which method is best on which test, then a sentence per method and test.

    With both controls it is the answer to "fuse or train alone?". The ways of training alone are
    part of that; they have sentences of their own only where there is nothing else.
    """
    if not done:
        return ()
    return Verdict(ranking(_by_test(done)), BEST, "best"), *map(_sentence, to_tell(done))


def _sentence(item: Compared) -> Verdict:
    where = f"{item.method} · tested on: {TESTS[item.test]}"
    return Verdict(item.sentence(), where, _tone_of(item))


def overall(done: Sequence[Compared]) -> tuple[Verdict, ...]:
    """Return a sentence per method, test set and control on several federations together.

    It only counts what the single comparisons show; they stand with their federations. A method
    that was run on one of them alone has its own sentences.
    """
    if not done:
        return ()
    federations: dict[str, list[Compared]] = {}
    methods: dict[str, list[Compared]] = {}
    for item in done:
        federations.setdefault(item.federation, []).append(item)
    for item in [item for item in done if not item.alone] or done:
        methods.setdefault(item.method, []).append(item)
    each = [_by_test(items) for items in federations.values()]
    told = [Verdict(ranking_over(each), BEST, "best")]
    for own in methods.values():
        if len({item.federation for item in own}) == 1:
            told += map(_sentence, to_tell(own))
        else:
            told += _over_federations(own)
    return tuple(told)


def _over_federations(done: Sequence[Compared]) -> list[Verdict]:
    """Return the sentences of one method that was run on several federations."""
    kinds: dict[tuple[str, str, str], list[Compared]] = {}
    for item in done:
        kinds.setdefault((item.method, item.test, item.over), []).append(item)
    told = []
    for (method, test, over), items in kinds.items():
        where = f"{method} · tested on: {TESTS[test]}"
        if answers := [item.decision.answer for item in items if item.decision]:
            told.append(Verdict(_counted(answers), where, ""))
        told.append(Verdict(*_over_all(method, over, [item.found for item in items], where)))
    return told


def _counted(answers: Sequence[Answer]) -> str:
    """Return how often each answer is given.

    >>> _counted([Answer.FUSE, Answer.ALONE, Answer.FUSE])
    'Of 3 federations: fuse in 2, train alone in 1.'
    """
    counts = ", ".join(f"{kind} in {n}" for kind in Answer if (n := answers.count(kind)))
    return f"Of {len(answers)} federations: {counts}."


def _over_all(
    method: str, over: str, found: Sequence[Comparison], where: str
) -> tuple[str, str, str]:
    """Return what several comparisons with one control come to, as a verdict's parts."""
    silent = sum(not one.speaks for one in found)
    few = f"In {silent} of {len(found)} federations the tests hold fewer than {ENOUGH} samples."
    found = [one for one in found if one.speaks]
    if not found:
        return f"No verdict on {method}. {few}", where, ""
    won = sum(one.significant and one.mean > 0 for one in found)
    lost = sum(one.significant and one.mean < 0 for one in found)
    spread = sorted(one.mean for one in found)
    unsure = len(found) - won - lost
    text = (
        f"{method} beats {CONTROLS[over]} in {won} of {len(found)} federations and loses in "
        f"{lost}; no difference is shown in {unsure}. Mean gains run from "
        f"{points(spread[0])} to {points(spread[-1])} points."
    )
    if all(one.interval is None for one in found):
        beyond = "" if over == LOCAL else f" over {CONTROLS[over]}"
        text = (
            f"With one seed there is no interval, so nothing is shown: the mean gains of "
            f"{method}{beyond} over {len(found)} federations run from {points(spread[0])} to "
            f"{points(spread[-1])} points."
        )
    tone = "gain" if won and not lost else "loss" if lost and not won else ""
    return f"{text} {few}" if silent else text, where, tone


def _by_test(done: Sequence[Compared]) -> dict[str, dict[str, Comparison]]:
    """Return per test set, in words, the gains over plain local training, by method."""
    found: dict[str, dict[str, Comparison]] = {}
    for test, words in TESTS.items():
        of_test = [item for item in done if item.test == test and item.over == LOCAL]
        found[words] = {item.method: item.found for item in of_test}
    return found


def _tone(found: Comparison) -> str:
    if not found.significant:
        return ""
    return "gain" if found.mean > 0 else "loss"


def _tone_of(item: Compared) -> str:
    """Return the tone of a sentence; of a decision the better of two gains is no gain."""
    if item.decision is None:
        return _tone(item.found)
    if item.decision.answer is Answer.FUSE:
        return "gain" if item.decision.certain else ""
    tones = _tone(item.decision.gain), _tone(item.decision.lead)
    return "loss" if "loss" in tones else ""


WHICH = (
    Column("federation", numeric=False, about="What tells this federation from the others"),
    Column("method", numeric=False),
    Column("tested on", numeric=False, about="The clients' own distribution, or a balanced set"),
    Column("over", numeric=False, about="What the method is compared with"),
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


def select(
    columns: Sequence[Column], done: Sequence[Compared]
) -> tuple[list[int], tuple[Column, ...]]:
    """Return which columns are shown, and these as they are called where there are controls.

    The federation is left out where there is only one, the control likewise, and the guard's
    column where there is none.
    """
    several = len({item.over for item in done}) > 1
    # Numbers have it; beside the control there is no room for it.
    without = {
        *(() if len({item.federation for item in done}) > 1 else ("federation",)),
        "worst tenth" if several else "over",
        *(() if any(item.undone is not None for item in done) else ("undone",)),
    }
    shown = [i for i, column in enumerate(columns) if column.name not in without]
    if not several:
        return shown, tuple(columns[i] for i in shown)
    return shown, tuple(
        replace(
            columns[i],
            name=columns[i].name.replace("local", "alone"),
            about=columns[i].about.replace("local training", "training alone"),
        )
        for i in shown
    )


def comparison_table(done: Sequence[Compared], *, name: str, title: str, caption: str) -> Table:
    """Return the comparisons as a table, a row for each control."""
    shown, columns = select(_COLUMNS, done)
    rows = tuple(tuple(_row(item)[i] for i in shown) for item in done)
    names = (
        "federation method test seeds local_mean method_mean gain gain_low gain_high level helped "
        "harmed compared worst worst_decile std local_worst local_worst_decile lowest_gain undone"
    )
    return Table(name, title, caption, columns, rows, numbers_of(done, names.split(), _numbers))


def numbers_of(
    done: Sequence[Compared],
    names: Sequence[str],
    row: Callable[[Compared], tuple[Any, ...]],
) -> Numbers:
    """Return tidy numbers of comparisons; the control, where there are several, comes last.

    What is called ``local_...`` in them is of that control.
    """
    if len({item.over for item in done}) < 2:
        return Numbers(tuple(names), tuple(map(row, done)))
    return Numbers((*names, "over"), tuple((*row(item), item.over) for item in done))


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
    return Cell(item.federation), Cell(item.method), Cell(SHORT[item.test]), Cell(item.over)


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
