"""Whole runs that use the clients' label priors: three arms, and nothing of a prior on the wire."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hydra._internal.hydra import Hydra

from clients.exchange.predictions import Predictions
from clients.node import Node
from clients.training.arm import TestPrior
from experiments.assembly.node import build_arms, build_node
from experiments.assembly.parts import build_parts
from experiments.config import compose
from experiments.run import main
from fedfuse.prior import log_prior
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.facts import Widened
from fedfuse.train.trainer import LoopTrainer
from fedfuse.types import KnowledgeBank
from fedfuse.wire.messages import Header
from server import loop
from tests.tiny import TINY

SKEWED = [
    *(line for line in TINY if not line.startswith("partitioner=")),
    "num_clients=3",
    "partitioner=dirichlet",
    "partitioner.alpha=0.3",
    "partitioner.min_samples=20",
]
LOCAL, ADJUSTED, METHOD = "baseline", "local_adjusted", "metrics"


def ran(folder: Path, *lines: str) -> Path:
    assert main([*SKEWED, *lines, f"hydra.run.dir={folder}"]) == 0
    return folder


def values(folder: Path, name: str) -> dict[tuple[Any, ...], float]:
    rows = pq.read_table(folder / f"{name}.parquet").to_pylist()
    return {(r["round"], r["client_id"], r["phase"], r["metric"]): r["value"] for r in rows}


@cache
def hydra() -> Hydra:
    return compose.open_hydra()


def node_of(*lines: str) -> Node:
    return build_node(build_parts(compose.configure([*SKEWED, *lines], hydra())), range(3))


@pytest.fixture(scope="module")
def adjusted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(tmp_path_factory.mktemp("prior") / "run", "method=mean_adjusted")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ran(tmp_path_factory.mktemp("prior") / "run", "method=mean")


def test_a_run_has_both_controls_and_each_is_what_it_would_be_alone(adjusted, plain, tmp_path):
    events = [json.loads(line) for line in (adjusted / "events.jsonl").read_text().splitlines()]
    assert events[0]["arms"] == ["local", "local_adjusted", "mean_adjusted"]
    # The baseline is that of any other method; what correcting afterwards gives is told beside it.
    local, own = values(adjusted, LOCAL), values(plain, LOCAL)
    more = {key for key in local if key[3] == "accuracy_global_adjusted"}
    assert len(more) == 2 * 2 * 3  # rounds, phases, clients
    assert {key: value for key, value in local.items() if key not in more} == own
    assert not any(key[3] == "accuracy_global_adjusted" for key in values(adjusted, METHOD))
    # The control is the method of its name.
    alone = ran(tmp_path / "alone", "method=local_adjusted")
    assert values(alone, METHOD) == values(adjusted, ADJUSTED)
    assert values(alone, LOCAL) == local
    assert not (alone / "local_adjusted.parquet").exists()
    learned = {key for key in local if key[3] == "loss_global"}
    assert all(local[key] != values(adjusted, ADJUSTED)[key] for key in learned)
    # All three take the same steps.
    steps = [
        {key: value for key, value in values(adjusted, name).items() if key[3] == "steps"}
        for name in (LOCAL, ADJUSTED, METHOD)
    ]
    assert steps[0] == steps[1] == steps[2] != {}
    assert ran(tmp_path / "none", "method=mean_adjusted", "baseline=none")
    assert values(tmp_path / "none", METHOD) == values(adjusted, METHOD)
    assert not list((tmp_path / "none").glob("*local*.parquet"))


def test_with_tau_zero_it_is_todays_run(plain, tmp_path):
    slots = ("local_loss=balanced_softmax", "extract=adjusted", "evaluation.prior=add")
    run = ran(tmp_path / "run", "method=mean", *slots, "prior.tau=0")
    assert values(run, METHOD) == values(plain, METHOD)
    shared = values(plain, LOCAL)
    for name in (LOCAL, ADJUSTED):
        assert {key: value for key, value in values(run, name).items() if key in shared} == shared


@pytest.mark.parametrize("rounds", [1, 3, 5])
def test_it_goes_on_from_each_of_its_arms(adjusted, tmp_path, monkeypatch, rounds):
    real, taken = loop.record, []

    def interrupt(*args: Any, **named: Any) -> Any:
        taken.append(args)
        if len(taken) == rounds + 1:
            raise KeyboardInterrupt
        return real(*args, **named)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(loop, "record", interrupt)
        lines = [*SKEWED, "method=mean_adjusted", f"hydra.run.dir={folder}"]
        assert main(lines) == 130
    assert main([f"resume={folder}"]) == 0
    for name in ("metrics", "baseline", "local_adjusted"):
        file = f"{name}.parquet"
        assert (folder / file).read_bytes() == (adjusted / file).read_bytes(), name
    for file in ("weights.safetensors", "answers.safetensors"):
        assert (folder / file).read_bytes() == (adjusted / file).read_bytes()


def test_methods_of_a_sweep_share_both_controls(adjusted, tmp_path):
    lines = [*SKEWED, "method=mean_adjusted,mean,local_adjusted"]
    assert main(["-m", *lines, f"hydra.sweep.dir={tmp_path / 'one'}"]) == 0
    trained = {}
    for run in sorted((tmp_path / "one").glob("*-*")):
        events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
        trained[run.name.split("-")[1]] = {e["arm"] for e in events if e["event"] == "phase"}
    assert trained == {
        "mean_adjusted": {"local", "local_adjusted", "mean_adjusted"},
        "mean": {"local", "mean"},  # its baseline does not tell what correcting it would give
        "local_adjusted": set(),
    }
    first, last = (next((tmp_path / "one").glob(f"{number}-*")) for number in (0, 2))
    for name in (LOCAL, ADJUSTED, METHOD):
        assert values(first, name) == values(adjusted, name)
    assert values(last, LOCAL) == values(adjusted, LOCAL)
    assert values(last, METHOD) == values(adjusted, ADJUSTED)


def test_nothing_of_a_prior_travels_but_logits_without_it():
    def sends(*lines: str) -> tuple[KnowledgeBank, torch.Tensor]:
        node = node_of("method=mean", *lines)
        arm = node.in_arm(Header("mean", 2, share=True, evaluate=False))
        held = [arm.student(client_id) for client_id in range(3)]
        return Predictions().share(held, arm.tools, 2), log_prior(
            node.inputs.class_counts(range(3))
        )

    plain, prior = sends()
    sent, _ = sends("extract=adjusted")
    torch.testing.assert_close(sent.logits, plain.logits - prior[:, None])
    assert not torch.allclose(sent.logits, plain.logits, atol=0.1)
    for name in ("client_ids", "num_examples"):
        assert torch.equal(getattr(sent, name), getattr(plain, name))
    for name in ("class_distribution", "confidence", "mask"):
        assert getattr(sent, name) is getattr(plain, name) is None
    balanced, _ = sends("extract=adjusted", "local_loss=balanced_softmax")
    assert torch.equal(balanced.logits, plain.logits)  # of models that nobody has trained yet


@pytest.mark.parametrize("use", ["none", "add", "subtract"])
def test_a_test_reads_the_prior_that_it_needs(use):
    node = node_of("method=mean", f"evaluation.prior={use}", "prior.tau=0.5")
    arm = node.in_arm(Header("mean", 1, share=False, evaluate=True))
    held = [arm.student(client_id) for client_id in range(3)]
    prior = 0.5 * log_prior(node.inputs.class_counts(range(3)))
    tested, validation = arm.evaluation(held), arm.evaluation.validation(held)
    data, size = node.data, len(node.data.test)
    for row, client in enumerate(data.clients):
        add, subtract = (prior[row] if use == word else 0 for word in ("add", "subtract"))

        def share(pool, index, shift, client=client, row=row):
            inputs, labels = node.inputs.rows(pool, index, client)
            answers = node.trainer.predict([held[row]], inputs, 50)[0] + shift
            loss = torch.nn.functional.cross_entropy(answers.double(), labels)
            return (answers.argmax(dim=1) == labels).numpy(), float(loss)

        own, own_loss = share(data.own_pool, client.test, add)
        balanced, balanced_loss = share(data.test, np.arange(size), -subtract)
        held_back, held_back_loss = share(data.train, client.val, add)
        metrics = tested[row].metrics
        assert metrics["accuracy_own"] == own.mean()
        assert metrics["accuracy_global"] == balanced.mean()
        assert metrics["accuracy_val"] == validation[row] == held_back.mean()
        assert metrics["loss_own"] == pytest.approx(own_loss, rel=1e-5)
        assert metrics["loss_global"] == pytest.approx(balanced_loss, rel=1e-5)
        assert metrics["loss_val"] == pytest.approx(held_back_loss, rel=1e-5)
        np.testing.assert_array_equal(tested[row].right_own, np.packbits(own))
        np.testing.assert_array_equal(tested[row].right_global, np.packbits(balanced))


def test_afterwards_the_baseline_lacks_the_prior():
    node = node_of("method=mean_adjusted")
    arm = node.in_arm(Header("local", 1, share=False, evaluate=True, exchange=False))
    held = [arm.student(client_id) for client_id in range(3)]
    after = arm.evaluation(held)
    before = node.evaluate(held)
    prior = log_prior(node.inputs.class_counts(range(3)))
    logits = node.trainer.predict(held, node.inputs.test(), 50) - prior[:, None]
    right = logits.argmax(dim=2) == torch.from_numpy(np.array(node.data.test.labels))
    for row in range(3):
        assert after[row].metrics.pop("accuracy_global_adjusted") == right[row].float().mean()
        assert after[row].metrics == before[row].metrics
        assert (after[row].right_global == before[row].right_global).all()


def test_what_each_arm_does_about_priors():
    cfg = compose.configure([*SKEWED, "method=mean_adjusted", "prior.tau=0.5", "local_loss=ce"])
    arms = build_arms(cfg)
    assert set(arms) == {"local", "local_adjusted", "mean_adjusted"}
    assert arms["mean_adjusted"].test_prior == TestPrior("add", 0.5)
    assert arms["local"].test_prior == TestPrior("none", 0.5, post_hoc=True)
    assert arms["local_adjusted"].local_loss.tau == 0.5
    assert arms["local_adjusted"].test_prior == TestPrior("add", 0.5)
    assert build_arms(compose.configure([*SKEWED, "method=mean"])) == {}


def test_both_trainers_learn_the_same():
    found = []
    for trainer in (LoopTrainer(), BatchedTrainer()):
        node = node_of("method=mean_adjusted", "client.local_epochs=2")
        arm = node.in_arm(Header("mean_adjusted", 1, share=False, evaluate=False))
        held = [arm.student(client_id) for client_id in range(3)]
        works = arm.tools.work_plan.local(range(3), 1)
        assert all(isinstance(work.loss, Widened) for work in works)
        assert all(work.targets.shape == (len(work.inputs), 11) for work in works)
        counts = node.inputs.class_counts(range(3))
        for work, own in zip(works, counts, strict=True):
            torch.testing.assert_close(work.targets[0, 1:], log_prior(own))
        losses = trainer.fit(held, works)
        vectors = [torch.nn.utils.parameters_to_vector(s.model.parameters()) for s in held]
        found.append((torch.tensor(losses), torch.stack(vectors).detach()))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_the_numbers_at_the_end_are_those_of_all_three_arms(adjusted):
    told = json.loads((adjusted / "summary.json").read_text())
    arms = {"local": LOCAL, "local_adjusted": ADJUSTED}
    assert [control["name"] for control in told["controls"]] == list(arms)

    def mean(name: str, metric: str) -> float:
        found = values(adjusted, name)
        last = max(key[0] for key in found)
        return float(np.mean([found[last, i, "fused", metric] for i in range(3)]))

    for control in told["controls"]:
        for test in ("accuracy_own", "accuracy_global"):
            alone = mean(arms[control["name"]], test)
            lead = control["against_last"]["tests"][test]
            assert control["last"]["tests"][test]["mean"] == pytest.approx(alone)
            assert lead["gain"] == pytest.approx(mean(METHOD, test) - alone)
    assert told["post_hoc"]["mean"] == pytest.approx(mean(LOCAL, "accuracy_global_adjusted"))
