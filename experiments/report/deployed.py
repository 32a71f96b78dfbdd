"""What clients with a guard deploy, as a table of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from experiments.report.figure import Numbers
from experiments.report.table import Cell, Column, Table
from experiments.results import Run, RunGroup

_TESTS = {"own": "own", "global": "balanced"}
_KINDS = ("local", "mixed", "fused", "undecided")
_COLUMNS = (
    Column("federation", numeric=False, about="What tells this federation from the others"),
    Column("method", numeric=False),
    Column("question", numeric=False, about="Asked of the clients' own distribution, or balanced"),
    Column("alpha", about="The error rate that the guard was built for, a federation"),
    Column("clients", about="Of all seeds"),
    Column("local", about="Clients that deploy their local twin"),
    Column("mixed", about="Clients that deploy a mixture of their twin and the fused model"),
    Column("fused", about="Clients that deploy the fused model"),
    Column("not enough data", about="Clients of whom the guard says that it cannot know"),
)


def deployed_table(found: Sequence[RunGroup]) -> Table | None:
    """Return how many clients deploy what, a row a method and question; None without a guard."""
    rows = [row for run_group in found for row in _rows(run_group)]
    if not rows:
        return None
    first = 0 if len(found) > 1 else 1
    return Table(
        "deployed",
        "What clients deploy",
        "With a guard that decides it: the model of a client that learned alone, the fused one, or "
        "their mixture, at the last round. Where there is not enough data to know, the guard's "
        "default is deployed.",
        _COLUMNS[first:],
        tuple(tuple(_cell(value) for value in row[first:]) for row in rows),
        Numbers(
            ("federation", "method", "question", "alpha", "clients", *_KINDS),
            tuple(tuple(row) for row in rows),
        ),
    )


def _rows(run_group: RunGroup) -> Iterator[list[str | float | None]]:
    for method, runs in run_group.methods.items():
        told = [guard for run in runs if "own_mixed" in (guard := _guard(run))]
        for test, name in _TESTS.items():
            if told:
                counts = [_sum(told, f"{test}_{kind}") for kind in _KINDS]
                clients = sum(count or 0 for count in counts[:3])
                yield [run_group.label, method, name, told[0].get("alpha"), clients, *counts]


def _guard(run: Run) -> dict[str, float | None]:
    told: dict[str, float | None] = run.summary.get("guard") or {}
    return told


def _sum(told: Sequence[dict[str, float | None]], name: str) -> float | None:
    """Return a count over runs; None where none of them has it."""
    values = [value for guard in told if (value := guard.get(name)) is not None]
    return sum(values) if values else None


def _cell(value: str | float | None) -> Cell:
    if value is None:
        return Cell("-")
    return Cell(value, value) if isinstance(value, str) else Cell(f"{value:g}", value)
