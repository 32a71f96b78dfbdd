"""The benchmarks' own arithmetic, and that the bare loop does fedfuse's work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.assembly.parts import build_parts
from experiments.benchmarks import batched, workload
from experiments.benchmarks.round import bare_task, by_rounds
from experiments.benchmarks.rows import in_turns, median_ratio, row, table


@pytest.mark.parametrize(
    ("value", "higher", "met"),
    [(1.0, False, True), (1.01, False, False), (50.0, True, True), (49.0, True, False)],
)
def test_a_bar_is_met_on_its_right_side(value, higher, met):
    bar = 50.0 if higher else 1.0
    assert row("x", "key", "what", value, "x", bar=bar, higher=higher)["met"] is met


def test_what_was_not_measured_is_neither_met_nor_missed():
    entry = row("x", "key", "gpu", None, "x", bar=50.0, note="no GPU here")
    assert entry["met"] is None
    assert "gpu   not measured  ≤ 50       no GPU here" in table([entry])
    assert "NO" not in table([entry])


def test_sides_take_turns_and_medians_are_compared():
    calls = []

    def side(name, values):
        return lambda: calls.append(name) or values.pop(0)

    found = in_turns({"a": side("a", [1.0, 9.0, 2.0]), "b": side("b", [4.0, 4.0, 1.0])}, 3)
    assert calls == ["a", "b", "b", "a", "a", "b"]
    assert median_ratio(found["a"], found["b"]) == 0.5


def test_blocks_are_disjoint_and_of_one_size():
    parts = workload.Blocks(4)(np.zeros(20, dtype=np.int64), 3, np.random.default_rng(0))
    assert [len(part) for part in parts] == [4, 4, 4]
    assert len({int(i) for part in parts for i in part}) == 12


@pytest.fixture(scope="module")
def work():
    cfg = workload.configure(
        None, "num_rounds=2", "client.device=cpu", "trainer=loop",
        num_clients=2, samples=60, public=70, test=50,
    )  # fmt: skip
    torch.set_num_threads(1)
    return cfg


def test_the_bare_loop_does_the_same_work(work):
    parts = build_parts(work)
    clients, shared = bare_task(parts.data, parts.models, work)
    sides = by_rounds(work, clients, shared)
    assert set(sides) == {"fedfuse", "bare", "tuned"}
    for side in sides.values():
        # Two clients x 50 test samples: one sample apart would be 0.01.
        assert side.accuracy == pytest.approx(sides["fedfuse"].accuracy, abs=0.011)
        assert len(side.seconds) == len(side.cpu_seconds) == 2


def test_batching_launches_as_many_kernels_for_few_clients_as_for_many():
    few, many = batched.launches(2), batched.launches(6)
    assert many["loop"] == 3 * few["loop"]
    assert many["batched"] == few["batched"]


def test_the_command_knows_its_benchmarks_and_rows_are_plain_json(tmp_path):
    file = tmp_path / "rows.json"
    command = [sys.executable, "-m", "experiments.benchmarks", "nonsense", "--json", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(workload.__file__).parents[2], check=False
    )
    assert done.returncode == 2
    assert "no benchmark 'nonsense'" in done.stderr
    assert not file.exists()
    entry = row("x", "key", "what", 0.5, "x", bar=1.0)
    assert json.loads(json.dumps(entry)) == entry
