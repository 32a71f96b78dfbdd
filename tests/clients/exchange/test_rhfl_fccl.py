"""RHFL, FCCL and FCCL+: their numbers by hand, what travels, and what they do to a run."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from clients.exchange import FCCL, FCCLPlus, LossRated
from clients.exchange.fccl import FIRST, LAST
from clients.exchange.loss_rated import LOSS
from fedfuse.distill import CrossCorrelation
from fedfuse.distill.past import NearItsPast
from fedfuse.distill.relations import cross_correlation
from fedfuse.errors import DataError, FedfuseError, ParameterError
from fedfuse.exchange.instance_similarity import InstanceSimilarity, similarities, with_positions
from fedfuse.fusion import All, MeanProbabilities, Pipeline
from fedfuse.fusion.client_confidence import ClientConfidence, confidences
from fedfuse.local_loss import SymmetricCrossEntropy, cross_entropy
from fedfuse.testing import check_distill_loss, check_exchange, check_local_loss, check_scorer
from fedfuse.train.loop import fit
from fedfuse.train.trainer import Student
from fedfuse.train.work import Schedule, Work
from fedfuse.types import KnowledgeBank

ONE = ["baseline=none", "num_clients=4"]


# -- RHFL ------------------------------------------------------------------------------------------


def test_symmetric_cross_entropy_by_hand() -> None:
    # p = (3/4, 1/4): 0.1 log 4/3 + log 10000 / 4, and 0.1 log 4 + 3 log 10000 / 4.
    logits = torch.tensor([[3.0, 1.0]] * 2).log()
    wrong = math.log(1e4)
    expected = [0.1 * math.log(4 / 3) + wrong / 4, 0.1 * math.log(4) + 3 * wrong / 4]
    assert SymmetricCrossEntropy()(logits, torch.tensor([0, 1])).tolist() == pytest.approx(expected)
    certain = torch.tensor([[1e4, -1e4]])  # however wrong a label, half of the loss is bounded
    reverse = SymmetricCrossEntropy(alpha=0)(certain, torch.tensor([1]))
    assert reverse.item() == pytest.approx(wrong)
    check_local_loss(SymmetricCrossEntropy())


def bank(*efficiency: float) -> KnowledgeBank:
    k = len(efficiency)
    logits = torch.randn(k, 5, 3, generator=torch.Generator().manual_seed(0))
    told = torch.tensor(efficiency)
    return KnowledgeBank(torch.arange(k), logits, torch.ones(k, dtype=torch.int64), efficiency=told)


def test_confidence_by_hand_and_nobody_hears_itself() -> None:
    # F = (0.3, 0.1, 0): 1/2 + (3/4, 1/4, 0) / 2.
    told = bank(0.3, 0.1, 0.0)
    assert confidences(told.efficiency, 0.5).tolist() == pytest.approx([0.875, 0.625, 0.5])
    fused = Pipeline(ClientConfidence(0.5), All(include_self=False), MeanProbabilities())(told)
    first = math.exp(0.625) / (math.exp(0.625) + math.exp(0.5))
    assert fused.weights[0].tolist() == pytest.approx([0, first, 1 - first], abs=1e-6)
    assert fused.weights[2].tolist() == pytest.approx(
        [math.exp(0.25) / (math.exp(0.25) + 1), 1 / (math.exp(0.25) + 1), 0], abs=1e-6
    )
    check_scorer(ClientConfidence())


@pytest.mark.parametrize("told", [(math.nan,) * 3, (-0.2, 0.1, 0.05), (0.0, 0.0, 0.0)])
def test_confidence_is_alike_where_nobody_knows_or_losses_do_not_fall(told: Any) -> None:
    assert confidences(torch.tensor(told), 0.5).tolist() == [0.5] * 3


def test_efficiency_is_the_fall_of_the_loss_in_units_of_what_is_left() -> None:
    memory: dict[str, torch.Tensor] = {}
    inputs, labels = torch.zeros(2, 1), torch.tensor([0, 1])
    said = iter([[[3.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    tools = SimpleNamespace(
        inputs=SimpleNamespace(
            data=SimpleNamespace(clients=[None]),
            private=lambda _: [(inputs, labels)],
            public=lambda _: inputs,
        ),
        plan=SimpleNamespace(eval_batch_size=8),
        work_plan=SimpleNamespace(
            relabel=lambda _, y: 1 - y, lesson=lambda y: (y, cross_entropy)
        ),  # a client that lies learns, and tells, by its own labels
        trainer=SimpleNamespace(
            predict=lambda held, *_: torch.zeros(len(held), 2, 2),
            predict_each=lambda *_: [torch.tensor(next(said)).log()],
        ),
        memory=lambda _: memory,
    )
    held = [Student(0, "none", nn.Identity(), None)]  # type: ignore[arg-type]
    first = LossRated().answers(held, tools, 1)[1]["efficiency"]
    assert first.isnan().tolist() == [True]
    before = (math.log(4) + math.log(2)) / 2
    assert memory[LOSS].item() == pytest.approx(before)
    second = LossRated().answers(held, tools, 2)[1]["efficiency"]
    assert second.item() == pytest.approx((before - math.log(2)) / math.log(2))


def test_rhfl_begins_with_the_mean_of_the_others_and_tells_the_same_through_a_codec(
    simulate: Any,
) -> None:
    words = ["method=rhfl", "scorer.eta=20", *ONE, "warmup_rounds=0"]
    plain, coded = (simulate(*words, f"codec={codec}") for codec in ("none", "fp16"))
    first, second = (plain.round_weights(round_)[1] for round_ in (1, 2))
    np.testing.assert_allclose(first, (1 - np.eye(4)) / 3, atol=1e-6)
    assert np.abs(second - first).max() > 0.05
    assert (np.diag(second) == 0).all()
    np.testing.assert_allclose(second, coded.round_weights(2)[1], atol=0.01)
    rows = plain.metrics[plain.metrics["round"] == 2].set_index("metric").value
    assert rows["bytes_up"] == 4 * (4 * 100 * 10 + 4 + 8)
    assert rows["bytes_down"] == 4 * 4 * 100 * 10


def test_rhfl_is_compared_with_plain_local_training_alone(simulate: Any) -> None:
    run = simulate("method=rhfl", "baseline=local")
    assert run.controls == ("local",)


# -- FCCL ------------------------------------------------------------------------------------------


def test_cross_correlation_by_hand() -> None:
    # Columns of two rows are +-1/sqrt 2 in units of their deviation, so C is +-1/2:
    # 2 (1/2 - 1)^2 + 0.0051 * 2 (1 - 1/2)^2.
    own, mean = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[5.0, 0.0], [1.0, 2.0]])
    signs = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    torch.testing.assert_close(cross_correlation(own, mean), signs / 2)
    assert CrossCorrelation()(own, mean).tolist() == pytest.approx([0.5 + 0.0051 * 0.5] * 2)
    against = CrossCorrelation(off_diagonal=1.0)(own, mean.flip(1))  # 2 (3/2)^2 + 2 (3/2)^2
    assert against.tolist() == pytest.approx([9.0] * 2)
    assert CrossCorrelation(off_diagonal=0.0)(own, own).tolist() == pytest.approx([0.5] * 2)


@pytest.mark.parametrize("weight", [0.0, 0.0051, 2.0])
def test_cross_correlation_keeps_its_promises(weight: float) -> None:
    check_distill_loss(CrossCorrelation(weight))


def test_past_models_are_kept_by_hand() -> None:
    now = torch.tensor([[1.0, 1.0, 2.0]]).log().requires_grad_()
    last, first = torch.tensor([[1.0, 2.0, 1.0]]).log(), torch.tensor([[2.0, 1.0, 1.0]]).log()
    sides, label = torch.cat([now, last, first], dim=1), torch.tensor([1])
    # From (1/4, 1/2, 1/4): log 2 / 2 - log 2 / 4; from (1/2, 1/4, 1/4) the same.
    both = NearItsPast((2.0, 4.0), 1.0, False, cross_entropy)(sides, label)
    assert both.item() == pytest.approx(math.log(4) + (2 + 4) * math.log(2) / 4)
    # Beside label 1: -log 2 / 4 of the last alone; at T = 2 of square roots, four times.
    beside = NearItsPast((3.0,), 1.0, True, cross_entropy)(sides[:, :6], label)
    assert beside.item() == pytest.approx(math.log(4) - 3 * math.log(2) / 4)
    root = math.sqrt(2)
    t, apart = 1 / (2 + root), -math.log(root)  # both norms are 2 + sqrt 2
    warm = NearItsPast((1.0,), 2.0, True, cross_entropy)(sides[:, :6], label)
    assert warm.item() == pytest.approx(math.log(4) + 4 * t * apart)
    both.sum().backward()
    assert now.grad is not None


def weight(value: float) -> nn.Linear:
    layer = nn.Linear(1, 3, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_fccl_keeps_near_what_it_was_when_it_first_and_last_shared() -> None:
    memory: dict[str, torch.Tensor] = {}
    model = weight(0.0)
    student = Student(0, "linear", model, torch.optim.SGD(model.parameters(), lr=1.0))
    inputs, labels = torch.ones(1, 1), torch.tensor([0])
    work = Work(inputs, labels, cross_entropy, Schedule(torch.zeros(1, dtype=torch.int64), (1,)))
    tools = SimpleNamespace(
        memory=lambda _: memory,
        work_plan=SimpleNamespace(local=lambda *_: [work]),
    )
    way = FCCL(inter=1.0, intra=2.0)
    for exchanging in (False, True):  # before it has shared
        assert way.train([student], tools, 1, exchanging=exchanging) == [(student, work)]
    way.remember([student], tools)
    nn.init.constant_(model.weight, 1.0)
    way.remember([student], tools)
    nn.init.constant_(model.weight, 5.0)  # as a lesson does
    [(beside, kept)] = way.train([student], tools, 3, exchanging=True)
    assert beside.model(inputs).tolist() == [[5.0] * 3 + [1.0] * 3 + [0.0] * 3]
    assert kept.loss.weights == (1.0, 2.0)
    fit(beside.model, beside.optimizer, kept)  # models that say the same cost nothing
    assert model.weight.flatten().tolist() == pytest.approx([5 + 2 / 3, 5 - 1 / 3, 5 - 1 / 3])
    assert (memory[FIRST].tolist(), memory[LAST].tolist()) == ([0.0] * 3, [1.0] * 3)
    assert (way.extra, FCCL(inter=0, intra=0).extra) == (
        "a step of the local epochs also asks 2 models of the client's past",
        "",
    )


def test_fccl_without_weights_trains_as_others_do(simulate: Any) -> None:
    off = ["exchange.inter=0", "exchange.intra=0", "distill=mse"]
    nothing = simulate("method=fccl", *ONE, *off, "num_rounds=3")
    plain = simulate("method=fccl", *ONE, "exchange=predictions", "distill=mse", "num_rounds=3")
    assert nothing.metrics.equals(plain.metrics)
    kept = simulate("method=fccl", *ONE, *off, "exchange.intra=1", "num_rounds=3")
    assert not kept.metrics.equals(plain.metrics)


# -- FCCL+ -----------------------------------------------------------------------------------------


def test_instance_similarity_by_hand() -> None:
    own = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    mean = with_positions(torch.zeros(3, 5))  # the clients together find none like another
    e = math.e  # own softmax of the first over the other two: e and 1; the third's is even
    first = math.log(1 + e) - math.log(2) - 0.5
    assert InstanceSimilarity(2.0, 1.0)(own, mean).tolist() == pytest.approx([2 * first] * 2 + [0])
    cosines = with_positions(similarities(own, 5))
    assert InstanceSimilarity(2.0, 0.02)(own, cosines).tolist() == pytest.approx([0] * 3, abs=1e-5)
    batch = torch.tensor([2, 0])  # of a batch its own columns are compared
    found = InstanceSimilarity(1.0, 0.5)(own[[2, 0, 1]], cosines[[2, 0, 1]])
    assert found.tolist() == pytest.approx([0] * 3, abs=1e-6)
    assert InstanceSimilarity(1.0, 1.0)(own[batch], mean[batch]).tolist() == [0, 0]


def test_fccl_plus_counts_what_travels_and_learns_of_it(simulate: Any) -> None:
    run = simulate("method=fccl_plus", *ONE, "warmup_rounds=0")
    rows = run.metrics[run.metrics["round"] == 2].set_index("metric").value
    assert rows["bytes_up"] == 4 * (4 * 100 * (10 + 100) + 8)
    assert rows["bytes_down"] == 4 * 4 * 100 * (10 + 100)
    alone = simulate("method=fccl_plus", *ONE, "warmup_rounds=0", "exchange.similarity=0")
    assert not run.metrics.equals(alone.metrics)


def test_fccl_plus_takes_rounds_of_some_samples_and_models_of_several_widths(simulate: Any) -> None:
    words = ["select=random", "select.size=30", "model=cycle", "num_rounds=1"]
    run = simulate("method=fccl_plus", *ONE, "warmup_rounds=0", *words)
    rows = run.metrics.set_index("metric").value
    assert rows["bytes_down"] == 4 * 4 * 30 * (10 + 100)


def test_fccl_plus_refuses_too_many_samples_to_compare(simulate: Any) -> None:
    with pytest.raises(DataError, match="got 5000 public samples, allowed: at most 4096"):
        simulate("method=fccl_plus", "dataset.num_train=6000", "public.size=5000")


@pytest.mark.parametrize("way", [LossRated(), FCCL(), FCCLPlus()], ids=lambda w: type(w).__name__)
def test_they_keep_the_promises_of_an_exchange(way: Any) -> None:
    check_exchange(way)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: SymmetricCrossEntropy(alpha=-1), "alpha"),
        (lambda: SymmetricCrossEntropy(floor=0), "floor"),
        (lambda: SymmetricCrossEntropy(0, 0), "alpha"),
        (lambda: ClientConfidence(eta=-1), "eta"),
        (lambda: CrossCorrelation(off_diagonal=-1), "off_diagonal"),
        (lambda: FCCL(inter=-1), "inter"),
        (lambda: FCCL(intra=math.nan), "intra"),
        (lambda: FCCL(temperature=0), "temperature"),
        (lambda: FCCLPlus(similarity=-1), "similarity"),
        (lambda: FCCLPlus(tau=0), "tau"),
        (lambda: FCCLPlus(width=4), "width"),
    ],
)
def test_settings_that_make_no_sense(wrong: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=f"'{says}' parameter") as told:
        wrong()
    assert isinstance(told.value, FedfuseError)
