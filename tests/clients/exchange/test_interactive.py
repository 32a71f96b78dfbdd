"""Messages of features: the terms by hand, what begins where, and what it does to a run."""

from __future__ import annotations

import math

import pytest
import torch

from clients.exchange import Interactive
from fedfuse.errors import ConfigError, ParameterError
from fedfuse.exchange.aligned_rows import AlignedRows
from fedfuse.exchange.interactive import Conversation, conversation
from fedfuse.models.mlp import mlp
from fedfuse.models.projection import projection
from fedfuse.models.talking import Aloud, Talking
from fedfuse.testing import check_exchange

WORDS = ["baseline=none", "checkpoint.every=0", "models=save", "dataset.num_train=300"]
WORDS += ["public.size=40", "evaluation.own_test_samples=50", "warmup_rounds=0"]
WORDS += ["num_rounds=1"]


def test_I4_the_unit_example() -> None:
    """h = (1, 2), decoded (1, 1), and the others say the same: 1."""
    h, decoded, said = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.ones(1, 3)
    torch.testing.assert_close(conversation(said, decoded - h, said), torch.tensor([1.0]))
    got = Conversation(weight=0.5)(torch.cat([said, decoded - h], dim=1), said - 2)
    torch.testing.assert_close(got, torch.tensor([0.5 * (1 + 3 * 4)]))


def talking(width: int) -> tuple[Talking, Aloud, torch.Tensor]:
    """Return a model of 4 features that talks in as many numbers, and six images."""
    model = mlp((1, 2, 2), 3, hidden=4, depth=1)
    talks = Talking(model, projection(4, width, 0, torch.device("cpu")))
    images = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return talks, Aloud(talks, 3), images


def test_I4_the_identity_that_hears_itself_loses_nothing() -> None:
    talks, aloud, images = talking(4)
    with torch.no_grad():
        talks.encoder.copy_(torch.eye(4))
        talks.decoder.copy_(torch.eye(4))
    sides = aloud(images)
    torch.testing.assert_close(sides[:, :3], talks(images))
    lost = Conversation(1.0)(sides[:, 3:], sides[:, 3:7])
    assert lost.tolist() == [0] * 6


@pytest.mark.parametrize("width", [2, 4, 9])
def test_I4_messages_begin_as_projections(width: int) -> None:
    talks, aloud, images = talking(width)
    sides = aloud(images)
    message, missed = sides[:, 3 : 3 + width], sides[:, 3 + width :]
    features = message @ talks.decoder - missed
    torch.testing.assert_close(features @ talks.encoder, message)
    if width >= 4:
        torch.testing.assert_close(missed, torch.zeros(6, 4), atol=1e-6, rtol=0)
    sides[:, 3:].square().sum().backward()
    assert all(part.grad is not None for part in (talks.encoder, *talks.model.parameters()))


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def test_I4_without_weight_only_predictions_are_learned(simulate) -> None:
    plain = simulate("method=mean", *WORDS)
    nothing = simulate("method=interactive", *WORDS, "exchange.weight=0", "exchange.width=9")
    assert torch.equal(weights(plain), weights(nothing))
    found = nothing.metrics
    for name in ("bytes_up", "bytes_down"):
        counted = found[found.metric == name].value.sum() / 3
        assert counted == 4 * 40 * (10 + 9) + 8 * (name == "bytes_up")


def test_I4_models_of_several_widths_talk(simulate) -> None:
    three = [*WORDS, "model=cycle", "model.factories.mlp.hidden=8"]
    run, plain = (simulate(f"method={name}", *three) for name in ("interactive", "mean"))
    assert not torch.allclose(weights(run), weights(plain), atol=1e-5)


def test_I4_what_is_shown_is_the_aligned_head_and_never_the_decoder() -> None:
    """AlignedRows takes the last linear layer, which is the model's own."""
    talks, _, images = talking(4)
    shown = AlignedRows()(talks)
    assert torch.equal(shown.decoder, talks.decoder)
    assert not torch.allclose(shown(images), talks(images))


def test_I4_keeps_the_contract_of_an_exchange() -> None:
    check_exchange(Interactive(width=6))


def test_I4_refuses_before_training(simulate) -> None:
    with pytest.raises(ConfigError, match=r"trains more than.*got trainer=batched"):
        simulate("method=interactive", "trainer=batched")
    with pytest.raises(ConfigError, match=r"exchange\.width=64"):
        simulate("method=interactive", "codec=fp16")


@pytest.mark.parametrize("given", [{"width": 0}, {"weight": -1}, {"weight": math.nan}])
def test_I4_refuses(given) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter"):
        Interactive(**given)
