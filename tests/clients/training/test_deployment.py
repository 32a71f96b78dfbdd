"""What clients deploy beside what they train: local twins, mixtures, and the guards that choose."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.training import evaluation
from clients.training.answers import Answers
from clients.training.evaluation import Evaluation
from experiments.results import Arm, Run, read_run
from experiments.run import main
from fedfuse.guard import Choice
from fedfuse.train.trainer import Student

TESTS = ("own", "global", "val")
SKEWED = {
    "dataset": "synthetic",
    "dataset.noise": "1.5",
    "dataset.num_train": "900",
    "model": "mlp",
    "model.hidden": "16",
    "method": "mean",
    "num_clients": "3",
    "num_rounds": "3",
    "public.size": "100",
    "partitioner": "dirichlet",
    "partitioner.alpha": "1.0",
    "evaluation.test_samples": "200",
    "guard": "ensemble",
}


def run(folder: Path, **changes: str) -> Run:
    lines = [f"{key}={value}" for key, value in {**SKEWED, **changes}.items()]
    assert main([*lines, f"hydra.run.dir={folder}"]) == 0
    return read_run(folder)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory.mktemp("deployed") / "run")


def shares(arm: Arm) -> list[tuple[str, np.ndarray]]:
    return [(name, arm.at(f"deployed_{name}")[1:]) for name in ("own", "global")]


def test_a_twin_is_its_client_of_the_local_arm_in_every_round(guarded: Run) -> None:
    assert guarded.baseline is not None
    for name in TESTS:
        twin, alone = (
            guarded.arm.at(f"accuracy_{name}_local"),
            guarded.baseline.at(f"accuracy_{name}"),
        )
        assert np.isnan(twin[0]).all()  # nothing has been fused in the warm-up round
        np.testing.assert_array_equal(twin[1:], alone[1:])
    assert (guarded.arm.at("accuracy_own_unguarded") != guarded.arm.at("accuracy_own_local")).any()


def test_what_is_trained_and_shared_is_that_of_a_run_without_a_guard(
    guarded: Run, tmp_path: Path
) -> None:
    plain = run(tmp_path / "plain", guard="none", baseline="none").arm
    for name in ("own", "global", "val"):
        learned = guarded.arm.at(f"accuracy_{name}_unguarded")[1:]
        np.testing.assert_array_equal(learned, plain.at(f"accuracy_{name}")[1:])
    for name in ("samples", "steps"):
        spent = guarded.arm.at(name, "spent")
        np.testing.assert_array_equal(spent, plain.at(name, "spent"))
        twins, alone = guarded.arm.at(f"twin_{name}", "spent"), guarded.baseline.at(name, "spent")
        np.testing.assert_array_equal(twins, alone)  # a second local training, and told as such


def test_deployed_is_what_the_share_says(guarded: Run) -> None:
    seen = set()
    for name, share in shares(guarded.arm):
        seen |= set(share.ravel())
        test = "accuracy_own" if name == "own" else "accuracy_global"
        for end, other in ((0.0, "local"), (1.0, "unguarded")):
            at_end = share == end
            deployed, one = guarded.arm.at(test)[1:], guarded.arm.at(f"{test}_{other}")[1:]
            np.testing.assert_array_equal(deployed[at_end], one[at_end])
    assert seen <= {0.0, 0.25, 0.5, 0.75, 1.0}
    assert len(seen) > 1
    bits = guarded.answers["method"]["accuracy_own"]
    right = np.unpackbits(bits, axis=1).sum(axis=1) / guarded.test_sizes("accuracy_own")
    np.testing.assert_allclose(right, guarded.arm.last("accuracy_own"))


def test_with_the_prior_the_twin_answers_the_balanced_test_without_it(tmp_path: Path) -> None:
    found = run(tmp_path / "run", method="mean_adjusted", **{"guard.grid": "[0.0]"})
    assert found.baseline is not None
    twin, alone = found.arm, found.baseline
    for name in ("own", "val"):
        ours, theirs = twin.at(f"accuracy_{name}_local"), alone.at(f"accuracy_{name}")
        np.testing.assert_array_equal(ours[1:], theirs[1:])
    plain, post_hoc = alone.at("accuracy_global"), alone.at("accuracy_global_adjusted")
    np.testing.assert_array_equal(twin.at("accuracy_global_local")[1:], plain[1:])
    # Where the guard goes back to it, its logits are freed of the prior.
    back = twin.at("deployed_global")[1:] == 0
    np.testing.assert_array_equal(twin.at("accuracy_global")[1:][back], post_hoc[1:][back])
    assert back.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"client.state": "disk", "engine.num_nodes": "3"},
        {"evaluation.every": "3"},
        {"baseline": "none", "checkpoint.every": "0"},
    ],
    ids=["on disk", "evaluated once", "no baseline"],
)
def test_where_states_wait_and_when_they_are_tested_changes_nothing(
    guarded: Run, tmp_path: Path, changes: dict[str, str]
) -> None:
    other = run(tmp_path / "other", **changes)
    for name in (
        "accuracy_own",
        "loss_own",
        "accuracy_global",
        "deployed_own",
        "accuracy_own_local",
    ):
        np.testing.assert_array_equal(other.arm.last(name), guarded.arm.last(name))


def test_all_clients_at_once_agree_up_to_rounding(guarded: Run, tmp_path: Path) -> None:
    batched = run(tmp_path / "batched", trainer="batched", baseline="none").arm
    for name in ("accuracy_own_local", "accuracy_own_unguarded"):
        np.testing.assert_allclose(batched.at(name)[1:], guarded.arm.at(name)[1:], atol=0.02)


def test_of_very_many_clients_some_are_judged_at_a_time(
    guarded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answers = [], Evaluation.answers

    def counted(self: Evaluation, some: Sequence[Student], *device: torch.device) -> Answers:
        asked.append(len(some))
        return answers(self, some, *device)

    monkeypatch.setattr(Evaluation, "answers", counted)
    one_client = 2 * (200 + 100) * 10  # both models' answers to the tests and the public samples
    monkeypatch.setattr(evaluation, "MOST_LOGITS", 2 * one_client)
    batched = run(tmp_path / "batched", trainer="batched", baseline="none").arm
    assert asked[1:] == [3, 2, 2, 1, 1] * 2, (
        "after training all, then both models of two and of one"
    )
    for name in ("accuracy_own", "accuracy_own_local", "deployed_own"):
        np.testing.assert_allclose(batched.at(name)[1:], guarded.arm.at(name)[1:], atol=0.02)


@pytest.mark.parametrize(
    ("every", "budget"),
    [("keep", "samples"), ("reset", "rounds"), ("separate", "optimiser_steps")],
)
def test_twins_follow_local_training_whatever_is_spent_and_with_dropout(
    tmp_path: Path, every: str, budget: str
) -> None:
    found = run(
        tmp_path / "run",
        **{"client.optimizer_state": every, "budget": budget, "num_rounds": "2"},
        **{"num_clients": "2", "model._target_": f"{__name__}.dropping", "model": "custom"},
    )
    np.testing.assert_array_equal(
        found.arm.last("accuracy_val_local"), found.baseline.last("accuracy_val")
    )


def test_who_rests_is_tested_with_what_it_deploys(tmp_path: Path) -> None:
    found = run(
        tmp_path / "run",
        **{"participation": "uniform", "participation.fraction": "0.5", "num_clients": "4"},
        **{"pretrain": "public", "pretrain.epochs": "1"},
    )
    assert np.isfinite(found.arm.last("deployed_own")).all()
    np.testing.assert_array_equal(
        found.arm.last("accuracy_own_local"), found.baseline.last("accuracy_own")
    )


@pytest.mark.parametrize("guard", ["sequential", "ensemble"])
def test_one_client_and_one_validation_sample_decide_nothing_and_work(
    tmp_path: Path, guard: str
) -> None:
    found = run(
        tmp_path / "run",
        guard=guard,
        num_clients="1",
        val_fraction="0.001",
        num_rounds="2",
    )
    assert found.validation_samples == 1
    assert 0 <= found.arm.last("deployed_own")[0] <= 1
    if guard == "sequential":
        assert found.arm.last("decided_own")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["guard=sequential", "guard.alpha=0"], "'alpha' parameter of Sequential"),
        (["guard=sequential", "guard.alpha=nan"], "above 0 and below 1"),
        (["guard=sequential", "guard.alpha=true"], "got True"),
        (["guard=sequential", "val_fraction=0"], "nobody holds any back"),
        (["client.guard=sequential", "method=fedavg"], "guard=sequential, exchange=averaged"),
        (["guard=sequentail"], "Did you mean 'sequential'?"),
        (["guard.alpha=0.1"], "guard"),
        (["guard=sequential", "guard.public_fold=0.2", "public=noise"], "labels that no model has"),
        (["guard=sequential", "guard.public_fold=0.2", "pretrain=public"], "pretrain=pretraining"),
    ],
)
def test_a_mistake_costs_one_message_before_any_training(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = dict(word.split("=", 1) for word in words)
    kept = {k: v for k, v in SKEWED.items() if k not in changes and k != "guard"}
    lines = [f"{key}={value}" for key, value in {**kept, **changes}.items()]
    assert main([*lines, f"hydra.run.dir={tmp_path / 'run'}"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert says in said
    assert said.count("error:") == 1
    assert not (tmp_path / "run" / "metrics.parquet").exists()


def undecided(own, balanced, num_clients):
    return 0.5


def test_a_guard_of_ones_own_decides_and_says_what_it_has_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run(tmp_path / "run", guard="custom", **{"guard._target_": f"{__name__}.always_local"})
    np.testing.assert_array_equal(found.arm.last("deployed_own"), np.zeros(3))
    assert (found.path / "models" / "0.local.safetensors").exists()
    lines = {**SKEWED, "guard": "custom", "guard._target_": f"{__name__}.undecided"}
    words = [f"{key}={value}" for key, value in lines.items()]
    assert main([*words, f"hydra.run.dir={tmp_path / 'wrong'}"]) == 2
    assert "undecided does not say what answers two questions" in capsys.readouterr().err


def always_local(own, balanced, num_clients):
    """Return what deploys nothing that was fused."""
    return Choice(0.0), Choice(0.0)


def dropping(input_shape, num_classes, hidden):
    """Return a network that drops a half of what it sees while it learns."""
    from torch import nn

    size = int(np.prod(input_shape))
    layers = nn.Flatten(), nn.Linear(size, hidden), nn.Dropout(0.5), nn.Linear(hidden, num_classes)
    return nn.Sequential(*layers)


def test_the_configuration_of_a_run_names_its_guard(guarded: Run) -> None:
    assert guarded.config["guard"]["_target_"] == "fedfuse.guard.Ensemble"
    assert json.loads((guarded.path / "run.json").read_text())["status"] == "finished"
