"""The notebooks of examples/ run in a fresh kernel and show what they are stored with."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
import nbformat

from tests import thinning

ROOT = Path(__file__).parents[2]
BOOKS = sorted((ROOT / "examples").glob("*.ipynb"))

QUICK = """
from experiments.config import compose

check = compose.check


def quick(hydra, lines, **more):
    lines = [line for line in lines if not line.startswith("num_rounds=")]
    small = ["num_rounds=2", "public.size=100", "evaluation.test_samples=100", "model.hidden=20"]
    return check(hydra, [*lines, *small], **more)


compose.check = quick
"""
"""What lets each run take two rounds; with make test-all they take as many as they show."""


def kinds(book: nbformat.NotebookNode) -> list[set[str]]:
    """Return what each cell shows: printed text, kinds of data."""
    return [
        {kind for output in cell.get("outputs", ()) for kind in output.get("data", {"text": ""})}
        for cell in book.cells
    ]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kernels are reached by local sockets")
@pytest.mark.parametrize("file", BOOKS, ids=lambda file: file.stem)
def test_it_runs_and_shows_what_is_stored(file):
    executed = runpy.run_path(str(ROOT / "docs/theme/notebooks.py"))["executed"]
    stored = nbformat.read(file, as_version=4)
    again = executed(file, "" if thinning.whole else QUICK)
    assert [cell.source for cell in again.cells] == [cell.source for cell in stored.cells]
    assert kinds(again) == kinds(stored), "run: make notebooks"
    assert any(kinds(stored)), "run: make notebooks"


def test_there_are_three_and_they_are_small():
    assert len(BOOKS) == 3
    assert all(file.stat().st_size < 300_000 for file in BOOKS)
