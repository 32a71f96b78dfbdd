"""The server's own model: it learns, is measured, survives a restart, and loads from the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from experiments.build import build_data, build_parts
from experiments.build_server import build_student
from experiments.run import main
from experiments.server_model import load_server_model
from fedfuse.data.tensors import to_inputs
from fedfuse.distill.losses import kl_forward
from fedfuse.errors import ConfigError
from fedfuse.exchange.combine import AverageModels
from fedfuse.exchange.feddf import DistilledAverage
from fedfuse.exchange.layout import Layout
from fedfuse.exchange.payloads import ModelBank
from fedfuse.models.assign import Same
from fedfuse.models.mlp import mlp
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds
from fedfuse.types import Space, Teachers

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
