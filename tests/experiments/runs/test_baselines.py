"""Within a sweep, methods share the baseline of their federation, and only then."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.run import main
from fedfuse.types import MetricRow, RoundRecord

SWEEP = [
    "-m",
    "method=mean,knfu",
    "num_clients=3",
    "num_rounds=2",
    "public.size=100",
    "model=mlp",
    "evaluation.test_samples=200",
]


def trained(run: Path) -> set[str]:
    """Return the arms that took steps in this run."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return {event["arm"] for event in events if event["event"] == "phase"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("sweep") / "sweep"
    assert main([*SWEEP, "client.batch_size=32,16", f"hydra.sweep.dir={folder}"]) == 0
    return sorted(path for path in folder.iterdir() if (path / "run.json").exists())


def test_a_federation_trains_its_baseline_once(sweep):
    assert [trained(run) for run in sweep] == [
        {"local", "mean"},  # batch size 32
        {"local", "mean"},  # batch size 16: another federation
        {"knfu"},
        {"knfu"},
    ]


def test_the_shared_baseline_is_the_one_that_the_run_would_have_trained(sweep, tmp_path):
    alone = tmp_path / "alone"
    changed = ["method=knfu" if line.startswith("method=") else line for line in SWEEP[1:]]
    assert main([*changed, f"hydra.run.dir={alone}"]) == 0
    for name in ("metrics.parquet", "baseline.parquet", "answers.safetensors"):
        assert (alone / name).read_bytes() == (sweep[2] / name).read_bytes()


def test_records_survive_the_store_to_the_bit(tmp_path):
    from experiments.runs import baselines

    record = RoundRecord(
        1, (MetricRow(1, 0, "local", "accuracy_own", 0.1 + 0.2),), None, {"train": 1 / 3}
    )
    answers = {"accuracy_own": torch.tensor([[255, 128]], dtype=torch.uint8)}
    baselines.save(tmp_path / "store", "name", [record, replace(record, right=answers)])
    first, second = baselines.load(tmp_path / "store", "name")
    assert first == record
    assert torch.equal(second.right["accuracy_own"], answers["accuracy_own"])
    assert baselines.load(tmp_path / "store", "other") is None
