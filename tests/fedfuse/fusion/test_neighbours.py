"""Neighbour selectors: by hand, their two conventions, ties and relabelled clients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.errors import ParameterError
from fedfuse.fusion import All, Mutual, Threshold, TopK, TopP
from fedfuse.fusion.weights import masked_softmax

# Weights 0.5, 0.3, 0.15, 0.05 in four orders: receiver i finds itself at rank i.
WEIGHTS = torch.tensor(
    [
        [0.5, 0.3, 0.15, 0.05],
        [0.5, 0.3, 0.15, 0.05],
        [0.5, 0.3, 0.15, 0.05],
        [0.5, 0.3, 0.15, 0.05],
    ]
)
SCORES = WEIGHTS.log()


def rows(*texts: str) -> Tensor:
    """Return a choice written as one string per row, x for a neighbour."""
    return torch.tensor([[letter == "x" for letter in text] for text in texts])


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (All(), rows("xxxx", "xxxx", "xxxx", "xxxx")),
        (All(include_self=False), rows(".xxx", "x.xx", "xx.x", "xxx.")),
        # itself and the best other
        (TopK(2), rows("xx..", "xx..", "x.x.", "x..x")),
        (TopK(2, include_self=False), rows(".xx.", "x.x.", "xx..", "xx..")),
        (TopK(1), rows("x...", ".x..", "..x.", "...x")),
        (TopK(9), rows("xxxx", "xxxx", "xxxx", "xxxx")),
        # from oneself on: 0.5 + 0.3; 0.3 + 0.5; 0.15 + 0.5 + 0.3; 0.05 + 0.5 + 0.3
        (TopP(0.8), rows("xx..", "xx..", "xxx.", "xx.x")),
        # the others' weights: .6 .3 .1; .714 .214 .071; .588 .353 .059; .526 .316 .158
        (TopP(0.7, include_self=False), rows(".xx.", "x...", "xx..", "xx..")),
        # at least half of 1/4: 0.125
        (Threshold(0.5), rows("xxx.", "xxx.", "xxx.", "xxxx")),
        # at least all of 1/3 of the others' weights above
        (Threshold(1.0, include_self=False), rows(".x..", "x...", "xx..", "x...")),
        # 0 and 1 choose each other; 2 and 3 are chosen by nobody
        (Mutual(2), rows("xx..", "xx..", "..x.", "...x")),
        # 0: {1, 2}, 1: {0, 2}, 2: {0, 1}, 3: {0, 1}; nobody chooses 3, which keeps itself
        (Mutual(2, include_self=False), rows(".xx.", "x.x.", "xx..", "...x")),
    ],
    ids=repr,
)
def test_four_clients_by_hand(selector: Callable[[Tensor], Tensor], expected: Tensor) -> None:
    assert torch.equal(selector(SCORES), expected)


SELECTORS = [
    make(flag)
    for make in (
        All,
        lambda flag: TopK(3, flag),
        lambda flag: TopP(0.6, flag),
        lambda flag: Threshold(0.8, flag),
        lambda flag: Mutual(3, flag),
    )
    for flag in (True, False)
]


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 12))
def test_conventions(selector: Callable[[Tensor], Tensor], seed: int, num_clients: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(num_clients, num_clients, generator=generator)
    near = selector(scores)
    assert near.any(dim=1).all()
    own = near.diagonal()
    if selector.include_self:  # type: ignore[attr-defined]
        assert own.all()
    else:  # only who has nobody else keeps itself
        assert torch.equal(own, near.sum(dim=1) == own.long())
    order = torch.randperm(num_clients, generator=generator)
    assert torch.equal(selector(scores[order][:, order]), near[order][:, order])


@pytest.mark.parametrize("selector", SELECTORS, ids=repr)
def test_the_only_client_keeps_itself(selector: Callable[[Tensor], Tensor]) -> None:
    for score in (0.0, -5.0, -torch.inf):
        assert torch.equal(selector(torch.tensor([[score]])), torch.tensor([[True]]))


def test_ties_go_to_the_smaller_id() -> None:
    tied = torch.zeros(4, 4)
    assert torch.equal(TopK(2)(tied), rows("xx..", "xx..", "x.x.", "x..x"))
    assert torch.equal(TopK(2, include_self=False)(tied), rows(".xx.", "x.x.", "xx..", "xx.."))


def test_ties_are_stable_where_fast_sorts_are_not() -> None:
    near = TopK(4, include_self=False)(torch.zeros(300, 300))
    assert near[10:, :4].all()


def test_infinite_scores_do_not_push_the_receiver_in_or_out() -> None:
    scores = torch.full((3, 3), -torch.inf)
    assert torch.equal(TopK(2, include_self=False)(scores), rows(".xx", "x.x", "xx."))
    assert torch.equal(TopK(1)(-scores.masked_fill(torch.eye(3).bool(), 0)), torch.eye(3).bool())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(2, 12), p=st.floats(0.05, 1.0))
def test_the_nucleus_is_the_smallest_that_reaches_p(seed: int, num_clients: int, p: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(num_clients, num_clients, generator=generator).double()
    near = TopP(p, include_self=False)(scores)
    weights = masked_softmax(scores, ~torch.eye(num_clients).bool())
    for row, chosen in zip(weights.tolist(), near.tolist(), strict=True):
        inside = sorted(w for w, c in zip(row, chosen, strict=True) if c)
        outside = [w for w, c in zip(row, chosen, strict=True) if not c]
        assert math.fsum(inside) >= p - 1e-8
        assert math.fsum(inside[1:]) < p
        assert max(outside, default=0.0) <= inside[0]


@pytest.mark.parametrize(
    ("num_clients", "p", "expected"), [(10, 0.3, 3), (10, 0.8, 8), (10, 1.0, 10), (3, 1, 3)]
)
def test_rounding_neither_adds_nor_loses_equal_neighbours(
    num_clients: int, p: float, expected: int
) -> None:
    scores = torch.zeros(num_clients, num_clients)
    assert (TopP(p)(scores).sum(dim=1) == expected).all()
    assert Threshold(1.0)(scores).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: TopK(0), "k"),
        (lambda: TopK(2.0), "k"),
        (lambda: TopK(True), "k"),
        (lambda: Mutual(-1), "k"),
        (lambda: TopP(0), "p"),
        (lambda: TopP(1.5), "p"),
        (lambda: TopP(math.nan), "p"),
        (lambda: Threshold(-0.1), "min_ratio"),
        (lambda: Threshold(2), "min_ratio"),
        (lambda: Threshold("0.5"), "min_ratio"),
        (lambda: All("yes"), "include_self"),
        (lambda: TopK(2, include_self=1), "include_self"),
    ],
)
def test_bad_hyperparameters_are_named(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ParameterError, match=f"'{name}' parameter"):
        make()
