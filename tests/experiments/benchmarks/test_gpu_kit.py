"""The GPU kit's dry run: every section on the CPU, as small as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from experiments.benchmarks.gpu.sections import SECTIONS
from experiments.benchmarks.gpu.tiles import LAYERS, convolve_and_pool

KIT = [sys.executable, "-m", "experiments.benchmarks.gpu", "--device", "cpu", "--tiny"]


def run(out: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    command = [*KIT, "--repeats", "1", "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads((out / "gpu.json").read_text())["rows"]


FOUND = {
    "correctness": {"tests_passed"},
    "lenet": {"lenet", "lenet_speedup", "lenet_bare"},
    "lenet_grouped": {"lenet_bf16", "lenet_grouped"},
    "fusion_100k": set(),
    "fusion_1m": set(),
    "merging": {"pairs_256_2048", "merging_kernel_0"},
    "mlp": {"mlp", "mlp_loop"},
    "resnet8": {"resnet8_fp32", "resnet8_bf16"},
    "packed": {"packed"},
    "profile": {"lenet_kernel_0"},
    "tiles": {"tiles_first_now", "tiles_first_14", "tiles_second_2"},
    "whole_run": {"whole_run"},
}
"""Rows of each section that have a value on a CPU too."""


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_a_section_says_what_it_found(section) -> None:
    rows = list(section.measure(device=torch.device("cpu"), tiny=True, repeats=1))
    found = {row["key"]: row["value"] for row in rows}
    assert found
    assert FOUND[section.name] <= {
        k for k, value in found.items() if value is not None and value > 0
    }
    assert found.get("tests_passed", 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked",
    [
        ("mlp", "fusion_100k"),
        pytest.param(tuple(FOUND), marks=pytest.mark.thinned(keep=0)),  # each a process of its own
    ],
    ids=["two", "all"],
)
def test_the_command_writes_what_its_sections_find(tmp_path: Path, asked: tuple[str, ...]) -> None:
    done, rows = run(tmp_path, "--minutes", "60", "--only", *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["key"] for row in rows if row["value"] is not None and row["value"] > 0}
    assert set().union(*(FOUND[name] for name in asked)) <= found
    assert {path.stem for path in tmp_path.glob("*.log")} == set(asked)
    assert "client-rounds/s" in (tmp_path / "gpu.txt").read_text()


def test_a_section_without_time_is_named_and_the_others_are_not_lost(tmp_path: Path) -> None:
    done, rows = run(tmp_path, "--minutes", "0.01", "--only", "mlp", "packed")
    assert done.returncode == 1
    assert [row["key"] for row in rows] == ["broken_mlp", "broken_packed"]
    assert "no time was left" in rows[0]["note"]


def test_a_section_that_breaks_off_spares_the_next(tmp_path: Path) -> None:
    # A device that torch does not know breaks off every section that asks for it.
    command = [*KIT[:-3], "--device", "meta", "--tiny", "--repeats", "1", "--out", str(tmp_path)]
    done = subprocess.run([*command, "--only", "mlp", "packed"], capture_output=True, check=False)
    assert done.returncode == 1
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["key"] for row in rows] == ["broken_mlp", "broken_packed"]
    assert all("exit code 1" in row["note"] for row in rows)
    assert "Traceback" in (tmp_path / "mlp.log").read_text()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_tiles_are_a_convolution_and_its_pooling_ties_included(layer) -> None:
    """Small whole numbers: sums are exact, and many windows have several largest."""
    draw = torch.Generator().manual_seed(0)
    side = layer.size + 4 - 2 * layer.padding
    shapes = (4, layer.inputs, side, side), (layer.outputs, layer.inputs, 5, 5)
    leaves = [torch.randint(-1, 2, s, generator=draw).float().requires_grad_() for s in shapes]
    expected = F.max_pool2d(F.conv2d(*leaves, padding=layer.padding), 2)
    told = torch.randint(-3, 4, expected.shape, generator=draw)
    gradients = torch.autograd.grad((expected * told).sum(), leaves)
    for width in layer.widths:
        found = convolve_and_pool(*leaves, layer.padding, width)
        assert torch.equal(found, expected)
        again = torch.autograd.grad((found * told).sum(), leaves)
        assert all(map(torch.equal, again, gradients))
