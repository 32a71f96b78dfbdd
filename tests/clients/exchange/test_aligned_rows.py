"""Predictions of a copy with aligned rows: by hand, of which model, and what goes along."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clients.exchange import Predictions
from clients.sharing.chain import Sharing
from fedfuse.errors import FedfuseError, ModelError, ParameterError
from fedfuse.exchange.aligned_rows import AlignedRows, group_factors, row_factors
from fedfuse.fusion.scorers import KnFu
from fedfuse.models.mlp import mlp
from fedfuse.rng import Streams
from fedfuse.testing import CheckFailed, check_exchange
from fedfuse.train.trainer import LoopTrainer, Student

WORDS = ["num_rounds=1", "baseline=none", "checkpoint.every=0", "warmup_rounds=0", "models=save"]
WORDS += ["dataset.num_train=300", "public.size=40", "partitioner=dirichlet"]


def linear(*rows: list[float]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight.data = torch.tensor(rows)
    return layer


def test_H4_the_unit_example() -> None:
    torch.testing.assert_close(
        row_factors(torch.tensor([3.0, 1.0])), torch.tensor([0.666667, 2.0]), atol=1e-5, rtol=0
    )
    old_and_new = group_factors(torch.tensor([2.0, 4.0, 6.0]), [2])
    torch.testing.assert_close(old_and_new, torch.tensor([1.0, 1.0, 0.5]), atol=1e-5, rtol=0)
    model = linear([0.0, 3.0], [1.0, 0.0])
    shown = AlignedRows()(model)
    torch.testing.assert_close(shown.weight, torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
    assert torch.equal(shown.bias, model.bias)
    assert model.weight.tolist() == [[0, 3], [1, 0]], "the model itself stays"


def test_H4_nothing_to_align() -> None:
    norms = torch.tensor([3.0, 0.5, 1.0])
    assert row_factors(norms, tau=0).tolist() == [1, 1, 1]
    assert group_factors(norms, [1], tau=0).tolist() == [1, 1, 1]
    assert row_factors(torch.full((4,), 0.7)).tolist() == [1, 1, 1, 1]
    assert row_factors(torch.tensor([0.0, 2.0, 4.0])).tolist() == [1, 1, 0.5]  # a row of zeros
    assert row_factors(torch.zeros(2)).tolist() == [1, 1]
    assert group_factors(torch.tensor([2.0, 0.0]), [1]).tolist() == [1, 1]


def shared(exchange: Predictions, model: nn.Module) -> object:
    """Return what one client of two classes sends of three public samples."""
    public = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    rounds = SimpleNamespace(index=lambda _: torch.arange(3))
    tools = SimpleNamespace(
        arm="method",
        inputs=SimpleNamespace(
            public=lambda _: public, rounds=rounds, class_counts=lambda _: torch.tensor([[3, 4]])
        ),
        plan=SimpleNamespace(eval_batch_size=8, share_class_distribution=False),
        trainer=LoopTrainer(),
        familiarity_stage=None,
        own_choice=None,
        sharing=Sharing(),
        memory=lambda _: {},
        streams=Streams(0),
    )
    held = [Student(0, "linear", model, torch.optim.SGD(model.parameters(), lr=0.1))]
    return exchange.share(held, tools, 1)


def test_H4_the_distribution_of_KnFu_is_estimated_before() -> None:
    model = linear([0.0, 3.0], [1.0, 0.0])
    plain = shared(Predictions(), model)
    aligned = shared(Predictions(shown=AlignedRows()), model)
    assert not torch.allclose(plain.logits, aligned.logits)
    assert plain.estimate is None
    scorer = KnFu()
    torch.testing.assert_close(scorer.estimate(aligned, None), scorer.estimate(plain, None))
    after = shared(Predictions(shown=AlignedRows(estimate=False)), model)
    assert after.estimate is None
    assert torch.equal(after.logits, aligned.logits)
    assert not torch.allclose(scorer.estimate(after, None), scorer.estimate(plain, None))


def weights(run) -> list[torch.Tensor]:
    return [p.detach() for i in range(3) for p in run.model(i).parameters()]


def bytes_up(run) -> float:
    found = run.metrics
    return float(found[found.metric == "bytes_up"].value.sum()) / 3


def test_H4_a_power_of_0_and_equal_rows_are_the_run_without(simulate) -> None:
    plain = simulate("method=mean", *WORDS)
    nothing = simulate("method=aligned_rows", *WORDS, "exchange.shown.tau=0")
    for one, other in zip(weights(plain), weights(nothing), strict=True):
        assert torch.equal(one, other)
    assert bytes_up(nothing) == bytes_up(plain) + 4 * 10  # the mean prediction
    silent = simulate("method=aligned_rows", *WORDS, "exchange.shown.estimate=false")
    assert bytes_up(silent) == bytes_up(plain) == 4 * 40 * 10 + 8
    pairs = zip(weights(plain), weights(silent), strict=True)
    assert any(not torch.allclose(one, other, atol=1e-4) for one, other in pairs)


def test_H4_it_goes_through_a_codec_with_KnFu(simulate) -> None:
    run = simulate("method=aligned_rows", *WORDS, "scorer=knfu", "codec=fp16")
    assert bytes_up(run) == 2 * 40 * 10 + 4 * 10 + 8
    plain = simulate("method=mean", *WORDS, "scorer=knfu")
    torch.testing.assert_close(torch.as_tensor(run.weights), torch.as_tensor(plain.weights))


def test_H4_keeps_the_contract_of_an_exchange() -> None:
    check_exchange(Predictions(shown=AlignedRows(tau=0.5)))


class NoHead(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(input_shape[0], num_classes, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs).mean(dim=(2, 3))


def test_H4_refuses_before_training(simulate) -> None:
    with pytest.raises(CheckFailed, match="no linear layer"):
        check_exchange(Predictions(shown=AlignedRows()), NoHead)
    with pytest.raises(ModelError, match=r"new = \[7\] of 4 classes"):
        AlignedRows(new=[7])(mlp((1, 4, 4), 4))
    with pytest.raises(ModelError, match="or of all classes"):
        AlignedRows(new=[0, 1])(linear([1.0], [2.0]))
    with pytest.raises(FedfuseError, match=r"a server that fuses.*method=local"):
        simulate("method=local", "exchange=aligned_rows")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"tau": -1}, "'tau' parameter.*at least 0"),
        ({"tau": math.nan}, "'tau' parameter"),
        ({"new": [True]}, "'new' parameter"),
        ({"new": [-1]}, "'new' parameter"),
        ({"new": 3}, "'new' parameter.*a list"),
        ({"estimate": 1}, "'estimate' parameter"),
        ({"temperature": 0}, "'temperature' parameter"),
    ],
)
def test_H4_refuses(given, words) -> None:
    with pytest.raises(ParameterError, match=words):
        AlignedRows(**given)


def test_H4_refuses_what_shows_nothing() -> None:
    with pytest.raises(ParameterError, match=r"'shown' parameter.*a function of a model"):
        Predictions(shown=1.0)  # type: ignore[arg-type]
