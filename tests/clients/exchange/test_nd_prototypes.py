"""Prototypes of all owners beside local training: on every trainer, of every width, or nothing."""

from __future__ import annotations

import pytest
import torch

from clients.exchange import NDPrototypes
from fedfuse.errors import ParameterError
from fedfuse.testing import check_exchange

RUN = ["models=save", "baseline=none", "checkpoint.every=0", "warmup_rounds=0", "num_rounds=2"]
RUN += ["dataset.num_train=300", "public.size=40", "evaluation.own_test_samples=50"]
ND = ["method=nd_prototypes", *RUN]


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def test_I2_keeps_every_promise_of_an_exchange() -> None:
    check_exchange(NDPrototypes())


def test_I2_without_a_weight_it_is_the_plain_mean(simulate) -> None:
    plain, nothing = simulate("method=mean", *RUN), simulate(*ND, "exchange.lam=0")
    assert torch.equal(weights(plain), weights(nothing))


@pytest.mark.parametrize(
    "words",
    [
        ["exchange.width=5", "local_loss=balanced_softmax"],
        # One client at a time rests: it has no prototypes yet where the others do.
        ["participation=round_robin", "participation.fraction=0.67", "num_rounds=3"],
    ],
    ids=["projected", "resting"],
)
def test_I2_one_after_the_other_and_all_at_once_agree(simulate, words) -> None:
    words = [*ND, *words, "partitioner=dirichlet", "partitioner.alpha=0.3"]
    loop, batched = (simulate(*words, f"trainer={trainer}") for trainer in ("loop", "batched"))
    torch.testing.assert_close(weights(loop), weights(batched), atol=1e-5, rtol=1e-4)
    nothing = simulate(*words, "exchange.lam=0")
    assert float((weights(loop) - weights(nothing)).abs().max()) > 1e-4


def test_I2_models_of_every_width_learn_of_it(simulate) -> None:
    """Three architectures of 8, 84 and other features; what travels is 8 wide."""
    words = ["model=cycle", "model.factories.mlp.hidden=8", *ND]
    pulled, plain = simulate(*words), simulate(*words, "exchange.lam=0")
    for client in range(3):
        pairs = zip(
            pulled.model(client).parameters(), plain.model(client).parameters(), strict=True
        )
        assert max(float((one - other).detach().abs().max()) for one, other in pairs) > 1e-4


@pytest.mark.parametrize("lam", [-1, True])
def test_I2_refuses(lam) -> None:
    with pytest.raises(ParameterError, match="'lam' parameter"):
        NDPrototypes(lam=lam)
