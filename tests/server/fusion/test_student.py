"""The server's own model: it learns, is measured, survives a restart, and loads from the folder."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.assembly.parts import build_data, build_parts
from experiments.assembly.server import build_student
from experiments.results.server_model import load_server_model
from experiments.run import main
from fedfuse.data.tensors import to_inputs
from fedfuse.distill import KL, MAELogits, SoftCrossEntropy, as_targets
from fedfuse.distill.losses import kl_forward
from fedfuse.errors import ConfigError
from fedfuse.exchange.distilled import DistilledAverage
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.models.assign import Same
from fedfuse.models.mlp import mlp
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds
from fedfuse.types import Space, Teachers
from server.fusion.student import in_common

QUICK = (
    "num_clients=3",
    "num_rounds=3",
    "dataset=synthetic",
    "dataset.num_train=600",
    "public.size=120",
    "partitioner=iid",
    "model=mlp",
    "baseline=none",
)


def run(folder: Path, *overrides: str) -> int:
    return main([*QUICK, *overrides, f"hydra.run.dir={folder}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("student") / "run"
    assert run(folder, "method=dsfl", "student=resnet8", "server.student_epochs=8") == 0
    return folder


def measured(folder: Path, metric: str) -> list[float]:
    rows = pq.read_table(folder / "metrics.parquet").to_pylist()
    return [r["value"] for r in rows if r["metric"] == metric and r["client_id"] == -1]


def test_the_server_s_model_learns_beside_the_clients(finished):
    accuracy = measured(finished, "accuracy_server")
    assert len(accuracy) == 2  # of three rounds the first is a warm-up
    assert accuracy[-1] > 0.5  # ten classes


def test_it_loads_from_the_run_folder_and_is_the_one_that_was_measured(finished):
    model = load_server_model(finished)
    data = build_data(OmegaConf.load(finished / "config.yaml"))
    facts = json.loads((finished / "run.json").read_text())["server_model"]
    assert facts["mean"] == pytest.approx(data.mean)
    with torch.no_grad():
        logits = model(to_inputs(data.test.inputs, data.mean, data.std))
    right = (logits.argmax(1) == torch.tensor(data.test.labels.copy())).double().mean()
    assert float(right) == pytest.approx(measured(finished, "accuracy_server")[-1])


def test_a_run_without_one_says_so(tmp_path):
    assert run(tmp_path / "run", "method=mean") == 0
    assert not (tmp_path / "run" / "server_model.safetensors").exists()
    with pytest.raises(ConfigError, match="student=lenet5"):
        load_server_model(tmp_path / "run")


def test_clients_that_learn_alone_do_not_notice_it(finished, tmp_path):
    def local(folder: Path) -> list[dict[str, object]]:
        rows = pq.read_table(folder / "metrics.parquet").to_pylist()
        return [r for r in rows if r["client_id"] >= 0]

    assert run(tmp_path / "without", "method=dsfl") == 0
    assert local(tmp_path / "without") == local(finished)
    assert (
        run(tmp_path / "teaches", "method=dsfl", "student=mlp", "server.student_teaches=true") == 0
    )
    assert local(tmp_path / "teaches") != local(finished)


def test_it_is_refused_where_nothing_is_fused(tmp_path, capsys):
    assert run(tmp_path / "run", "method=fedavg", "student=mlp") == 2
    assert "student=none" in capsys.readouterr().err


def test_it_goes_on_from_a_saved_state_as_if_nothing_had_happened(finished):
    cfg = OmegaConf.load(finished / "config.yaml")
    parts = build_parts(cfg)
    rounds = PublicRounds(All(), parts.data.public, Streams(0))

    def fresh():
        return build_student(parts, Same(mlp), rounds, torch.device("cpu"))

    g = torch.Generator().manual_seed(0)
    shape = (2, len(parts.data.public), 10)
    teachers = [
        Teachers(
            torch.tensor([0, 1]), torch.randn(shape, generator=g).softmax(2), Space.PROBABILITIES
        )
        for _ in range(2)
    ]
    straight, first, second = fresh(), fresh(), fresh()
    for round_, each in enumerate(teachers, start=1):
        straight.learn(each, round_)
    first.learn(teachers[0], 1)
    second.restore(first.state())
    second.learn(teachers[1], 2)
    for name, value in straight.weights().items():
        assert torch.equal(value, second.weights()[name]), name


# -- FedDF -----------------------------------------------------------------------------------


def linear(weight: float) -> nn.Module:
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[weight], [0.0]]))
    return model


def feddf(epochs: int) -> tuple[DistilledAverage, ModelBank]:
    layout = Layout.of(linear(0))
    distil = DistilledAverage(
        average=AverageModels(("a", "a", "b"), {"a": layout, "b": layout}),
        models={"a": linear(0), "b": linear(0)},
        inputs=torch.tensor([[1.0], [2.0], [-1.0]]),
        streams=Streams(0),
        epochs=epochs,
        batch_size=3,
        learning_rate=0.05,
    )
    sent = [layout.flatten(linear(w)) for w in (1.0, 3.0, -1.0)]
    return distil, ModelBank.of([0, 1, 2], [10, 30, 20], sent)


def test_the_ensemble_is_the_softmax_of_the_mean_logits_of_all_architectures():
    distil, bank = feddf(1)
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])  # the mean weight is (1+3-1)/3
    torch.testing.assert_close(distil.ensemble(bank), logits.softmax(1))


def test_each_average_moves_towards_the_ensemble():
    distil, bank = feddf(20)
    before = distil.average(bank, 1).teachers.vectors()
    after = distil(bank, 1).teachers.vectors()
    assert torch.equal(after[0], after[1])  # one model for an architecture
    teacher = distil.ensemble(bank)
    model = linear(0)
    for old, new in ((before[0], after[0]), (before[2], after[2])):
        gaps = []
        for vector in (old, new):
            Layout.of(model).load(model, vector)
            gaps.append(float(kl_forward(model(distil.inputs), teacher).mean().detach()))
        assert gaps[1] < 0.6 * gaps[0]


def budgeted(**options: object) -> tuple[DistilledAverage, ModelBank]:
    """Return FedDF with its own budget: the label is the sign of the one feature."""
    distil, bank = feddf(1)
    inputs = torch.linspace(-1, 1, 20).unsqueeze(1)
    own = {"labels": (inputs[:, 0] < 0).long(), "epochs": None, "validate_every": 5, **options}
    return replace(distil, inputs=inputs, batch_size=20, **own), bank


def test_the_server_stops_when_validation_is_not_better_any_more():
    # 'a' has everything right at the first validation and 'b' everything wrong for long: both are
    # at their best after 5 steps, and over 10 steps later. What they were then is what is kept.
    stopped, bank = budgeted(steps=500, patience=10, learning_rate=1e-4)
    fusion = stopped(bank, 1)
    assert fusion.metrics["server_steps"] == 2 * 15
    five, _ = budgeted(steps=500, patience=5, validate_every=5, learning_rate=1e-4)
    assert torch.equal(fusion.teachers.values, five(bank, 1).teachers.values)
    assert budgeted(steps=7, patience=10)[0](bank, 1).metrics["server_steps"] == 2 * 7


def test_without_labels_the_loss_on_held_out_samples_decides():
    distil, bank = budgeted(steps=60, patience=10, labels=None, learning_rate=0.005)
    assert distil(bank, 1).metrics["server_steps"] == 2 * 60  # it falls all the way


def test_the_rate_falls_like_a_cosine_and_gradients_are_clipped():
    distil, bank = budgeted(steps=4, val_fraction=0.0, learning_rate=0.1)
    learnt = distil(bank, 1).teachers.vectors()[2]
    teacher, model = distil.ensemble(bank), linear(-1.0)
    optimizer = torch.optim.Adam(model.parameters())
    for step in range(4):
        optimizer.param_groups[0]["lr"] = 0.1 / 2 * (1 + math.cos(math.pi * step / 4))
        optimizer.zero_grad()
        kl_forward(model(distil.inputs), teacher).mean().backward()
        assert float(nn.utils.clip_grad_norm_(model.parameters(), 5.0)) < 5
        optimizer.step()
    torch.testing.assert_close(learnt, Layout.of(model).flatten(model))


# -- the server's student: what it learns, and what it says ------------------------------------


def test_a_target_that_nobody_gave_is_not_learnt():
    # One of four receivers has an answer, 0.9975; at the others stands what stands for none.
    targets = torch.full((4, 2, 2), 0.5)
    targets[0] = torch.tensor([0.9975, 0.0025])
    weight = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    common = in_common(Teachers(torch.arange(4), targets, Space.PROBABILITIES, weight))
    torch.testing.assert_close(common.targets[0, 0], torch.tensor([0.9975, 0.0025]))
    assert common.sample_weight.tolist() == [[0.25, 0.0]]
    assert common.targets.isfinite().all()
    half = torch.tensor([[1.0, 1.0], [0.5, 1.0], [0.0, 1.0], [0.0, 1.0]])
    common = in_common(Teachers(torch.arange(4), targets, Space.PROBABILITIES, half))
    # (0.9975 + 0.5 * 0.5) / 1.5, and the plain mean where all count
    torch.testing.assert_close(common.targets[0, 0, 0], torch.tensor(1.2475 / 1.5))
    torch.testing.assert_close(common.targets[0, 1], targets[:, 1].mean(dim=0))


@pytest.mark.parametrize("loss", [KL(4.0), SoftCrossEntropy(4.0), MAELogits()], ids=repr)
def test_the_server_s_model_teaches_as_its_clients_match(finished, loss):
    """At their temperature, or as logits: a student that agrees with it has nothing to learn."""
    parts = build_parts(OmegaConf.load(finished / "config.yaml"))
    rounds = PublicRounds(All(), parts.data.public, Streams(0))
    student = build_student(parts, Same(mlp), rounds, torch.device("cpu"))
    student.loss = loss
    told = student.teach(torch.tensor([3, 5]), 1)
    inputs = to_inputs(parts.data.public.inputs, parts.data.mean, parts.data.std)
    with torch.no_grad():
        logits = student.model(inputs)
    logits.requires_grad_()
    for row in as_targets(told, loss):
        (gradient,) = torch.autograd.grad(loss(logits, row).sum(), logits)
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-5)
    assert told.client_ids.tolist() == [3, 5]


def test_a_method_that_matches_logits_can_be_taught_by_the_server_s_model(tmp_path):
    options = ("method=fedmd", "student=mlp", "server.student_teaches=true")
    assert run(tmp_path / "run", *options) == 0


def test_the_server_s_steps_are_counted(finished):
    assert measured(finished, "server_steps") == [8 * 2] * 2  # 8 passes of 120 samples in 64s
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["server_steps"] == 32
