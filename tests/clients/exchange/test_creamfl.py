"""CreamFL: the terms and the ensemble by hand, who learns what, and what it does to a run."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from clients.exchange import CreamFL
from clients.exchange.creamfl import BEFORE, BEFORE_ROUND
from fedfuse.distill import KL
from fedfuse.errors import ConfigError, ModelError, ParameterError
from fedfuse.exchange.creamfl import (
    ContrastiveBeside,
    InterIntra,
    NearFeatures,
    fused_features,
    inter,
    intra,
)
from fedfuse.fusion.contrastive import Contrastive
from fedfuse.models.features import WithFeatures
from fedfuse.models.mlp import mlp
from fedfuse.rng import Streams
from fedfuse.testing import check_exchange
from fedfuse.train.trainer import LoopTrainer, Student
from fedfuse.train.work import Work, schedule
from fedfuse.types import Fusion, KnowledgeBank, Space, Teachers

WORDS = ["baseline=none", "checkpoint.every=0", "models=save", "dataset.num_train=300"]
WORDS += ["public.size=40", "evaluation.own_test_samples=50", "warmup_rounds=0"]
WORDS += ["num_rounds=1"]


def unit(*angles: float) -> torch.Tensor:
    return torch.tensor([[math.cos(a), math.sin(a)] for a in angles])


def test_I1_the_unit_example() -> None:
    """f = g0 = (1, 0), g1 = (0, 1), tau 1/2: log(1 + e**-2), and so is intra for f_old = (0, 1)."""
    g = torch.eye(2)
    f = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = torch.full((2,), 0.126928)
    torch.testing.assert_close(inter(f, g, 0.5), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(intra(f, g, g.flip(0), 0.5), expected, atol=1e-5, rtol=0)
    term = InterIntra(mu=0.5, tau=0.5)
    got = term(3 * f, torch.cat([2 * g, 5 * g.flip(0)], dim=1))  # lengths do not count
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_I1_what_has_not_moved_loses_log_2_and_a_batch_of_one_has_no_others() -> None:
    f = F.normalize(torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), dim=1)
    torch.testing.assert_close(intra(f, f, f, 0.5), torch.full((5,), math.log(2)))
    assert inter(f[:1], f[:1], 0.5).tolist() == [0]
    assert InterIntra(mu=0)(f, torch.cat([f, f], dim=1)).tolist() == [0] * 5


def test_I1_the_terms_pull_to_the_sample_and_away_from_others_and_from_before() -> None:
    f = unit(0.0, 1.0).requires_grad_()
    told = torch.cat([unit(0.3, 1.6), unit(-0.3, 0.7)], dim=1)
    InterIntra()(f, told).sum().backward()
    moved = F.normalize(f.detach() - 0.1 * f.grad, dim=1)
    assert ((moved * told[:, :2]).sum(1) > (f.detach() * told[:, :2]).sum(1)).all()
    assert ((moved * told[:, 2:]).sum(1) < (f.detach() * told[:, 2:]).sum(1)).all()


def test_I1_features_are_weighed_as_the_rule_weighs_logits() -> None:
    """f1 rows (1, 0), (0, 1); f2 rows (1, 0), (1, 0); g = identity: (.5, .5), (.731, .269)."""
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [3.0, 0.0]]])
    got = fused_features(features, None, Contrastive(), torch.eye(2))
    expected = torch.tensor([[1.0, 0.0], [0.268941, 0.731059]])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    mask = torch.tensor([[True, False], [True, False]])
    got = fused_features(features, mask, Contrastive())
    torch.testing.assert_close(got, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    mask = torch.tensor([[True, True], [True, False]])
    got = fused_features(features, mask, Contrastive())
    torch.testing.assert_close(got[1], torch.tensor([0.0, 1.0]))


def test_I1_a_client_with_permuted_samples_counts_less() -> None:
    draw = torch.Generator().manual_seed(1)
    truth = torch.randn(30, 8, generator=draw)
    honest = truth + 0.3 * torch.randn(3, 30, 8, generator=draw)
    liar = truth[torch.randperm(30, generator=draw)]
    fused = fused_features(torch.cat([honest, liar.unsqueeze(0)]), None, Contrastive(tau=0.1))
    alone = fused_features(honest, None, Contrastive(tau=0.1))
    ours, plain = F.normalize(fused, dim=1), F.normalize(torch.cat([honest, liar[None]]).mean(0), 1)
    right = F.normalize(alone, dim=1)
    assert (ours * right).sum(1).mean() > (plain * right).sum(1).mean()
    same = honest[:1].expand(3, -1, -1)
    torch.testing.assert_close(
        fused_features(same, None, Contrastive()), F.normalize(honest[0], dim=1)
    )


def test_I1_the_servers_model_is_the_reference_if_there_is_one() -> None:
    features = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    logits = torch.zeros(2, 2, 3)
    bank = KnowledgeBank(torch.arange(2), logits, torch.tensor([1, 1]), features=features)
    fusion = Fusion(Teachers(torch.arange(2), logits, Space.LOGITS), None)
    beside = ContrastiveBeside(Contrastive(tau=0.1))
    alike = beside(bank, fusion, 1).teachers.features
    torch.testing.assert_close(alike, torch.full((2, 2, 2), 0.5))
    asked = replace(beside, ask=lambda round_: float(round_) * torch.eye(2))
    heard = asked(bank, fusion, 7).teachers.features
    torch.testing.assert_close(heard[1], torch.eye(2), atol=1e-4, rtol=0)


def test_I1_what_the_server_learns_by_hand() -> None:
    got = NearFeatures(0.3)(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(got, torch.tensor([0.3 * (0.25 + 0.25) / 2]))


def weights(run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for i in range(3) for p in run.model(i).parameters()])


def test_I1_without_mu_only_predictions_are_learned(simulate) -> None:
    plain = simulate("method=mean", *WORDS)
    nothing = simulate("method=creamfl", *WORDS, "exchange.mu=0", "exchange.width=9")
    assert torch.equal(weights(plain), weights(nothing))
    found = nothing.metrics
    for name in ("bytes_up", "bytes_down"):
        counted = found[found.metric == name].value.sum() / 3
        assert counted == 4 * 40 * (10 + 9) + 8 * (name == "bytes_up")


def test_I1_models_of_several_widths_learn_of_each_other_and_of_a_server(simulate) -> None:
    three = [*WORDS, "model=cycle", "model.factories.mlp.hidden=8"]
    three += ["student=mlp", "student.hidden=8"]
    run, plain = (simulate(f"method={name}", *three) for name in ("creamfl", "mean"))
    assert not torch.allclose(weights(run), weights(plain), atol=1e-4)
    apart = simulate("method=creamfl", *three, "exchange.server_weight=0")
    assert not torch.allclose(weights(run), weights(apart), atol=1e-6)


def test_I1_who_has_not_trained_in_the_round_is_taught_from_what_it_is() -> None:
    """Its upload came late: what it kept is of another round, or of none."""
    model = mlp((1, 2, 2), 3, hidden=4, depth=1)
    public = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    memory: dict[str, torch.Tensor] = {}
    tools = SimpleNamespace(
        inputs=SimpleNamespace(
            public=lambda _: public, data=SimpleNamespace(num_classes=3), device=public.device
        ),
        width=4,
        plan=SimpleNamespace(eval_batch_size=8),
        trainer=LoopTrainer(),
        memory=lambda _: memory,
        streams=Streams(0),
    )
    student = Student(0, "mlp", model, torch.optim.SGD(model.parameters(), lr=0.1))
    work = Work(public, torch.zeros(5, 3), KL(), schedule(5, 5, 1, Streams(0).torch()))
    came = Teachers(
        torch.tensor([0]), work.targets[None], Space.LOGITS, features=torch.ones(1, 5, 4)
    )
    now = WithFeatures(model, 3)(public)[:, 3:].detach()
    for kept, round_, expected in (
        ({}, 2, now),
        ({BEFORE: -now}, 2, now),
        ({BEFORE: -now}, 1, -now),
    ):
        memory.update(kept)
        memory[BEFORE_ROUND] = torch.tensor(1)
        [(_, made)] = CreamFL(width=4).lesson([(student, work)], tools, round_, came)
        torch.testing.assert_close(made.targets[:, 3:], torch.cat([torch.ones(5, 4), expected], 1))
        assert not memory


def test_I1_keeps_the_contract_of_an_exchange() -> None:
    check_exchange(CreamFL(width=6))


def test_I1_refuses_before_training(simulate) -> None:
    with pytest.raises(ConfigError, match=r"CreamFL relates the samples.*got trainer=batched"):
        simulate("method=creamfl", "trainer=batched")
    with pytest.raises(ConfigError, match=r"codec=float16.*exchange.width=256"):
        simulate("method=creamfl", "codec=fp16")
    with pytest.raises(ModelError, match="Features cannot be taken"):
        simulate(
            "method=creamfl",
            "student=custom",
            "student._target_=tests.clients.exchange.test_creamfl.headless",
        )


def headless(input_shape: tuple[int, ...], num_classes: int) -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Conv2d(input_shape[0], num_classes, input_shape[1:]), torch.nn.Flatten()
    )


@pytest.mark.parametrize(
    "given", [{"mu": -1}, {"tau": 0}, {"weight_tau": math.nan}, {"block": 0}, {"server_weight": -1}]
)
def test_I1_refuses(given) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter"):
        CreamFL(**given)
