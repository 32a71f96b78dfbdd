"""What the report says: which runs it is about, and in which order it tells of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any

from experiments.report.axes import seconds
from experiments.report.changes import changes_table
from experiments.report.contents import Group, Report
from experiments.report.deployed import deployed_table
from experiments.report.figure import Figure, Numbers
from experiments.report.frontiers import frontier_figure
from experiments.report.gained import forest_figure
from experiments.report.layout import MOMENTS, Layout
from experiments.report.lines import Looks
from experiments.report.overview import map_figure
from experiments.report.probed import probed_table, transfer_table
from experiments.report.sections import figures, looks
from experiments.report.table import Cell, Column, Table
from experiments.report.verdicts import comparison_table, overall, sentences
from experiments.results import (
    TESTS,
    Compared,
    Moment,
    Results,
    Run,
    RunGroup,
    against,
    compared,
    flatten,
    run_groups,
    text,
    varying,
    with_prior,
)
from fedfuse import __version__
from fedfuse.compare import CONTROLS, LOCAL, corrected, count_judged
from fedfuse.safe_text import visible

DRAWN_MATRICES = 60
"""About how many rounds' weights a page draws in all; they are its heaviest part."""

DRAWN_METHODS = 24
"""So many methods of a federation are drawn; its verdicts and tables have them all."""

DRAWN = 150
"""So many methods are drawn in all federations together; those behind have verdicts and tables."""

CELLS = 10_000
"""Cells of a map's panels together, at most."""

CONTROLLED = (
    " local_adjusted is local training corrected for each client's label prior: trained with the "
    "balanced softmax, the prior added back on the client's own distribution. local (post hoc) is "
    "plain local training from whose logits the prior is taken only when it is tested; on the own "
    "distribution that is local training itself. What they gain is no merit of fusing."
)
"""What the ways of training alone are, where there are several."""

ROWS = 30
"""Gains that one forest plot shows at most, over all federations."""


def tell(results: Results, layout: Layout | None = None) -> Report:
    """Return the report on what folders hold.

    Args:
        results: Their runs.
        layout: How large figures are; as on the page if None.

    Raises:
        ConfigError: If its runs cannot be compared.
    """
    layout = layout or Layout()
    runs = results.runs
    found = run_groups(runs)
    style = looks(found)
    talking = sum(len(run_group.methods) for run_group in found)
    most = min(12, max(2, DRAWN_MATRICES // talking)) if layout.most is None else MOMENTS
    last = [compared(run_group) for run_group in found]
    best = [compared(run_group, Moment.BEST_VALIDATION) for run_group in found]
    everything = [*chain(*last)]
    groups, room = [], DRAWN
    for i, (run_group, done) in enumerate(zip(found, last, strict=True), 1):
        number = i if len(found) > 1 else 0
        drawn: list[Figure] = []
        if room > 0:
            few = RunGroup(run_group.label, dict(islice(run_group.methods.items(), DRAWN_METHODS)))
            room -= len(few.methods)
            own = [item for item in done if item.alone or item.method in few.methods]
            if number:
                drawn += _some(forest_figure(own, style, f"-{number}", layout.panel))
            drawn += figures(few, own, number, style, most, layout)
        groups.append(Group(run_group.label, sentences(done), tuple(drawn)))
    notes = list(results.notes())
    if any(len(line.methods) > DRAWN_METHODS for line in found) or not groups[-1].figures:
        notes.append(
            f"There is too much to draw all of it: figures show at most {DRAWN_METHODS} methods of "
            f"a federation, {DRAWN} in all. Verdicts and tables have everything."
        )
    names = dict.fromkeys(name for run_group in found for name in run_group.methods)
    mapped = set(islice(names, max(1, min(DRAWN_METHODS, CELLS // (2 * len(found))))))
    shown = [[item for item in done if item.alone or item.method in mapped] for done in last]
    return Report(
        title=_title(found, everything),
        about=_about(runs, found),
        notes=tuple(notes),
        verdicts=sentences(last[0]) if len(found) == 1 else overall(everything),
        main=_main(found, everything, style, layout),
        tables=(
            *_tables(everything, [*chain(*best)]),
            *filter(None, [one(found) for one in (deployed_table, probed_table, transfer_table)]),
        ),
        overview=(
            *_some(map_figure(found, shown, width=layout.panel)),
            *_some(frontier_figure(shown, style, layout.panel)),
        ),
        groups=tuple(groups),
        appendix=(_configuration(runs), _environment(runs), _runs(runs)),
        written=f"Written by fedfuse-report {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
    )


def _main(
    found: Sequence[RunGroup], done: Sequence[Compared], style: Looks, layout: Layout
) -> tuple[Figure, ...]:
    """Return the forest plot that the page begins with, unless it would have too many rows."""
    if len(done) > ROWS * len(TESTS):
        return ()
    if len(found) == 1:
        return _some(forest_figure(done, style, width=layout.panel))
    named = forest_figure(
        done, style, width=layout.panel, name=lambda item: f"{item.method}, {item.federation}"
    )
    return _some(named)


def _some(figure: Figure | None) -> tuple[Figure, ...]:
    return () if figure is None else (figure,)


def _tables(last: Sequence[Compared], best: Sequence[Compared]) -> tuple[Table, ...]:
    tables: list[Table] = []
    if last:
        tables.append(
            comparison_table(
                last,
                name="comparison",
                title=f"Against {against(last)}",
                caption="Test accuracy in % and gains in points, at the last round. The 95% "
                "interval takes the seeds for independent trials, because the clients of one seed "
                "share data and start. Helped and harmed count the clients of every seed whose "
                "change is larger than the error of their test sets."
                + (CONTROLLED if with_prior(last) else "")
                + _together(last),
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


def _together(done: Sequence[Compared]) -> str:
    """Return what stays certain of a page's comparisons when it counts how many there are."""
    if count_judged([item.found for item in done]) < 2:
        return ""
    return f" {corrected([(item.name, item.found) for item in done])}"


def _title(found: Sequence[RunGroup], done: Sequence[Compared]) -> str:
    names = dict.fromkeys(m for line in found for m in line.methods)
    methods = [name for name in names if name not in CONTROLS]
    methods = methods or [name for name in names if name != LOCAL]
    told = f" against {against(done)}" if any(line.contenders for line in found) else ""
    if not methods:
        return "Local training"
    if len(methods) > 3:
        return f"{len(methods)} methods{told}"
    return f"{' and '.join(filter(None, (', '.join(methods[:-1]), methods[-1])))}{told}"


def _about(runs: Sequence[Run], found: Sequence[RunGroup]) -> tuple[str, ...]:
    facts = [
        _format_values([str(run.summary[key]) for run in runs], f"{key}s")
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


def _format_values(values: Sequence[str], many: str) -> str:
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
        values = dict.fromkeys(text(own[key]) if key in own else "–" for own in flat)
        rows.append((Cell(key), Cell(_listed(list(values), 20))))
    first = "What differs between the runs comes first. " if varied else ""
    return _facts(
        "configuration", "Configuration", f"{first}Every key as fedfuse was told it.", "key", rows
    )


def _environment(runs: Sequence[Run]) -> Table:
    kept = ("versions", "machine", "device", "data_fingerprint", "public_set", "conventions")
    flat = [flatten({k: run.record[k] for k in kept if k in run.record}) for run in runs]
    rows = []
    for key in dict.fromkeys(key for own in flat for key in own):
        values = dict.fromkeys(text(own[key]) for own in flat if key in own)
        rows.append((Cell(key), Cell(_listed(list(values), 6))))
    caption = "What the runs were made with, and the conventions that make numbers comparable."
    return _facts("environment", "Environment", caption, "fact", rows)


def _listed(values: Sequence[str], most: int) -> str:
    """Return the first values, and how many there are of more."""
    shown = [visible(value, 1000) for value in values[:most]]
    return ", ".join(shown if len(values) <= most else [*shown, f"… ({len(values)} values)"])


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
