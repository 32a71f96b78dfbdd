"""The target between own and teacher: by hand, and its two ends."""

from __future__ import annotations

import math

import pytest
import torch

from fedfuse.distill import KL, TAID
from fedfuse.errors import ParameterError
from fedfuse.interpolation import between, linear
from fedfuse.testing import check_distill_loss
from fedfuse.train.facts import Facts, Widened, widen


def drawn(dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 10, generator=draw, dtype=dtype)
    targets = torch.randn(40, 10, generator=draw, dtype=dtype).softmax(dim=1)
    targets[0] = torch.eye(10)[3]
    return logits, targets


def at(t, rows=40):
    return Facts(clock=torch.full((rows,), t))


def test_A5_the_target_by_hand():
    logits, told = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]]).softmax(dim=1)
    mixed = between(logits, told, 0.4)
    expected = torch.tensor([[0.802184, 0.197816]])
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=0)
    cross_entropy = -(mixed * logits.log_softmax(dim=1)).sum()
    assert float(cross_entropy) == pytest.approx(0.511078, abs=1e-5)
    entropy = -sum(r * math.log(r) for r in (0.802184, 0.197816))
    found = TAID()(logits, told, at(0.4, 1))
    assert float(found) == pytest.approx(0.511078 - entropy, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_A5_at_the_end_it_is_forward_kl_and_at_the_beginning_nothing_pulls(temperature, dtype):
    logits, targets = drawn(dtype)
    plain = KL(temperature, scale_by_t2=False)(logits, targets)
    assert torch.equal(TAID(temperature)(logits, targets, at(1.0)), plain)
    for t in (0.0, 0.5, 1.0):
        loss = TAID(temperature)
        pull = torch.func.grad(lambda z, t=t, loss=loss: loss(z, targets, at(t)).sum())(logits)
        assert (float(pull.abs().max()) < 1e-6) == (t == 0)
    assert float(TAID(temperature)(logits, targets, at(0.0)).max()) < 1e-6


def test_A5_the_target_has_no_gradient_and_its_pull_is_that_of_the_cross_entropy():
    logits, targets = drawn()
    pull = torch.func.grad(lambda z: TAID()(z, targets, at(0.4)).sum())(logits)
    expected = logits.softmax(dim=1) - between(logits, targets, 0.4)
    torch.testing.assert_close(pull, expected, atol=1e-6, rtol=0)


def test_A5_each_row_has_its_own_time_as_a_column_of_the_targets():
    logits, targets = drawn()
    clock = torch.linspace(0, 1, 40)
    wide = widen(targets, Facts(clock=clock))
    together = Widened(TAID(), TAID.wants)(logits, wide)
    alone = [TAID()(logits[[i]], targets[[i]], at(float(clock[i]), 1)) for i in range(40)]
    torch.testing.assert_close(together, torch.cat(alone))
    batched = torch.func.vmap(Widened(TAID(), TAID.wants))(logits[:, None], wide[:, None])
    torch.testing.assert_close(batched.flatten(), together)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_A5_it_keeps_the_promises_of_a_loss(temperature):
    check_distill_loss(TAID(temperature))


def test_A5_the_line_from_start_to_end():
    assert [linear(0.4, 1.0, over) for over in (-1, 0, 1, 7)] == [0.4, 0.4, 1.0, 1.0]
    assert linear(0.4, 1.0, 0.5) == pytest.approx(0.7)


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), True])
def test_A5_a_temperature_is_a_number_above_zero(temperature):
    with pytest.raises(ParameterError, match="'temperature' parameter of TAID"):
        TAID(temperature)
