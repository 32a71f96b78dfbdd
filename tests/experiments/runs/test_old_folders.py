"""Folders that a version from before modules moved left: they resume, report and go on.

``data/before_the_move.tar.xz`` was written by revision 151619c: a run that was killed in its third
round, the same run unbroken, a sweep over ``sharpen=none,era,power`` that was killed in its second
run, and what the unbroken sweep measured. Their configurations name parts that lie elsewhere now
(``clients.pretrain.Pretraining``, ``fedfuse.density.KuLSIFSelector``).
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from experiments.report.command import main as report
from experiments.run import main

KEPT = Path(__file__).parent / "data" / "before_the_move.tar.xz"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(KEPT) as tar:
        tar.extractall(tmp_path, filter="data")
    return tmp_path


def check_same(ours: Path, theirs: Path, made: dict[str, Any]) -> None:
    """Fail unless metrics are the same, to the bit on the kind of machine that they come from."""
    here = (torch.__version__, torch.backends.cpu.get_cpu_capability())
    exact = here == (made["torch"], made["cpu"])
    mine, other = pq.read_table(ours).to_pylist(), pq.read_table(theirs).to_pylist()
    assert len(mine) == len(other) > 0
    for row, expected in zip(mine, other, strict=True):
        value, wanted = row.pop("value"), expected.pop("value")
        assert row == expected
        if not exact:  # an accuracy of 30 samples may lose one
            wanted = pytest.approx(wanted, rel=1e-3, abs=0.04, nan_ok=True)
        assert value == wanted or value != value != wanted, row


def made(old: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old / "made.json").read_text())
    return found


def test_a_killed_run_ends_with_the_metrics_of_the_version_that_began_it(old: Path) -> None:
    text = (old / "killed" / "config.yaml").read_text()
    assert "clients.pretrain.Pretraining" in text
    assert "fedfuse.density.KuLSIFSelector" in text
    assert main([f"resume={old / 'killed'}"]) == 0
    for name in ("metrics.parquet", "baseline.parquet"):
        check_same(old / "killed" / name, old / "finished" / name, made(old))
    one, other = (load_file(old / run / "weights.safetensors") for run in ("killed", "finished"))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(value, other[key])


def test_a_sweep_goes_on_with_the_run_that_was_killed_and_the_one_that_never_began(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (old / "sweep" / "0-selective_fd-seed7" / "run.json").read_bytes()
    assert main([f"resume={old / 'sweep'}"]) == 0
    assert "1 are done, 2 to run" in capsys.readouterr().out
    assert (old / "sweep" / "0-selective_fd-seed7" / "run.json").read_bytes() == first
    for number in (1, 2):
        ours = old / "sweep" / f"{number}-selective_fd-seed7" / "metrics.parquet"
        check_same(ours, old / "expected" / f"{number}.parquet", made(old))
    events = (old / "sweep" / "2-selective_fd-seed7" / "events.jsonl").read_text()
    assert '"phase", "arm": "local"' not in events, "the old sweep's baseline is found"


def test_what_has_finished_is_reported(old: Path) -> None:
    page = old / "page.html"
    assert report([str(old / "finished"), str(old / "sweep"), "-o", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "selective_fd" in text
    assert "sharpen" in text
