"""A client that its validation data warns goes back to what it was before the distillation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.results import Arm, read_run
from experiments.run import main

# Clients of disjoint classes: the mean of all teachers harms some; distilled for long, everybody.
DISJOINT = {
    "dataset": "synthetic",
    "dataset.noise": "1.5",
    "model": "mlp",
    "method": "mean",
    "num_clients": "4",
    "num_rounds": "3",
    "public.size": "100",
    "partitioner": "label_groups",
    "partitioner.num_groups": "4",
    "client.distill_epochs": "2",
    "client.private_weight": "0",
    "client.guard": "validation",
    "baseline": "none",
    "evaluation.test_samples": "200",
}
HARMFUL = {"dataset.noise": "0.25", "client.distill_epochs": "15"}
MODELS = ("accuracy_own", "accuracy_global", "accuracy_val", "loss_own", "loss_val")


def arm(folder: Path, changes: dict[str, str] | None = None) -> Arm:
    lines = [f"{key}={value}" for key, value in {**DISJOINT, **(changes or {})}.items()]
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    return read_run(folder).arm


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Arm:
    return arm(tmp_path_factory.mktemp("guard") / "run")


def test_every_decision_follows_the_validation_data(guarded: Arm) -> None:
    kept, before = guarded.at("kept"), guarded.at("accuracy_val", "local")
    assert np.isnan(kept[0]).all()  # nothing was distilled in the warm-up round
    refused = kept[1:] == 0
    assert refused.any()
    # Who went back is to the bit what it was after local training, and tells what it refused.
    for name in MODELS:
        local, fused = guarded.at(name, "local")[1:], guarded.at(name)[1:]
        np.testing.assert_array_equal(local[refused], fused[refused])
    assert (guarded.at("accuracy_val")[1:] >= before[1:]).all()
    own, learned = guarded.at("accuracy_own")[1:], guarded.at("accuracy_own_unguarded")[1:]
    np.testing.assert_array_equal(own[~refused], learned[~refused])
    assert (own[refused] != learned[refused]).any()


def test_optimiser_goes_back_too(tmp_path: Path) -> None:
    """With every distillation refused, what is left is local training, to the bit."""
    guarded = arm(tmp_path / "guarded", HARMFUL)
    alone = arm(tmp_path / "local", {**HARMFUL, "method": "local", "budget": "rounds"})
    assert (guarded.at("kept")[1:] == 0).all()
    own, learned = guarded.at("accuracy_own")[1:], guarded.at("accuracy_own_unguarded")[1:]
    assert (own > learned).all()  # test data agree that it was right to refuse
    np.testing.assert_array_equal(guarded.at("loss_own"), alone.at("loss_own"))


def test_three_validation_samples_decide_nothing(tmp_path: Path) -> None:
    found = arm(tmp_path / "run", {**HARMFUL, "val_fraction": "0.008", "num_rounds": "2"})
    assert read_run(tmp_path / "run").validation_samples == 4 * 3
    learned, local = found.at("accuracy_own_unguarded")[1], found.at("accuracy_own", "local")[1]
    assert (learned < local).any()
    assert (found.at("kept")[1] == 1).all()


def test_states_on_disk_and_all_clients_at_once_decide_alike(guarded: Arm, tmp_path: Path) -> None:
    on_disk = arm(tmp_path / "disk", {"client.state": "disk"})
    batched = arm(tmp_path / "batched", {"trainer": "batched"})
    rare = arm(tmp_path / "rare", {"evaluation.every": "3"})
    np.testing.assert_array_equal(guarded.at("loss_own"), on_disk.at("loss_own"))
    np.testing.assert_array_equal(guarded.last("loss_own"), rare.last("loss_own"))
    np.testing.assert_array_equal(guarded.at("kept"), batched.at("kept"))
    np.testing.assert_allclose(guarded.at("loss_own"), batched.at("loss_own"), rtol=1e-3)
