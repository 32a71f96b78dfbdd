"""KT-pFL: both steps by hand and against autograd, its collapse, its memory of absent clients."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import mse_loss

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.ktpfl import KTpFL
from fedfuse.fusion.learned import (
    faithful_step,
    objective,
    published_step,
)
from fedfuse.testing.fusion import example_bank
from fedfuse.types import KnowledgeBank

# One sample, two clients: (3/4, 1/4) and (1/4, 3/4); c = 1/2 everywhere, so s = (1/2, 1/2).
PROBS = torch.tensor([[[0.75, 0.25]], [[0.25, 0.75]]], dtype=torch.float64)
UNIFORM = torch.full((2, 2), 0.5, dtype=torch.float64)
SIZES = torch.tensor([10, 30])
LOG3 = math.log(3)


def distance_from_uniform(weights: Tensor) -> Tensor:
    return (weights - 1 / weights.shape[1]).abs().sum(dim=1) / 2


def distance_from_identity(weights: Tensor) -> Tensor:
    return 1 - weights.diagonal()


def _random(seed: int, num_clients: int, masked: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_clients, 4, 3, generator=generator, dtype=torch.float64)
    theta = torch.randn(num_clients, num_clients, generator=generator, dtype=torch.float64)
    sizes = torch.randint(1, 100, (num_clients,), generator=generator)
    mask = torch.rand(num_clients, 4, generator=generator) < (0.7 if masked else 2)
    return logits.log_softmax(dim=-1), theta.log_softmax(dim=1), sizes, mask


def test_objective_by_hand() -> None:
    # KL((1/2, 1/2) || (3/4, 1/4)) = -log(3)/2 + log 2 = 0.143841 for both; the penalty is 0.
    value = objective(PROBS.log(), UNIFORM.log(), SIZES, rho=0.5)
    assert float(value) == pytest.approx(0.143841, abs=1e-6)
    # At c = I the fit is 0 and the distance of a row 2 * (1/2)^2, whatever its share of the data.
    own = torch.eye(2, dtype=torch.float64).clamp_min(1e-30).log()
    assert float(objective(PROBS.log(), own, SIZES, rho=0.5)) == pytest.approx(0.25)


def test_rho_weighs_a_row_beside_its_own_fit() -> None:
    """Ten clients that differ do not collapse to the mean, whatever their shares of the data."""
    leaning = 3 * torch.eye(10).unsqueeze(1)
    noise = torch.randn(10, 30, 10, generator=torch.Generator().manual_seed(0))
    bank = KnowledgeBank(torch.arange(10), leaning + noise, torch.full((10,), 300))
    weights = _learn(bank, 9)
    assert float(distance_from_uniform(weights).mean()) > 0.3
    assert float(distance_from_identity(weights).mean()) > 0.2
    skewed = replace(bank, num_examples=torch.arange(10) * 1000)
    torch.testing.assert_close(_learn(skewed, 9), weights)


def test_faithful_step_by_hand() -> None:
    # Client 0: log s - log p_0 = (log 2/3, log 2), so its gradient for sources 0 and 1 differs by
    # (3/4 - 1/4)(log 2/3 - log 2) = -log(3)/2. The step is 1 / (1 + 1), so theta_0 - theta_1 =
    # log(3)/4; for client 1 the same the other way round.
    new = faithful_step(PROBS.log(), UNIFORM.log(), rho=0.5)
    assert float(new[0, 0] - new[0, 1]) == pytest.approx(LOG3 / 4)
    assert float(new[1, 1] - new[1, 0]) == pytest.approx(LOG3 / 4)
    torch.testing.assert_close(new.exp().sum(dim=1), torch.ones(2).double())


def test_published_step_by_hand() -> None:
    # Client 0: s - p_0 = (-1/4, 1/4); the gradient for source 0 is 2/2 (-3/16 + 1/16) = -1/8 and
    # for source 1 2/2 (-1/16 + 3/16) = 1/8. Its mean size 0.125 goes to 0.025, over 0.01, then to
    # 0.005 and back to 0.025: a step of 1/5. c = (0.525, 0.475), times 5: a difference of 0.25.
    new = published_step(PROBS, UNIFORM, rho=0.7)
    expected = torch.tensor([[0.25, 0.0], [0.0, 0.25]]).double().softmax(dim=1)
    torch.testing.assert_close(new, expected)


def test_published_penalty_by_hand() -> None:
    # No fit to speak of where all predict the same: the gradient is constant + 2 * 0.7 / 2
    # (c - 1/2) = 0.7 * (0.3, -0.3) beside the fit's 0, of mean size 0.21: 1/5, 1/25 and back to
    # 1/5 ... 0.042, then 0.0084 and back. c = (0.8 - 0.042, 0.2 + 0.042).
    same = PROBS[:1].expand(2, 1, 2)
    new = published_step(same, torch.tensor([[0.8, 0.2], [0.5, 0.5]]).double(), rho=0.7)
    expected = (5 * torch.tensor([[0.758, 0.242], [0.5, 0.5]]).double()).softmax(dim=1)
    torch.testing.assert_close(new, expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 6), masked=st.booleans())
def test_the_analytic_gradient_is_autograds(seed: int, num_clients: int, masked: bool) -> None:
    log_probs, logs, sizes, mask = _random(seed, num_clients, masked)
    known = mask if masked else None
    theta = logs.clone().requires_grad_()
    (by_theta,) = torch.autograd.grad(objective(log_probs, theta, sizes, 0.3, known), theta)
    # The step is natural: theta moves by -rate g with g the gradient by c, whose pull through the
    # softmax, c (g - <c, g>), is the gradient by theta.
    moved = faithful_step(log_probs, logs, 0.3, 1e-3, known)
    shares = (sizes / sizes.sum()).unsqueeze(1)  # of the objective; a row's step does not need it
    by_c = shares * (logs - moved) / 1e-3 * (1 + 0.6)
    weights = logs.exp()
    pulled = weights * (by_c - (weights * by_c).sum(dim=1, keepdim=True))
    torch.testing.assert_close(pulled, by_theta, rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 6))
def test_the_published_gradient_is_autograds(seed: int, num_clients: int) -> None:
    log_probs, logs, _, _ = _random(seed, num_clients, masked=False)
    probs, rho = log_probs.exp(), 0.7
    weights = logs.exp().requires_grad_()
    expected = []
    for k in range(num_clients):
        mixture = (weights[k].view(-1, 1, 1) * probs).sum(dim=0)
        uniform = torch.full((num_clients,), 1 / num_clients).double()
        loss = mse_loss(probs[k], mixture) + rho * mse_loss(weights[k], uniform)
        (gradient,) = torch.autograd.grad(loss, weights)
        row, step = gradient[k], 1.0
        size = float(row.abs().mean())
        for _ in range(5):
            if size > 0.01:
                size, step = size / 5, step / 5
            if size < 0.01:
                size, step = size * 5, step * 5
        expected.append((5 * (weights[k].detach() - step * row)).softmax(dim=0))
    got = published_step(probs, weights.detach(), rho)
    torch.testing.assert_close(got, torch.stack(expected), rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 8),
    rho=st.sampled_from([0.0, 0.01, 0.7, 30.0]),
)
def test_the_faithful_objective_never_rises(seed: int, num_clients: int, rho: float) -> None:
    log_probs, logs, sizes, _ = _random(seed, num_clients, masked=False)
    values = []
    for _ in range(8):
        values.append(float(objective(log_probs, logs, sizes, rho)))
        logs = faithful_step(log_probs, logs, rho)
    assert all(new <= old + 1e-12 for old, new in itertools.pairwise(values))


def _learn(bank: KnowledgeBank, calls: int, **options: object) -> Tensor:
    scorer = KTpFL(**options)
    for _ in range(calls - 1):
        scorer(bank, None)
    return scorer(bank, None).softmax(dim=1)


def test_without_a_penalty_each_client_becomes_its_own_teacher() -> None:
    bank = example_bank(4, 30, 5)
    free, held = (_learn(bank, 20, rho=rho) for rho in (0.0, 100.0))
    assert distance_from_identity(free).max() < 0.05
    assert distance_from_uniform(held).max() < 0.02


def test_the_published_variant_falls_back_to_uniform_from_six_clients_on() -> None:
    # With predictions all the same only softmax(5 c) acts: 5/K times a small deviation. From 6
    # clients on it dies away; of 4 clients it grows.
    for num_clients, shrinks in ((4, False), (10, True)):
        probs = torch.full((num_clients, 1, 2), 0.5, dtype=torch.float64)
        weights = torch.full((num_clients, num_clients), 1 / num_clients).double()
        weights[:, 0] += 1e-3
        weights /= weights.sum(dim=1, keepdim=True)
        new = published_step(probs, weights, rho=0.0)
        ratio = float(distance_from_uniform(new)[0] / distance_from_uniform(weights)[0])
        assert ratio == pytest.approx(5 / num_clients, rel=0.02)
        assert (ratio < 1) == shrinks


@pytest.mark.parametrize("variant", ["faithful", "published"])
def test_the_first_call_starts_at_uniform_and_clients_that_err_alike_find_each_other(
    variant: str,
) -> None:
    leaning = torch.tensor([[3.0, 0.0], [3.0, 0.0], [0.0, 3.0], [0.0, 3.0]])
    bank = replace(example_bank(4, 6, 2), logits=leaning.unsqueeze(1).repeat(1, 6, 1))
    weights = _learn(bank, 3, variant=variant, rho=0.1)
    torch.testing.assert_close(weights[:, 0], weights[:, 1])
    torch.testing.assert_close(weights[:, 2], weights[:, 3])
    assert (weights[:2, :2] > weights[:2, 2:] + 0.05).all()
    assert (weights[2:, 2:] > weights[2:, :2] + 0.05).all()


@pytest.mark.parametrize("variant", ["faithful", "published"])
def test_a_loaded_state_goes_on_bit_by_bit(variant: str) -> None:
    bank = example_bank(5, 7, 3)
    first = KTpFL(variant)
    first(bank, None)
    saved = first.state()
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    second = KTpFL(variant)
    second.restore(saved)
    assert torch.equal(first(bank, None), second(bank, None))
    assert all(torch.equal(saved[name], kept[name]) for name in saved)  # a copy, not a view


def test_absent_clients_keep_their_weights_and_newcomers_start_at_the_mean() -> None:
    bank = example_bank(5, 7, 3)
    scorer = KTpFL(rho=0.05)
    scorer(bank.rows(torch.tensor([0, 2, 4])), None)
    before = scorer.state()["log_weights"].softmax(dim=1)
    scorer(bank.rows(torch.tensor([0, 2])), None)
    after = scorer.state()["log_weights"].softmax(dim=1)
    torch.testing.assert_close(after[:, 2], before[:, 2])  # client 4's column
    torch.testing.assert_close(after[2], before[2])  # client 4's row
    assert not torch.allclose(after[0], before[0])
    scorer.steps, scorer.learning_rate = 1, 1e-9
    scorer(bank, None)
    grown = scorer.state()
    assert grown["client_ids"].tolist() == [0, 1, 2, 3, 4]
    weights = grown["log_weights"].softmax(dim=1)
    # Two newcomers at the mean of three: a fifth each, and the old ones in their proportions.
    torch.testing.assert_close(weights[0, [1, 3]], torch.full((2,), 0.2))
    torch.testing.assert_close(weights[0, [0, 2, 4]], 0.6 * after[0])
    torch.testing.assert_close(weights[1], torch.full((5,), 0.2))


@pytest.mark.parametrize("variant", ["faithful", "published"])
@pytest.mark.parametrize(("num_clients", "num_classes"), [(1, 2), (2, 100), (100, 2)])
def test_sizes_extremes_and_silence_stay_finite(
    variant: str, num_clients: int, num_classes: int
) -> None:
    bank = example_bank(num_clients, 3, num_classes)
    mask = torch.ones(num_clients, 3, dtype=torch.bool)
    mask[0] = False
    wild = replace(bank, logits=1e4 * bank.logits, mask=mask, num_examples=0 * bank.num_examples)
    weights = _learn(wild, 5, variant=variant, rho=0.01)
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(num_clients))


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"client_ids": torch.arange(2), "log_weights": torch.zeros(3, 3)},
        {"client_ids": torch.tensor([1, 0]), "log_weights": torch.zeros(2, 2)},
        {"client_ids": torch.arange(1), "log_weights": torch.full((1, 1), torch.nan)},
    ],
)
def test_a_state_that_does_not_fit_is_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(KnowledgeError, match="saved state"):
        KTpFL().restore(state)
