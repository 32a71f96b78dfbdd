"""The GPU kit's dry run: every section on the CPU, as small as it goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks.gpu.sections import SECTIONS

KIT = [sys.executable, "-m", "experiments.benchmarks.gpu", "--device", "cpu", "--tiny"]


def run(out: Path, *words: str) -> tuple[subprocess.CompletedProcess[str], list[dict]]:
    command = [*KIT, "--repeats", "1", "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, json.loads((out / "gpu.json").read_text())["rows"]


@pytest.mark.slow
def test_every_section_says_what_it_found(tmp_path: Path) -> None:
    done, rows = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {row["key"]: row["value"] for row in rows}
    assert found["tests_passed"] == 1
    expected = {
        "lenet", "lenet_speedup", "lenet_bare", "lenet_patches", "lenet_patches_bf16", "mlp",
        "mlp_loop", "resnet8_fp32", "resnet8_bf16", "packed", "kernel_0", "whole_run",
    }  # fmt: skip
    assert expected <= {key for key, value in found.items() if value is not None and value > 0}
    assert {path.stem for path in tmp_path.glob("*.log")} == {s.name for s in SECTIONS}
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
