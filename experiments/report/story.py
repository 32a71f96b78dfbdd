"""What the report says: which runs it is about, and in which order it tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

from experiments.report.axes import seconds
from experiments.report.changes import changes_table
from experiments.report.figure import Numbers
from experiments.report.overview import map_figure
from experiments.report.page import Group, Report
from experiments.report.sections import LOCAL, figures, looks
from experiments.report.table import Cell, Column, Table
from experiments.report.verdicts import (
    Compared,
    compared,
    comparison_table,
    overall,
    sentences,
)
from experiments.results import Lineup, Moment, Results, Run, flatten, lineups, text, varying
from fedfuse import __version__

DRAWN_MATRICES = 60
"""About how many rounds' weights a page draws in all; they are its heaviest part."""


def tell(results: Results) -> Report:
    """Return the report on what a folder holds.

    Raises:
        ConfigError: If its runs cannot be compared.
    """
    runs = results.runs
    found = lineups(runs)
    style = looks(found)
    talking = sum(len(lineup.methods) for lineup in found)
    most = min(12, max(2, DRAWN_MATRICES // talking))
    last = [compared(lineup) for lineup in found]
    best = [compared(lineup, Moment.BEST_VALIDATION) for lineup in found]
    groups = []
    for i, (lineup, done) in enumerate(zip(found, last, strict=True), 1):
        number = i if len(found) > 1 else 0
        drawn = tuple(figures(lineup, done, number, style, most))
        groups.append(Group(lineup.label, sentences(done), drawn))
    return Report(
        title=_title(found),
        about=_about(runs, found),
        notes=tuple(results.notes()),
        verdicts=sentences(last[0]) if len(found) == 1 else overall([*chain(*last)]),
        tables=_tables([*chain(*last)], [*chain(*best)]),
        overview=tuple(filter(None, [map_figure(found, last)])),
        groups=tuple(groups),
        appendix=(_configuration(runs), _environment(runs), _runs(runs)),
        written=f"Written by fedfuse-report {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
    )


def _tables(last: Sequence[Compared], best: Sequence[Compared]) -> tuple[Table, ...]:
    tables: list[Table] = []
    if last:
        tables.append(
            comparison_table(
                last,
                name="comparison",
                title="Against local training",
                caption="Test accuracy in % and gains in points, at the last round. The 95% "
                "interval takes the seeds for independent trials, because the clients of one seed "
                "share data and start. Helped and harmed count the clients of every seed whose "
                "change is larger than the error of their test sets.",
            )
        )
    tables += filter(None, [changes_table(last)])
    if best:
        tables.append(
            comparison_table(
                best,
                name="validation",
                title="At the best validation round",
                caption="The same at the round that each arm would have chosen by its clients' own "
                "validation data; test data never choose a round.",
            )
        )
    return tuple(tables)


def _title(found: Sequence[Lineup]) -> str:
    methods = [m for m in dict.fromkeys(m for line in found for m in line.methods) if m != LOCAL]
    against = " against local training" if any(line.contenders for line in found) else ""
    if not methods:
        return "Local training"
    if len(methods) > 3:
        return f"{len(methods)} methods{against}"
    return f"{' and '.join(filter(None, (', '.join(methods[:-1]), methods[-1])))}{against}"


def _about(runs: Sequence[Run], found: Sequence[Lineup]) -> tuple[str, ...]:
    facts = [
        _words([str(run.summary[key]) for run in runs], f"{key}s")
        for key in ("dataset", "partitioner", "model")
    ]
    facts.append(f"{_range([int(run.summary['num_clients']) for run in runs])} clients")
    facts.append(f"{_range([int(run.summary['num_rounds']) for run in runs])} rounds")
    seeds = sorted({run.seed for run in runs})
    named = ", ".join(map(str, seeds[:6])) + (", …" if len(seeds) > 6 else "")
    facts.append(f"{len(seeds)} seeds ({named})" if len(seeds) > 1 else f"seed {named} only")
    several = f" on {len(found)} federations" if len(found) > 1 else ""
    return (
        " · ".join(facts),
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}{several}. Every method is compared with "
        "the same clients learning alone: same data, same initial weights, same random numbers.",
    )


def _words(values: Sequence[str], many: str) -> str:
    """Return the values that differ, or only how many there are."""
    different = list(dict.fromkeys(values))
    return ", ".join(different) if len(different) <= 3 else f"{len(different)} {many}"


def _range(values: Sequence[int]) -> str:
    """Return one number, or the span of several.

    >>> _range([5, 5]), _range([10, 5])
    ('5', '5 to 10')
    """
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _configuration(runs: Sequence[Run]) -> Table:
    flat = [flatten(run.config) for run in runs]
    varied = varying(flat)
    keys = [*varied, *(key for key in flat[0] if key not in varied)]
    rows = []
    for key in keys:
        values = list(dict.fromkeys(text(own[key]) if key in own else "–" for own in flat))
        rows.append((Cell(key), Cell(", ".join(values))))
    first = "What differs between the runs comes first. " if varied else ""
    return _facts(
        "configuration", "Configuration", f"{first}Every key as fedfuse was told it.", "key", rows
    )


def _environment(runs: Sequence[Run]) -> Table:
    kept = ("versions", "machine", "device", "data_fingerprint", "public_set", "conventions")
    flat = [flatten({k: run.record[k] for k in kept if k in run.record}) for run in runs]
    rows = []
    for key in dict.fromkeys(key for own in flat for key in own):
        values = list(dict.fromkeys(text(own[key]) for own in flat if key in own))
        shown = values if len(values) <= 6 else [*values[:6], f"… ({len(values)} values)"]
        rows.append((Cell(key), Cell(", ".join(shown))))
    caption = "What the runs were made with, and the conventions that make numbers comparable."
    return _facts("environment", "Environment", caption, "fact", rows)


def _facts(
    name: str, title: str, caption: str, what: str, rows: Sequence[tuple[Cell, Cell]]
) -> Table:
    return Table(
        name,
        title,
        caption,
        (Column(what, numeric=False, code=True), Column("value", numeric=False, code=True)),
        tuple(rows),
        Numbers((what, "value"), tuple((key.text, value.text) for key, value in rows)),
    )


def _runs(runs: Sequence[Run]) -> Table:
    rows, numbers = [], []
    for run in runs:
        spent: Any = run.record.get("seconds")
        rows.append(
            (
                Cell(run.path.name),
                Cell(run.method),
                Cell(str(run.seed), run.seed),
                Cell(seconds(spent) if spent else "–", spent),
                Cell(" ".join(map(str, run.record.get("overrides", ())))),
            )
        )
        numbers.append((run.path.name, run.method, run.seed, spent))
    return Table(
        "runs",
        "Runs",
        "Each with the part of its command that is not a default; the time includes the baseline "
        "where the run trained it itself.",
        (
            Column("folder", numeric=False, code=True),
            Column("method", numeric=False),
            Column("seed"),
            Column("time"),
            Column("told", numeric=False, code=True),
        ),
        tuple(rows),
        Numbers(("folder", "method", "seed", "seconds"), tuple(numbers)),
    )
