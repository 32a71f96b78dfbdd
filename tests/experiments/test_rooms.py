"""The rooms of the house: what lies where (import contracts in setup.cfg say who may enter)."""

from __future__ import annotations

from pathlib import Path

import experiments

HERE = Path(experiments.__file__).parent


def test_only_the_two_ways_in_lie_at_the_root() -> None:
    modules = {path.name for path in HERE.glob("*.py")} - {"__init__.py"}
    assert modules == {"run.py", "flower.py"}


def test_the_command_only_parses_and_dispatches() -> None:
    assert len((HERE / "run.py").read_text(encoding="utf-8").splitlines()) < 150
