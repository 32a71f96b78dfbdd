"""A map of methods that use the label prior has a table for each control."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from experiments.map.findings import find, write_table
from experiments.map.grid import Axes, Cell
from experiments.map.outcome import format_findings, show_outcome
from experiments.results import Run, read_run
from tests.experiments.three_arms import ARMS, write

Runs = dict[Cell, Run]


def cells(folder: Path, method: str = "knfu_adjusted") -> Runs:
    arms = ARMS if method == "knfu_adjusted" else {"local": ARMS["local"], method: (0.8, 0.6)}
    config = "partitioner: {alpha: 0.5, sizes: 100}\n"
    found = {}
    for seed in range(3):
        for name, own in (("local", {"local": ARMS["local"]}), (method, arms)):
            cell = Cell(100, 0.5, name, seed)
            found[cell] = read_run(write(folder / cell.name, own, seed=seed, config=config))
    return found


def test_each_control_has_its_cells_and_its_sentence(tmp_path: Path) -> None:
    found = find(cells(tmp_path))
    assert found.methods == ("knfu_adjusted", "local_adjusted", "local (post hoc)")
    place = 100, 0.5, "knfu_adjusted"
    assert found.gains["local", "accuracy_global"][place].mean == pytest.approx(0.2507, abs=1e-3)
    assert found.gains["local_adjusted", "accuracy_global"][place].mean == pytest.approx(0.13)
    told = format_findings(found)
    assert "of 1 cells knfu_adjusted wins 1, local wins 0, 0 are undecided" in told
    assert "of 1 cells knfu_adjusted wins 1, local_adjusted wins 0, 0 are undecided" in told
    count = sum(len(own) for own in found.gains.values())
    assert f"Corrected for the {count} comparisons of this page (Holm, 5%)" in told


def test_the_table_has_a_control_more(tmp_path: Path) -> None:
    rows = pq.read_table(write_table(cells(tmp_path), tmp_path)).to_pylist()
    assert list(rows[0])[-2:] == ["local_adjusted", "over_local_adjusted"]
    for row in rows:
        if row["method"] == "local":
            assert row["local_adjusted"] is row["gain"] is None
        else:
            assert row["over_local_adjusted"] == row["accuracy"] - row["local_adjusted"]
            assert row["gain"] == row["accuracy"] - row["baseline"]
    plain = write_table(cells(tmp_path / "plain", "knfu"), tmp_path / "plain")
    assert pq.read_schema(plain).names[-1] == "test_samples"


def test_the_terminal_and_the_picture_show_it(tmp_path: Path) -> None:
    stream = io.StringIO()
    axes = Axes((100,), (0.5,), ("local", "knfu_adjusted"), (0, 1, 2))
    show_outcome(tmp_path, axes, cells(tmp_path / "cells"), Console(file=stream, width=80))
    text = stream.getvalue()
    for over in ("local", "local_adjusted"):
        assert f"knfu_adjusted, balanced test set: gain over {over} in points" in text
    picture = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert "Gain over training alone" in picture
