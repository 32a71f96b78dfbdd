"""The whole run, in this process, on real digits: what it writes and what it must not depend on."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from clients.state.states import ClientStates
from experiments.run import main

QUICK = {
    "num_clients": "4",
    "num_rounds": "3",
    "public.size": "100",
    "model": "mlp",
    "evaluation.test_samples": "200",
}


def quick(*overrides: str) -> list[str]:
    chosen = dict(line.split("=", 1) for line in overrides)
    return [f"{key}={value}" for key, value in {**QUICK, **chosen}.items()]


def run(folder: Path, *overrides: str) -> Path:
    assert main([*quick(*overrides), f"hydra.run.dir={folder}"]) == 0
    return folder


def rows(folder: Path, name: str = "metrics") -> list[dict[str, object]]:
    return pq.read_table(folder / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def knfu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("knfu") / "run")


def test_the_run_folder_holds_the_files_and_metrics_of_the_design(knfu):
    assert {file.name for file in knfu.iterdir()} >= {
        "config.yaml",
        "run.json",
        "metrics.parquet",
        "baseline.parquet",
        "answers.safetensors",
        "weights.safetensors",
        "partition.parquet",
        "summary.json",
        "events.jsonl",
    }
    metrics = rows(knfu)
    assert set(metrics[0]) == {"round", "client_id", "phase", "metric", "value"}
    by_phase: dict[object, set[object]] = {}
    for row in metrics:
        by_phase.setdefault(row["phase"], set()).add(row["metric"])
    kinds = ("accuracy", "loss", "ece")
    accuracies = {f"{kind}_{test}" for kind in kinds for test in ("own", "global")}
    accuracies |= {"accuracy_absent", "accuracy_val", "loss_val"}  # two clients lack a class
    assert by_phase["local"] == by_phase["fused"] == accuracies
    sizes = {"bytes_up", "bytes_down", "bytes_down_broadcast"}
    shown = {"epd_classes", "epd_distance", "entropy", "teacher_entropy", "disagreement"}
    shown.add("pairwise_disagreement")
    assert by_phase["fuse"] == {"self_weight", "effective_neighbours", *sizes, *shown}
    assert json.loads((knfu / "run.json").read_text())["status"] == "finished"


def test_weights_are_saved_per_fused_round_and_their_rows_sum_to_one(knfu):
    weights = load_file(knfu / "weights.safetensors")["weights"]
    assert weights.shape == (2, 4, 4)  # three rounds, the first a warm-up
    torch.testing.assert_close(weights.sum(dim=2), torch.ones(2, 4))


def test_bytes_are_the_arrays_that_were_exchanged(knfu):
    values = {(r["round"], r["metric"]): r["value"] for r in rows(knfu) if r["client_id"] == -1}
    logits = 4 * 100 * 10 * 4  # clients x samples x classes x bytes
    assert values[1, "bytes_up"] == 0  # warm-up: nothing is shared
    assert values[2, "bytes_up"] == logits + 4 * 8
    assert values[2, "bytes_down"] == logits


def test_the_baseline_plays_the_same_first_round(knfu):
    first = [r for r in rows(knfu) if r["round"] == 1 and r["phase"] != "fuse"]
    twin = [r for r in rows(knfu, "baseline") if r["round"] == 1 and r["phase"] != "fuse"]
    assert first == twin


def test_the_same_seed_gives_the_same_bytes(knfu, tmp_path):
    again = run(tmp_path / "again")
    for name in ("metrics.parquet", "baseline.parquet", "weights.safetensors"):
        assert (again / name).read_bytes() == (knfu / name).read_bytes(), name


def test_another_seed_gives_other_results(knfu, tmp_path):
    assert rows(run(tmp_path / "other", "seed=1", "baseline=none")) != rows(knfu)


@pytest.mark.parametrize("nodes", [2, 4])
def test_the_number_of_nodes_does_not_change_a_bit(knfu, tmp_path, nodes):
    folder = run(tmp_path / "nodes", f"engine.num_nodes={nodes}", "baseline=none")
    assert (folder / "metrics.parquet").read_bytes() == (knfu / "metrics.parquet").read_bytes()


def test_beta_zero_is_bitwise_the_plain_mean(tmp_path):
    flat = run(tmp_path / "flat", "scorer.beta=0", "baseline=none")
    mean = run(tmp_path / "mean", "method=mean", "baseline=none")
    assert rows(flat) == rows(mean)


def test_a_very_large_beta_is_self_distillation(tmp_path):
    folder = run(tmp_path / "self", "scorer.beta=1e7", "baseline=none")
    weights = load_file(folder / "weights.safetensors")["weights"]
    assert torch.equal(weights, torch.eye(4).expand(2, 4, 4))


def test_a_slot_can_be_overridden_after_the_method(tmp_path):
    folder = run(
        tmp_path / "cross",
        "method=dsfl",
        "scorer=knfu",
        "neighbours=top_k",
        "neighbours.k=2",
        "sharpen=power",
        "baseline=none",
    )
    weights = load_file(folder / "weights.safetensors")["weights"]
    assert ((weights > 0).sum(dim=2) <= 2).all()


def test_a_label_histogram_leaves_a_client_only_by_permission(tmp_path, capsys):
    assert main([*quick("scorer.epd=label_histogram"), f"hydra.run.dir={tmp_path / 'no'}"]) == 2
    assert "client.share_class_distribution=true" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    run(
        tmp_path / "yes",
        "scorer.epd=label_histogram",
        "client.share_class_distribution=true",
        "baseline=none",
    )


def test_local_training_takes_the_steps_that_fusion_would_have_cost(tmp_path):
    equal = run(tmp_path / "equal", "method=local", "budget=optimiser_steps")
    rounds = run(tmp_path / "rounds", "method=local", "budget=rounds")
    moved = {(r["round"], r["client_id"]): r["value"] for r in rows(equal) if r["phase"] == "fused"}
    still = {
        (r["round"], r["client_id"]): r["value"] for r in rows(rounds) if r["phase"] == "fused"
    }
    assert moved[1, 0] == still[1, 0]  # the warm-up round has no distillation to make up for
    assert moved[3, 0] != still[3, 0]
    for row in rows(rounds):
        if row["phase"] == "fused":
            twin = {**row, "phase": "local"}
            assert twin in rows(rounds)


def test_what_clients_held_is_gone_with_their_run_and_waits_for_no_collector(tmp_path, monkeypatch):
    begin, held = ClientStates.__init__, weakref.WeakSet()
    begun = []

    def watched(self, *given):
        begin(self, *given)
        held.add(self)
        begun.append(True)

    monkeypatch.setattr(ClientStates, "__init__", watched)
    gc.collect()
    gc.disable()
    try:
        run(tmp_path / "run", "num_rounds=2", "dataset=synthetic")
        left = len(held)
    finally:
        gc.enable()
    assert begun
    assert left == 0
