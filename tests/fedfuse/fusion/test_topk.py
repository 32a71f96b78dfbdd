"""The best sources found block by block are the ones that sorting every pair finds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import fedfuse.fusion.topk
from fedfuse.errors import KnowledgeError
from fedfuse.fusion.divergences import DIVERGENCES
from fedfuse.fusion.neighbours import top_k
from fedfuse.fusion.topk import _best, best_everywhere, distance_scores, nearest


def distributions(num_clients: int, num_classes: int, seed: int, copies: int = 1) -> Tensor:
    """Return random rows, each ``copies`` times, in a shuffled order."""
    generator = torch.Generator().manual_seed(seed)
    distinct = -(-num_clients // copies)
    rows = (2 * torch.randn(distinct, num_classes, generator=generator)).softmax(dim=1)
    return rows.repeat(copies, 1)[torch.randperm(distinct * copies, generator=generator)][
        :num_clients
    ]


def as_choice(index: Tensor) -> Tensor:
    chosen = torch.zeros(len(index), len(index), dtype=torch.bool)
    return chosen.scatter(1, index, value=True)


@pytest.mark.thinned
@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("include_self", [True, False])
def test_two_thousand_scored_in_blocks_equal_them_scored_at_once(
    name: str, include_self: bool
) -> None:
    epds = distributions(2_000, 10, seed=1)
    dense = distance_scores(DIVERGENCES[name](epds), 10.0)
    index, scores = nearest(epds, name, 10.0, 10, include_self, blocks=(300, 700))
    torch.testing.assert_close(scores, dense.gather(1, index), rtol=1e-6, atol=1e-9)
    assert torch.equal(as_choice(index), top_k(dense, 10, include_self))
    own = torch.arange(2_000)
    if include_self:
        assert torch.equal(index[:, 0], own)
    else:
        assert not (index == own.unsqueeze(1)).any()
    assert (scores[:, 1:] <= scores[:, :-1]).all()


@pytest.mark.parametrize("name", DIVERGENCES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_no_result_depends_on_the_blocks(name: str, data: st.DataObject) -> None:
    num_clients = data.draw(st.integers(1, 80))
    k = data.draw(st.integers(1, 12))
    blocks = data.draw(st.tuples(st.integers(1, 90), st.integers(1, 90)))
    include_self = data.draw(st.booleans())
    beta = data.draw(st.sampled_from([0.0, 1.0, 10.0, 1e38]))
    epds = distributions(num_clients, 5, data.draw(st.integers(0, 99)))
    dense = distance_scores(DIVERGENCES[name](epds), beta)
    index, scores = nearest(epds, name, beta, k, include_self, blocks)
    # Only one client, alone without itself, still keeps itself, as the dense selector has it.
    expected = min(k, num_clients - (not include_self)) or 1
    assert index.shape == scores.shape == (num_clients, expected)
    assert torch.equal(as_choice(index), top_k(dense, k, include_self))
    bounded = dense.gather(1, index).clamp_min(torch.finfo(torch.float32).min)
    torch.testing.assert_close(scores, bounded, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_no_result_depends_on_how_many_sources_are_gathered_at_a_time(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    epds = distributions(300, 7, seed=3, copies=2)
    index, scores = nearest(epds, name, 10.0, 4)
    for most in (1, 3_000, 100_000):
        monkeypatch.setattr(fedfuse.fusion.topk, "_NUMBERS", most)
        few, theirs = nearest(epds, name, 10.0, 4, blocks=(90, 128))
        assert torch.equal(few, index)
        torch.testing.assert_close(theirs, scores, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("blocks", [(7, 50), (300, 300), (64, 128)])
def test_ties_go_to_the_smaller_id(name: str, blocks: tuple[int, int]) -> None:
    same = torch.full((300, 10), 0.1)
    index, scores = nearest(same, name, 10.0, 3, include_self=True, blocks=blocks)
    assert index[0].tolist() == [0, 1, 2]
    assert index[1].tolist() == [1, 0, 2]
    assert index[299].tolist() == [299, 0, 1]
    assert not scores.any()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_copies_of_the_receiver_are_its_nearest_and_tie(name: str) -> None:
    epds = distributions(240, 7, seed=5, copies=4)
    index, scores = nearest(epds, name, 10.0, 4, blocks=(50, 90))
    assert (epds[index] == epds.unsqueeze(1)).all()
    assert not scores.any()
    assert torch.equal(index[:, 1:], index[:, 1:].sort(dim=1).values)


@pytest.mark.parametrize("include_self", [True, False])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 99), blocks=st.tuples(st.integers(30, 200), st.integers(1, 200)))
def test_with_a_bias_the_best_are_those_of_the_sum(
    include_self: bool, seed: int, blocks: tuple[int, int]
) -> None:
    """Biases of a few values, among clients of which some are copies: many sums tie."""
    epds = distributions(150, 4, seed, copies=3)
    bias = torch.randint(-3, 3, (150,), generator=torch.Generator().manual_seed(seed)).float()
    dense = distance_scores(DIVERGENCES["kl"](epds), 10.0) + bias
    index, scores = nearest(epds, "kl", 10.0, 4, include_self, blocks, bias)
    assert torch.equal(as_choice(index), top_k(dense, 4, include_self))
    torch.testing.assert_close(scores, dense.gather(1, index), rtol=1e-6, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 99),
    sources=st.integers(1, 5_000),
    values=st.sampled_from([1, 3, 1_000_000]),
    count=st.integers(1, 3),
)
def test_the_least_of_many_are_those_of_a_stable_sort(
    seed: int, sources: int, values: int, count: int
) -> None:
    """So many groups that groups of them are asked first; few values tie."""
    generator = torch.Generator().manual_seed(seed)
    costs = torch.randint(-values, values, (sources, 3), generator=generator).float()
    expected = costs.argsort(dim=0, stable=True)[:count].T
    assert torch.equal(_best(costs, count), expected)


class Counted(TorchDispatchMode):
    """Note the operations that are asked for, views of what is there left out."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.found.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_what_is_queued_depends_on_no_value_and_is_little() -> None:
    """On a GPU whatever asks for a value, or for how many there are, waits for the device."""
    waits = {"_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "index"}

    def queued(num_clients: int, seed: int) -> list[str]:
        with Counted() as ops:
            nearest(distributions(num_clients, 5, seed), "kl", 1.0, 4, blocks=(1_024, 128))
        return ops.found[ops.found.index("mm") :]

    few, many = queued(512, 0), queued(1_024, 0)
    assert not waits & set(many)
    assert many == queued(1_024, 1)
    assert len(many) - len(few) <= 4 * 8  # 4 more blocks of sources


def test_a_row_that_is_no_distribution_is_named() -> None:
    epds = distributions(5, 3, seed=0)
    epds[3] = 0
    with pytest.raises(KnowledgeError, match=r"clients at \[3\]"):
        nearest(epds, "kl", 10.0, 2)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=15),
    k=st.integers(1, 17),
    include_self=st.booleans(),
)
def test_sources_that_are_as_good_for_everyone(
    sizes: list[int], k: int, include_self: bool
) -> None:
    scores = torch.tensor(sizes).float().log()
    index, found = best_everywhere(scores, k, include_self)
    dense = scores.repeat(len(scores), 1)
    assert torch.equal(as_choice(index), top_k(dense, k, include_self))
    assert torch.equal(found, scores[index])
