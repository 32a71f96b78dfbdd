"""How a map ends: its table, its picture, and what both say in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments.map.findings import Findings, find, write_table
from experiments.map.grid import Axes, Cell
from experiments.results import SHORT, TESTS, Run, against, compared, run_groups
from experiments.terminal.literal import literal
from experiments.terminal.tables import new_table
from fedfuse.compare import ENOUGH, corrected, count_judged, signed
from fedfuse.files import confined

if TYPE_CHECKING:
    from experiments.report.figure import Figure

AXES = ("partitioner.alpha", "partitioner.sizes")
"""What the picture shows upwards and across."""
PICTURES = ("map.png", "map.svg")


def show_outcome(folder: Path, axes: Axes, runs: Mapping[Cell, Run], console: Console) -> None:
    """Write ``map.parquet``, ``map.png`` and ``map.svg``, and print the gains."""
    if not any(cell.method in axes.contenders for cell in runs):
        console.print("No cell of a method is done, so there is nothing to draw.")
        return
    from experiments.report.overview import map_figure

    findings = find(runs)
    some = next(iter(runs.values()))
    found = run_groups([runs[cell] for cell in sorted(runs, key=lambda cell: cell.federation)])
    done = [compared(run_group) for run_group in found]
    about = f"Gain over {against([item for items in done for item in items])}: "
    about += f"{some.summary['dataset']} · {some.summary['model']}"
    about += f" · {some.summary['num_clients']} clients · {some.summary['num_rounds']} rounds"
    about += f" · {_seeds(axes)}"
    write_table(runs, folder)
    figure = map_figure(found, done, AXES, about)
    if figure is not None:
        _save(figure, folder)
    for over, test, method in _tables(findings):
        title = f"\n{method}, {TESTS[test]}: gain over {over} in points"
        console.print(literal(title, "bold"))
        console.print(_gains(findings, over, test, method))
    several = len(axes.seeds) > 1
    console.print("* the 95% interval excludes 0" if several else "one seed: no interval")
    if any(not cell.speaks for found in findings.gains.values() for cell in found.values()):
        console.print(f"? tests of fewer than {ENOUGH} samples say nothing")
    console.print()
    console.print(literal(format_findings(findings)))
    for name in (*PICTURES, "map.parquet"):
        console.print(literal(f"{folder / name}"), soft_wrap=True)


def _save(figure: Figure, folder: Path) -> None:
    """Write the report's map as ``map.png`` and ``map.svg``."""
    from experiments.report.figure import sheet
    from experiments.report.raster import write_png
    from experiments.report.svg import standalone

    drawing = sheet(figure)
    for name in PICTURES:
        with confined.replacing(folder / name) as file:
            if name.endswith("png"):
                write_png(drawing, file)
            else:
                file.write_text(standalone(drawing), encoding="utf-8")


def format_findings(findings: Findings) -> str:
    """Return one sentence per control, test protocol and method: how many cells each side wins.

    Only an interval that excludes 0 wins a cell. The last sentence says what stays certain when it
    counts how many cells there are.
    """
    lines = []
    for over, test, method in _tables(findings):
        name = TESTS[test]
        found = [c for (_, _, m), c in findings.gains[over, test].items() if m == method]
        cells = [cell for cell in found if cell.speaks]
        if silent := len(found) - len(cells):
            lines.append(
                f"{name}: no verdict in {silent} of {len(found)} cells, whose tests hold fewer "
                f"than {ENOUGH} samples."
            )
        if not cells:
            continue
        ahead = sum(cell.significant and cell.mean > 0 for cell in cells)
        behind = sum(cell.significant and cell.mean < 0 for cell in cells)
        if all(cell.interval is None for cell in cells):
            up = sum(cell.mean > 0 for cell in cells)
            lines.append(
                f"{name}: {method} is above {over} in {up} of {len(cells)} cells; one seed "
                "gives no interval, so none of it is certain."
            )
        else:
            lines.append(
                f"{name}: of {len(cells)} cells {method} wins {ahead}, {over} wins {behind}, "
                f"{len(cells) - ahead - behind} are undecided."
            )
    named = [
        (f"{method} at alpha {alpha:g}, n={samples}, {SHORT[test]} over {over}", cell)
        for (over, test), cells in findings.gains.items()
        for (samples, alpha, method), cell in cells.items()
    ]
    if count_judged([cell for _, cell in named]) > 1:
        lines.append(corrected(named))
    return "\n".join(lines)


def _tables(findings: Findings) -> Iterator[tuple[str, str, str]]:
    """Yield what there is a table of: control, test protocol and method."""
    for over, test in findings.gains:
        there = {method for _, _, method in findings.gains[over, test]}
        yield from ((over, test, method) for method in findings.methods if method in there)


def _gains(findings: Findings, over: str, test: str, method: str) -> Table:
    table = new_table()
    table.add_column("alpha", justify="right")
    for samples in findings.samples:
        table.add_column(f"n={samples}", justify="right", no_wrap=True)
    for alpha in findings.alpha:
        row: list[str | Text] = [f"{alpha:g}"]
        for samples in findings.samples:
            cell = findings.gains[over, test].get((samples, alpha, method))
            if cell is None:
                row.append("-")
                continue
            style = ("bold green" if cell.mean > 0 else "bold red") if cell.significant else ""
            mark = "*" if cell.significant else " " if cell.speaks else "?"
            row.append(Text(f"{signed(cell.mean)}{mark}", style))
        table.add_row(*row)
    return table


def _seeds(axes: Axes) -> str:
    return f"{len(axes.seeds)} seeds" if len(axes.seeds) > 1 else "one seed"
