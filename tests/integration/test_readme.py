"""The README's partitioner recipe, followed to the letter."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.split("**Plug in.**")[1].split("\n## ")[0]
CODE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL)[1]
LOOK, RUN, CHECK = re.search(r"```\n(fedfuse .*?)```", SECTION, re.DOTALL)[1].splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_partitioner.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def follow(command: str, folder: Path, *more: str) -> CompletedProcess[str]:
    return forked.command([*shlex.split(command, comments=True), *more], folder)


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_the_recipe_is_the_example():
    assert CODE.strip() in (ROOT / "examples" / "my_partitioner.py").read_text(encoding="utf-8")


def test_its_partitioner_is_looked_at(folder):
    done = follow(LOOK, folder, "num_clients=4", "--json")
    assert done.returncode == 0, done.stderr
    first, *_, last = (who["labels"]["train"] for who in json.loads(done.stdout)["clients"])
    assert sum(first[6:]) == 0, "the first client holds lower classes only"
    assert sum(last[:4]) == 0, "the last client holds higher classes only"


def test_its_partitioner_runs(folder):
    more = ["num_clients=4", "num_rounds=2", "model=mlp", "baseline=none", "hydra.run.dir=run"]
    done = follow(RUN, folder, *more)
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / "run" / "summary.json").read_text())
    counts = [client["class_counts"] for client in summary["clients"]]
    assert sum(counts[0][6:]) == 0, "the first client holds lower classes only"
    assert sum(counts[3][:4]) == 0, "the last client holds higher classes only"


def test_its_check_is_silent(folder):
    done = follow(CHECK, folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
