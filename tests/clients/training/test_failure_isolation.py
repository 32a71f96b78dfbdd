"""One client's failure is its own, also where many clients train as one batch."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from experiments.run import main
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.trainer import LoopTrainer

QUICK = [
    "dataset=synthetic", "num_clients=4", "num_rounds=3", "public.size=60", "baseline=none",
    "evaluation.test_samples=100", "model=mlp", "server.fail_fast=false",
]  # fmt: skip
BROKEN = 2


def run(folder: Path, *lines: str) -> tuple[dict[tuple, float], list[dict]]:
    assert main([*QUICK, *lines, f"hydra.run.dir={folder}"]) == 0
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    failures = json.loads((folder / "run.json").read_text())["failures"]
    return {
        (r["round"], r["client_id"], r["phase"], r["metric"]): r["value"] for r in rows
    }, failures


@pytest.fixture(autouse=True)
def broken(monkeypatch):
    """Let a client fail in the second round's training, after everybody's steps were taken."""
    for trainer in (BatchedTrainer, LoopTrainer):

        def fit(self, students, works, calls=[0], inner=trainer.fit):  # noqa: B006
            losses = inner(self, students, works)
            mine = [s.client_id for s in students].count(BROKEN)
            calls[0] += mine
            # Its second time is round 2's training; with others and then alone.
            if mine and calls[0] in ((2, 3) if isinstance(self, BatchedTrainer) else (2,)):
                raise RuntimeError("a hole in its data")
            return losses

        monkeypatch.setattr(trainer, "fit", fit)


@pytest.mark.parametrize("state", ["auto", "context"])
def test_the_others_go_on_as_if_they_had_trained_one_by_one(tmp_path, state, capsys):
    loop, alone = run(tmp_path / "loop", "trainer=loop")
    batched, together = run(tmp_path / "batched", "trainer=batched", f"client.state={state}")
    for failures in (alone, together):
        assert [(f["client_id"], f["round"], f["phase"]) for f in failures] == [(2, 2, "train")]
        assert "a hole in its data" in failures[0]["error"]
    assert batched.keys() == loop.keys()
    for key, value in loop.items():
        if key[1] != BROKEN:  # it goes on from where its failure left it
            assert batched[key] == pytest.approx(value, abs=0.02), key
    assert "clients that rounds went on without" in capsys.readouterr().out
