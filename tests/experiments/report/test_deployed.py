"""What clients with a guard deploy, added up over seeds, as a table of the report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from experiments.report.deployed import deployed_table
from experiments.results import RunGroup


def run(guard: dict[str, Any] | None) -> Any:
    return SimpleNamespace(summary={"guard": guard})


def told(mixed: int, undecided: int | None) -> dict[str, Any]:
    own = {"own_local": 1, "own_mixed": mixed, "own_fused": 0, "own_undecided": undecided}
    whole = {"global_local": 0, "global_mixed": 0, "global_fused": 1 + mixed}
    return {**own, **whole, "global_undecided": 0, "alpha": 0.05}


def test_counts_are_of_all_seeds_and_runs_without_such_a_guard_have_no_row() -> None:
    methods = {
        "mean": (run(told(4, 3)), run(told(2, 1))),
        "plain": (run(None), run({"undone": 1, "distillations": 2})),
        "ensemble": (run({**told(2, None), "alpha": None}),),
    }
    table = deployed_table([RunGroup("", methods)])
    assert table is not None
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown == [
        ["mean", "own", "0.05", "8", "2", "6", "0", "4"],
        ["mean", "balanced", "0.05", "8", "0", "0", "8", "0"],
        ["ensemble", "own", "-", "3", "1", "2", "0", "-"],
        ["ensemble", "balanced", "-", "3", "0", "0", "3", "0"],
    ]
    assert [column.name for column in table.columns][:2] == ["method", "question"]
    assert deployed_table([RunGroup("", {"plain": methods["plain"]})]) is None
