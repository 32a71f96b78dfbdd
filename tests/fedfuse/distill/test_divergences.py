"""Balanced, standardised and bounded divergences: by hand, their limits, what is refused."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from fedfuse.distill import KL, BalancedKL, Divergence, StandardisedKL
from fedfuse.distill.divergence import KINDS
from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.testing import check_distill_loss

LOG_2 = math.log(2)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def drawn(*, classes: int = 5, agree: bool = False) -> tuple[Tensor, Tensor]:
    """Return logits [8, C] of students and the targets of their teachers."""
    generator = torch.Generator().manual_seed(classes)
    student = 2 * torch.randn(8, classes, generator=generator, dtype=torch.float64)
    teacher = 2 * torch.randn(8, classes, generator=generator, dtype=torch.float64)
    return student, (student if agree else teacher).softmax(dim=1)


def close(got: Tensor, expected: float, atol: float = 1e-5) -> None:
    torch.testing.assert_close(
        got.double(), torch.full_like(got.double(), expected), rtol=0, atol=atol
    )


@pytest.mark.parametrize(
    ("student", "target", "expected"),
    [((2, 0), (0.6, 0.4), 0.701657), ((0.2, 0), (0.9, 0.1), 1.105664)],
)
def test_A1_by_hand(student, target, expected) -> None:
    close(BalancedKL()(row(*student), row(*target)), expected)
    close(BalancedKL()(row(*student).float(), row(*target).float()), expected)


def test_A1_equal_entropies_count_as_under() -> None:
    student, target = torch.zeros(1, 2), torch.full((1, 2), 0.5)
    skewed = row(0.75, 0.25).log()
    swapped = row(0.25, 0.75)  # as sure as the student, of another class
    forward, reverse = (KL(direction=d)(skewed, swapped) for d in ("forward", "reverse"))
    loss = BalancedKL(over=(7, 7), under=(1, 2))
    assert loss(student, target) == 0
    torch.testing.assert_close(loss(skewed, swapped), forward + 2 * reverse)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_A1_is_either_divergence_to_the_bit_and_0_where_both_agree(temperature: float) -> None:
    student, targets = drawn()
    for pair, direction in (((1, 0), "forward"), ((0, 1), "reverse")):
        ours = BalancedKL(temperature, over=pair, under=pair)
        assert torch.equal(
            ours(student, targets), KL(temperature, direction=direction)(student, targets)
        )
    student, targets = drawn(agree=True)
    close(BalancedKL()(student, targets), 0, atol=1e-12)


def test_A1_has_the_gradient_of_the_chosen_weights_alone() -> None:
    student, targets = drawn()
    student.requires_grad_()
    entropy = [-torch.xlogy(p, p).sum(dim=1) for p in (targets, student.softmax(dim=1))]
    surer = (entropy[0] > entropy[1]).double()
    assert 0 < surer.sum() < len(surer)
    forward, reverse = (KL(direction=d)(student, targets) for d in ("forward", "reverse"))
    by_hand = (1 + surer) * forward + (2 - surer) * reverse
    expected = torch.autograd.grad(by_hand.sum(), student, retain_graph=True)
    got = torch.autograd.grad(BalancedKL()(student, targets).sum(), student)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"over": [1]}, "'over' parameter"),
        ({"under": [1, 2, 3]}, "'under' parameter"),
        ({"over": [-1, 2]}, "'over' parameter.*at least 0"),
        ({"over": [0, 0], "under": [0, 0]}, "a weight above 0"),
        ({"under": "12"}, "'under' parameter"),
        ({"over": 2}, "'over' parameter"),
        ({"over": [True, 1]}, "'over' parameter.*finite"),
        ({"over": [math.nan, 1]}, "'over' parameter.*finite"),
        ({"temperature": 0}, "'temperature' parameter"),
        ({"scale_by_t2": 1}, "'scale_by_t2' parameter"),
    ],
)
def test_A1_refuses(given, words) -> None:
    with pytest.raises(ParameterError, match=words):
        BalancedKL(**given)


def test_A1_lists_of_a_configuration_make_an_equal_loss_that_can_be_hashed() -> None:
    assert BalancedKL(over=[2, 1]) == BalancedKL()
    assert hash(BalancedKL(over=[2, 1])) == hash(BalancedKL())
    assert BalancedKL(over=[0, 0]).under == (1, 2)  # one side may count for nothing


def test_A2_by_hand() -> None:
    teacher, student = row(2, 4, 6).softmax(dim=1), row(1, 0, -1)
    loss = StandardisedKL()(student, teacher)
    close(loss, 1.150421)
    # With label 0, as the authors weigh it: cross-entropy of the rescaled student, whose deviation
    # is 1.
    cross_entropy = -student.log_softmax(dim=1)[:, 0]
    close(0.1 * cross_entropy + 0.9 * loss, 1.076139)


def test_A2_does_not_see_the_scale_of_the_students_logits() -> None:
    student, targets = drawn()
    loss, expected = StandardisedKL(), StandardisedKL()(student, targets)
    for scale, shift in ((0.01, 3), (50, -7)):
        torch.testing.assert_close(
            loss(scale * student + shift, targets), expected, rtol=0, atol=1e-6
        )
    # A teacher in proportion to the student: nothing to learn, at any temperature.
    for temperature in (1, 4):
        proportional = (0.3 * student).softmax(dim=1)
        close(StandardisedKL(temperature)(student, proportional), 0, atol=1e-6)


def test_A2_temperature_divides_both_again() -> None:
    student, targets = drawn()
    scaled = [z / z.std(dim=1, keepdim=True) for z in (student, targets.log())]
    expected = KL(scale_by_t2=False)(scaled[0] / 2, (scaled[1] / 2).softmax(dim=1))
    torch.testing.assert_close(StandardisedKL(2.0)(student, targets), expected)


def test_A2_survives_constant_logits_and_refuses_one_class() -> None:
    student = torch.zeros(1, 3, requires_grad=True)
    loss = StandardisedKL()(student, torch.full((1, 3), 1 / 3))
    loss.sum().backward()
    assert loss == 0
    assert student.grad is not None
    assert student.grad.isfinite().all()
    with pytest.raises(FedfuseError, match="one class"):
        StandardisedKL()(torch.zeros(2, 1), torch.ones(2, 1))


@pytest.mark.parametrize(
    "given", [{"temperature": -1}, {"temperature": True}, {"eps": 0}, {"eps": math.inf}]
)
def test_A2_refuses(given) -> None:
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter"):
        StandardisedKL(**given)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (Divergence("skew_kl"), 0.307137),
        (Divergence("skew_rkl"), 0.365321),
        (Divergence("js"), 0.101749),
        (Divergence("js", 0.1), 0.033603),
        (Divergence("tvd"), 0.4),
    ],
)
def test_A3_by_hand(loss: Divergence, expected: float) -> None:
    for dtype in (torch.float32, torch.float64):
        close(loss(torch.zeros(1, 2, dtype=dtype), row(0.9, 0.1).to(dtype)), expected)


def test_A3_adaptive_by_hand() -> None:
    for dtype in (torch.float32, torch.float64):
        student, target = row(0.2, 0.3, 0.5).log().to(dtype), row(0.5, 0.3, 0.2).to(dtype)
        close(Divergence("adaptive_kl")(student, target), 0.274887)


def test_A3_adaptive_weighs_by_gaps_that_have_no_gradient() -> None:
    student, target = row(0.1, 0.3, 0.6).log().requires_grad_(), row(0.5, 0.3, 0.2)
    got = torch.autograd.grad(Divergence("adaptive_kl")(student, target).sum(), student)
    forward, reverse = (KL(direction=d)(student, target) for d in ("forward", "reverse"))
    # Head: classes 0 and 1 with gaps .4 and 0; tail: class 2 with gap .4.
    expected = torch.autograd.grad((0.5 * forward + 0.5 * reverse).sum(), student)
    torch.testing.assert_close(got, expected)


def test_A3_adaptive_is_half_of_each_where_nothing_is_left_to_weigh() -> None:
    uniform = torch.zeros(1, 4, requires_grad=True)
    loss = Divergence("adaptive_kl")(uniform, torch.full((1, 4), 0.25))
    loss.sum().backward()
    assert loss == 0
    assert uniform.grad is not None
    assert uniform.grad.isfinite().all()


def test_A3_skewed_divergences_tend_to_kl_and_to_0() -> None:
    student, targets = drawn()
    for kind, direction in (("skew_kl", "forward"), ("skew_rkl", "reverse")):
        whole = KL(direction=direction)(student, targets)
        near = Divergence(kind, 1e-7)(student, targets)
        torch.testing.assert_close(near, whole, rtol=1e-4, atol=1e-4)
        close(Divergence(kind, 1 - 1e-7)(student, targets), 0, atol=1e-5)
        assert (Divergence(kind)(student, targets) <= -math.log(0.1)).all()


def test_A3_bounds_and_symmetry_at_disjoint_predictions() -> None:
    student, targets = torch.tensor([[200.0, -200, -200]]), torch.tensor([[0.0, 1, 0]])
    assert Divergence("tvd")(student, targets) == 1
    close(Divergence("js")(student, targets), LOG_2, atol=1e-6)
    close(Divergence("skew_kl")(student, targets), -math.log(0.1))
    student, targets = drawn()
    ours = Divergence("js")(student, targets)
    theirs = Divergence("js")(targets.log(), student.softmax(dim=1))
    torch.testing.assert_close(ours, theirs)
    assert (ours <= LOG_2).all()
    assert (Divergence("tvd")(student, targets) <= 1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_A3_is_0_where_both_agree_and_scales_by_t2(kind: str) -> None:
    student, targets = drawn(agree=True)
    close(Divergence(kind)(student, targets), 0, atol=1e-12)
    student, targets = drawn()
    plain = Divergence(kind, temperature=3.0, scale_by_t2=False)(student, targets)
    torch.testing.assert_close(plain, Divergence(kind)(student / 3, targets))
    torch.testing.assert_close(Divergence(kind, temperature=3.0)(student, targets), 9 * plain)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "jss"}, "Did you mean 'js'"),
        ({"kind": None}, "'kind' parameter"),
        ({"kind": "js", "weight": 0}, "'weight' parameter.*above 0 and below 1"),
        ({"kind": "skew_kl", "weight": 1}, "'weight' parameter"),
        ({"kind": "adaptive_kl", "weight": math.nan}, "'weight' parameter"),
        ({"kind": "adaptive_kl", "weight": True}, "'weight' parameter"),
        ({"kind": "tvd", "weight": 0.5}, "tvd has none"),
        ({"kind": "tvd", "temperature": 0}, "'temperature' parameter"),
    ],
)
def test_A3_refuses(given, words) -> None:
    with pytest.raises(ParameterError, match=words):
        Divergence(**given)


@pytest.mark.parametrize("temperature", [0.5, 1, 4])
@pytest.mark.parametrize(
    "make",
    [
        BalancedKL,
        StandardisedKL,
        *(lambda t, kind=kind: Divergence(kind, temperature=t) for kind in KINDS),
    ],
    ids=["A1", "A2", *(f"A3_{kind}" for kind in KINDS)],
)
def test_they_keep_the_promises_of_a_loss(make, temperature: float) -> None:
    check_distill_loss(make(temperature))


@pytest.mark.parametrize(
    "make", [KL, BalancedKL, StandardisedKL, *(partial(Divergence, kind) for kind in KINDS)]
)
def test_a_target_that_was_rounded_below_0_counts_as_0(make) -> None:
    student = row(0.5, 0.1, -1)
    below, zero = row(-1e-9, 0.4, 0.6 + 1e-9), row(0, 0.4, 0.6)
    torch.testing.assert_close(make()(student, below), make()(student, zero))
