"""Every benchmark still fits what it measures: the smallest form of each of its pieces."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from experiments.benchmarks import __main__ as command
from experiments.benchmarks import (
    batched,
    fusion,
    mechanisms,
    merges,
    own_time,
    pack,
    scaling,
    startup,
    workload,
)
from experiments.benchmarks.idle import idle_serial
from experiments.benchmarks.rows import peak_bytes, row
from experiments.config import compose

ROOT = Path(workload.__file__).parents[2]


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", command.NAMES)
def test_every_benchmark_is_there(name):
    assert callable(importlib.import_module(f"experiments.benchmarks.{name}").measure)


def test_idle_clients_answer():
    seconds = idle_serial(3, 2)
    assert len(seconds) == 2
    assert all(0 < each < 5 for each in seconds)


def test_the_first_step_of_a_command_is_timed():
    wall, cpu = startup._first_step()
    assert 0 < cpu < 60
    assert 0 < wall < 120


def test_a_size_tells_what_each_round_cost(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scaling", "3", "2"])
    scaling.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["seconds"]) == 2
    assert len(found["peak"]) >= 2


def test_fusion_is_timed_beside_a_plain_product():
    assert fusion._fuse(20, torch.float16, "cpu", 1)["seconds"] > 0
    assert fusion._gemm(50, 1)["share"] > 0


def test_mechanisms_are_timed_as_the_command_line_has_them():
    hydra = compose.open_hydra()
    fused = mechanisms.step(hydra, mechanisms.STEPS[-1])()
    assert fused.teachers.targets.shape == (100, 1_000, 10)
    losses = [mechanisms.lesson(hydra, name)() for name in ("kl", "taid")]
    assert all(0 < loss < 10 for loss in losses)
    assert losses[0] != losses[1]


def test_what_a_client_costs_beside_training_is_told_by_part(monkeypatch):
    monkeypatch.setattr(own_time, "CLIENTS", 12)
    (row,) = own_time.measure(argparse.Namespace(quick=False))
    assert row["value"] > 0
    parts = dict(part.rsplit(" ", 1) for part in row["note"].split(": ")[1].split(", "))
    assert {"steps", "tests", "checkpoint", "records", "messages and the rest"} <= parts.keys()
    assert all(float(took) >= 0 for took in parts.values())


def test_merges_are_timed_as_the_command_line_has_them():
    made = merges.round_of(compose.open_hydra(), "opcm")()
    assert [len(vector) for vector in made.teachers.vectors()] == [61_706] * 20


def test_packed_runs_launch_little_more_than_one():
    size = pack.Size(runs=4, clients=1, samples=8, public=8, test=8)
    counted = pack.operations(size)
    assert counted["apart"] / counted["packed"] > 3
    assert batched.setup(count=3, repeats=1) > 0


def test_a_process_does_not_inherit_the_peak_of_the_one_that_started_it():
    ballast = bytearray(300 * 2**20)
    code = "from experiments.benchmarks.rows import peak_bytes; print(peak_bytes())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    assert 0 < int(done.stdout) < 150 * 2**20
    assert peak_bytes() > len(ballast)


def test_a_broken_benchmark_takes_nobody_with_it(monkeypatch, tmp_path, capsys):
    def breaks(args):
        raise RuntimeError("no such luck")

    found = row("startup", "key", "a figure", 0.5, "x", bar=1.0)
    monkeypatch.setattr(startup, "measure", lambda args: [found])
    monkeypatch.setattr(pack, "measure", breaks)
    file = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "pack", "startup", "--json", str(file)])
    assert command.main() == 1
    said = capsys.readouterr()
    assert "a figure  0.5 x  ≤ 1  yes" in said.out
    assert "not measured" in said.out
    assert "it broke off: RuntimeError: no such luck" in said.out
    assert [entry["key"] for entry in json.loads(file.read_text())["rows"]] == [
        "pack_broken",
        "key",
    ]


def test_what_a_gpu_needs_is_torch_and_numpy_alone():
    blocked = (
        "import sys; sys.modules.update(dict.fromkeys(('flwr', 'hydra', 'omegaconf', 'rich')))"
    )
    code = f"{blocked}; from experiments.benchmarks import batched, pack"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)
