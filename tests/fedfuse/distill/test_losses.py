"""Distillation losses: by hand, against torch, safe at the borders, vmappable."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.distill import KL, MAELogits, MSELogits, SoftCrossEntropy
from fedfuse.errors import ParameterError
from fedfuse.types import Space

LOG3 = math.log(3)
# Three students: softmax (3/4, 1/4), (1/2, 1/2), (1/4, 3/4); their teachers:
STUDENTS = torch.tensor([[LOG3, 0.0], [0.0, 0.0], [0.0, LOG3]])
TEACHERS = torch.tensor([[1 / 2, 1 / 2], [1.0, 0.0], [1 / 4, 3 / 4]])


def test_forward_kl_by_hand() -> None:
    # 1/2 log(2/3) + 1/2 log 2 = 1/2 log(4/3); log 2; equal: 0
    expected = torch.tensor([0.143841, 0.693147, 0.0])
    torch.testing.assert_close(KL()(STUDENTS, TEACHERS), expected, rtol=0, atol=1e-6)


def test_reverse_kl_by_hand() -> None:
    # 3/4 log(3/2) + 1/4 log(1/2) = 3/4 log 3 - log 2 = 0.130812
    # 1/2 log(1/2) + 1/2 log(1/2 / 1e-8) = -log 2 + 4 log 10 = 8.517193; equal: 0
    got = KL(direction="reverse")(STUDENTS, TEACHERS)
    torch.testing.assert_close(got, torch.tensor([0.130812, 8.517193, 0.0]), rtol=0, atol=2e-6)


def test_kl_temperature_by_hand() -> None:
    # T = 1/2 squares the odds: students (9/10, 1/10), (1/2, 1/2), (1/10, 9/10).
    # 1/2 log(5/9) + 1/2 log 5 = 0.510826; log 2 = 0.693147; 1/4 log(5/2) + 3/4 log(5/6) = 0.092332
    plain = KL(temperature=0.5, scale_by_t2=False)(STUDENTS, TEACHERS)
    torch.testing.assert_close(
        plain, torch.tensor([0.510826, 0.693147, 0.092332]), rtol=0, atol=1e-6
    )
    # times T^2 = 1/4
    torch.testing.assert_close(KL(temperature=0.5)(STUDENTS, TEACHERS), plain / 4)


def test_soft_cross_entropy_by_hand() -> None:
    # -1/2 log(3/4) - 1/2 log(1/4) = 0.836988; log 2; H(1/4, 3/4) = 0.562335
    expected = torch.tensor([0.836988, 0.693147, 0.562335])
    torch.testing.assert_close(SoftCrossEntropy()(STUDENTS, TEACHERS), expected, rtol=0, atol=1e-6)


def test_squared_and_absolute_errors_by_hand() -> None:
    student = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]])
    teacher = torch.tensor([[2.0, 4.0], [0.0, 0.0], [0.0, 0.0]])
    # (1 + 4)/2, 0, (9 + 1)/2 and (1 + 2)/2, 0, (3 + 1)/2
    assert MSELogits()(student, teacher).tolist() == [2.5, 0, 5]
    assert MAELogits()(student, teacher).tolist() == [1.5, 0, 2]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 8),
    classes=st.sampled_from([2, 10, 100]),
    temperature=st.sampled_from([0.5, 1.0, 4.0]),
)
def test_agrees_with_torch_in_float64(
    seed: int, batch: int, classes: int, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(batch, classes, generator=generator).double()
    targets = (3 * torch.randn(batch, classes, generator=generator).double()).softmax(1)
    log_student = F.log_softmax(student / temperature, dim=1)
    forward = F.kl_div(log_student, targets, reduction="batchmean")
    log_targets = targets.clamp_min(1e-8).log()  # as documented: no target counts for less
    reverse = F.kl_div(log_targets, log_student, reduction="batchmean", log_target=True)
    t2 = temperature**2
    got = KL(temperature)(student, targets).mean()
    torch.testing.assert_close(got, t2 * forward)
    got = KL(temperature, direction="reverse")(student, targets).mean()
    torch.testing.assert_close(got, t2 * reverse)
    entropy = F.cross_entropy(student / temperature, targets)
    torch.testing.assert_close(SoftCrossEntropy(temperature)(student, targets).mean(), entropy)
    torch.testing.assert_close(MSELogits()(student, targets).mean(), F.mse_loss(student, targets))
    torch.testing.assert_close(MAELogits()(student, targets).mean(), F.l1_loss(student, targets))


def test_kl_gradients_keep_their_size_over_temperatures() -> None:
    """What the factor T^2 is for: without it the gradient shrinks as 1 / T^2."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 5, generator=generator)
    teacher = torch.randn(6, 5, generator=generator)

    def gradient_norm(temperature: float, scale_by_t2: bool) -> float:
        loss = KL(temperature, scale_by_t2)
        targets = (teacher / temperature).softmax(1)
        return float(torch.func.grad(lambda z: loss(z, targets).sum())(student).norm())

    assert gradient_norm(50, True) == pytest.approx(gradient_norm(20, True), rel=0.05)
    assert gradient_norm(50, False) == pytest.approx(gradient_norm(20, False) / 6.25, rel=0.05)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_kl_gradient_is_finite_and_vanishes_at_the_teacher(direction: str) -> None:
    targets = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    students = torch.tensor([[1e4, -1e4], [0.0, LOG3]])
    loss = KL(direction=direction)
    gradient = torch.func.grad(lambda z: loss(z, targets).sum())(students)
    torch.testing.assert_close(gradient, torch.zeros(2, 2), rtol=0, atol=1e-6)
    torch.testing.assert_close(loss(students, targets), torch.zeros(2), rtol=0, atol=1e-6)


def test_spaces() -> None:
    assert KL().space is SoftCrossEntropy().space is Space.PROBABILITIES
    assert MSELogits().space is MAELogits().space is Space.LOGITS


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", True, None])
def test_bad_temperatures_are_named(value: object) -> None:
    for make in (KL, SoftCrossEntropy):
        with pytest.raises(ParameterError, match="'temperature' parameter"):
            make(value)  # type: ignore[arg-type]


def test_bad_options_are_named() -> None:
    with pytest.raises(ParameterError, match="Did you mean 'reverse'"):
        KL(direction="revers")
    with pytest.raises(ParameterError, match="'scale_by_t2' parameter"):
        KL(scale_by_t2=1)  # type: ignore[arg-type]
