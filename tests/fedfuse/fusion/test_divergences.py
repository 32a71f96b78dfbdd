"""Divergences: three clients by hand, a slow loop, and what must hold for any distributions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.fusion import divergences
from fedfuse.fusion.divergences import DIVERGENCES, EPS

# a and b share one of their two classes; c lies halfway between them.
A, B, C = (1 / 2, 1 / 2, 0), (0, 1 / 2, 1 / 2), (1 / 4, 1 / 2, 1 / 4)

BY_HAND = {
    # KL(a||b) = 1/2 log(1/2 / 1e-8) + 1/2 log 1 = (18.420681 - 0.693147) / 2 = 8.863767 = KL(b||a)
    # KL(a||c) = 1/2 log 2 + 1/2 log 1 = 0.346574 = KL(b||c)
    # KL(c||a) = 1/4 log(1/2) + 1/2 log 1 + 1/4 log(1/4 / 1e-8)
    #          = -0.173287 + (18.420681 - 1.386294) / 4 = 4.085310 = KL(c||b)
    "kl": [[0, 8.863767, 0.346574], [8.863767, 0, 0.346574], [4.085310, 4.085310, 0]],
    # Means of the pairs above: (0.346574 + 4.085310) / 2 = 2.215942
    "symmetric_kl": [[0, 8.863767, 2.215942], [8.863767, 0, 2.215942], [2.215942, 2.215942, 0]],
    # H(a) = H(b) = log 2, H(c) = 3/2 log 2; the mean of a and b is c, so JS = 1/2 log 2 = 0.346574.
    # The mean of a and c is (3/8, 1/2, 1/8), H = 3/8 log(8/3) + 1/2 log 2 + 1/8 log 8 = 2 log 2 -
    # 3/8 log 3 = 0.974315; minus (1 + 3/2)/2 log 2 = 0.866434 gives 0.107881.
    "js": [[0, 0.346574, 0.107881], [0.346574, 0, 0.107881], [0.107881, 0.107881, 0]],
    # |1/2| + 0 + |1/2| = 1; |1/4| + 0 + |1/4| = 1/2
    "l1": [[0, 1, 0.5], [1, 0, 0.5], [0.5, 0.5, 0]],
    # a.b = 1/4, |a|^2 = |b|^2 = 1/2: cos = 1/2. a.c = |c|^2 = 3/8: cos = sqrt(3/4) = 0.866025.
    "cosine": [[0, 0.5, 0.133975], [0.5, 0, 0.133975], [0.133975, 0.133975, 0]],
    # 1 - BC with BC(a,b) = sqrt(1/4) = 1/2: sqrt(1/2). BC(a,c) = sqrt(1/8) + 1/2 = 0.853553:
    # sqrt(0.146447) = 0.382683.
    "hellinger": [[0, 0.707107, 0.382683], [0.707107, 0, 0.382683], [0.382683, 0.382683, 0]],
}


def test_every_divergence_has_its_example() -> None:
    assert BY_HAND.keys() == DIVERGENCES.keys()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_three_clients_by_hand(name: str) -> None:
    got = DIVERGENCES[name](torch.tensor([A, B, C]))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, torch.tensor(BY_HAND[name]), rtol=0, atol=2e-6)


def _pair(name: str, p: list[float], q: list[float]) -> float:
    """Return one divergence of two distributions, as its textbook writes it."""

    def kl(p: list[float], q: list[float], eps: float) -> float:
        return sum(
            x * (math.log(max(x, eps)) - math.log(max(y, eps)))
            for x, y in zip(p, q, strict=True)
            if x > 0
        )

    pairs = list(zip(p, q, strict=True))
    match name:
        case "kl":
            return kl(p, q, EPS)
        case "symmetric_kl":
            return (kl(p, q, EPS) + kl(q, p, EPS)) / 2
        case "js":
            mean = [(x + y) / 2 for x, y in pairs]
            return (kl(p, mean, 1e-300) + kl(q, mean, 1e-300)) / 2
        case "l1":
            return sum(abs(x - y) for x, y in pairs)
        case "cosine":
            return 1 - sum(x * y for x, y in pairs) / (math.hypot(*p) * math.hypot(*q))
        case _:
            return math.sqrt(max(0.0, 1 - sum(math.sqrt(x * y) for x, y in pairs)))


def _distributions(seed: int, num_clients: int, num_classes: int) -> Tensor:
    """Return float64 rows with some exact zeros, from nearly uniform to nearly one-hot."""
    generator = torch.Generator().manual_seed(seed)
    size = (num_clients, num_classes)
    peak = 10 * torch.rand(num_clients, 1, generator=generator)
    mass = (peak * torch.randn(size, generator=generator)).double().softmax(dim=1)
    mass = mass * (torch.rand(size, generator=generator) > 0.2)
    mass[:, 0] += 1e-3
    return mass / mass.sum(dim=1, keepdim=True)


sizes = st.tuples(st.integers(0, 10_000), st.integers(1, 12), st.sampled_from([2, 3, 10, 30]))


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_agrees_with_a_loop_over_pairs(name: str, size: tuple[int, int, int]) -> None:
    e = _distributions(*size)
    rows = e.tolist()
    loop = torch.tensor([[_pair(name, p, q) for q in rows] for p in rows])
    torch.testing.assert_close(DIVERGENCES[name](e), loop, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_holds_for_any_distributions(name: str, size: tuple[int, int, int]) -> None:
    e = _distributions(*size).float()
    d = DIVERGENCES[name](e)
    assert d.isfinite().all()
    assert (d >= 0).all()
    assert (d.diagonal() == 0).all()
    largest = {"js": math.log(2), "l1": 2, "cosine": 1, "hellinger": 1}.get(name, -math.log(EPS))
    assert (d <= largest * (1 + 1e-6)).all()
    if name != "kl":
        torch.testing.assert_close(d, d.T, rtol=1e-6, atol=1e-9)
    order = torch.arange(len(e)).flip(0)
    torch.testing.assert_close(DIVERGENCES[name](e[order]), d[order][:, order])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kl", -math.log(EPS)),
        ("symmetric_kl", -math.log(EPS)),
        ("js", math.log(2)),
        ("l1", 2.0),
        ("cosine", 1.0),
        ("hellinger", 1.0),
    ],
)
def test_disjoint_supports_give_a_finite_maximum(name: str, expected: float) -> None:
    d = DIVERGENCES[name](torch.eye(2))
    torch.testing.assert_close(d, torch.tensor([[0, expected], [expected, 0]]))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equal_clients_lie_at_no_distance_and_close_ones_at_their_own(name: str) -> None:
    """Why float64: 1e-5 apart, the KL is 1e-10, which float32 loses in entropies of 2.3."""
    e = torch.full((3, 10), 0.1, dtype=torch.float64)
    e[2, :2] += torch.tensor([1e-5, -1e-5], dtype=torch.float64)
    d = DIVERGENCES[name](e)
    assert d[0, 1] < 1e-15
    expected = _pair(name, e[0].tolist(), e[2].tolist())
    assert expected > 0
    if name not in {"js", "cosine", "hellinger"}:  # their textbook forms cancel themselves
        torch.testing.assert_close(float(d[0, 2]), expected, rtol=1e-4, atol=0)
    else:
        assert d[0, 2] > 0


def test_rows_of_float32_that_miss_one_are_normalised() -> None:
    e = torch.tensor([[0.3, 0.7], [0.3, 0.7]]) * torch.tensor([[1.0], [1.0 + 1e-6]])
    assert divergences.kl(e).max() < 1e-12


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    e = _distributions(3, 11, 5)
    whole = divergences.js(e)
    monkeypatch.setattr(divergences, "_BLOCK_ELEMENTS", 3 * e.numel())
    assert torch.equal(divergences.js(e), whole)
