"""Teacher and past by prototypes: by hand, without a past, on every trainer, of every width."""

from __future__ import annotations

import math

import pytest
import torch

from clients.exchange import TwoTeachersProto
from clients.exchange.two_teachers_proto import KEY, OWN, ByPrototypes
from fedfuse.arrival import Arrival
from fedfuse.errors import ParameterError
from fedfuse.rng import Streams
from fedfuse.testing import check_exchange
from fedfuse.types import Space, Teachers
from fedfuse.uptake import take_up

RUN = ["models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0", "num_rounds=2"]
RUN += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]
TWO = ["method=two_teachers_proto", *RUN]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def direction(cosine: float) -> list[float]:
    """Return a vector of that cosine to (1, 0)."""
    return [cosine, math.sqrt(1 - cosine**2)]


def lesson(memory, fused, told, own) -> torch.Tensor:
    """Let one client with features (1, 0) take a lesson about one public sample."""
    logits = torch.tensor([[own]]).log()
    counts = torch.ones(1, 2, dtype=torch.int64)
    at = Arrival(
        "method", 2, torch.tensor([7]), counts, {0: memory}, Streams(0),
        labels=None, inputs=torch.zeros(1, 1), ask=lambda _: logits,
    )  # fmt: skip
    present = torch.tensor([[True, True]])
    sent = Teachers(
        torch.tensor([0]), torch.tensor([[told]]), Space.PROBABILITIES,
        prototypes=torch.tensor([fused]), present=present,
    )  # fmt: skip
    stage = ByPrototypes(1.0, 1.0, torch.tensor([[[1.0, 0.0]]]))
    return take_up(stage, sent, at).targets[0, 0]


def test_I5_weights_and_target_by_hand() -> None:
    """The teacher names class 0, whose fused prototype has cosine .9; the past class 1, of .5."""
    nothing = [9.0, -9.0]
    memory = {OWN: torch.tensor([nothing, direction(0.5)])}
    first = lesson(memory, [direction(0.9), nothing], [0.8, 0.2], [0.4, 0.6])
    torch.testing.assert_close(first, torch.tensor([0.8, 0.2]))  # no past: the teacher alone
    memory[OWN] = torch.zeros(2, 2)  # what it shares now counts a lesson later
    second = lesson(memory, [direction(0.9), nothing], [0.8, 0.2], [0.9, 0.1])
    torch.testing.assert_close(second, torch.tensor([0.639475, 0.360525]), atol=1e-5, rtol=0)
    assert not memory[f"{KEY}/prototypes"].any()


def test_I5_equally_alike_is_the_mean_and_no_prototype_is_like_nothing() -> None:
    memory = {OWN: torch.tensor([direction(0.7), direction(0.7)])}
    lesson(memory, [direction(0.7)] * 2, [0.8, 0.2], [0.4, 0.6])
    mean = lesson(memory, [direction(0.7)] * 2, [0.8, 0.2], [0.4, 0.6])
    torch.testing.assert_close(mean, torch.tensor([0.6, 0.4]))
    absent = lesson(memory, [[0.0, 0.0]] * 2, [0.8, 0.2], [0.4, 0.6])
    share = 1 / (1 + math.exp(0.7))
    torch.testing.assert_close(absent[0], torch.tensor(0.4 + 0.4 * share), atol=1e-5, rtol=0)


def test_I5_keeps_every_promise_of_an_exchange() -> None:
    check_exchange(TwoTeachersProto())


def test_I5_without_a_past_and_without_relations_it_is_the_plain_mean(simulate) -> None:
    once = [*RUN, "num_rounds=1"]
    plain = simulate("method=mean", *once)
    first = simulate("method=two_teachers_proto", *once, "exchange.relation=0")
    torch.testing.assert_close(weights(plain), weights(first), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "words",
    [
        ["exchange.width=5", "uptake=gap"],
        ["participation=round_robin", "participation.fraction=0.67", "num_rounds=3"],
    ],
    ids=["projected", "resting"],
)
def test_I5_one_after_the_other_and_all_at_once_agree(simulate, words) -> None:
    words = [*TWO, *words, "partitioner=dirichlet", "partitioner.alpha=0.3"]
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    unrelated = simulate(*words, "exchange.relation=0")
    assert float((weights(loop) - weights(unrelated)).abs().max()) > 1e-4
    found = loop.metrics
    shares = found.value[(found.metric == "taught_share") & (found["round"] > 1)]
    assert (shares < 1).any()


def test_I5_models_of_every_width_learn_of_it(simulate) -> None:
    run = simulate("model=cycle", "model.factories.mlp.hidden=8", *TWO)
    assert run.metrics.value[run.metrics.metric == "accuracy_global"].between(0, 1).all()


@pytest.mark.parametrize("wrong", [{"tau": 0}, {"relation": -1}, {"temperature": math.inf}])
def test_I5_refuses(wrong) -> None:
    with pytest.raises(ParameterError, match="parameter of TwoTeachersProto"):
        TwoTeachersProto(**wrong)
