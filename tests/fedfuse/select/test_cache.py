"""SCARLET's cache: ages by hand, one predicate for requests and signals, lossless replay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedfuse.errors import ParameterError
from fedfuse.select import Signal, SignalCache
from fedfuse.select.cache import live, stale


def test_a_target_serves_as_many_rounds_as_it_says() -> None:
    cache = SignalCache(duration=3)
    stored, index = cache.empty(1), torch.tensor([0])
    said = []
    for round_ in range(1, 9):
        said.append(Signal(int(cache.signals(stored, round_, index))).name)
        stored = cache.update(stored, round_, index)
    assert said == [
        "NEWLY_CACHED", "CACHED", "CACHED",
        "EXPIRED", "CACHED", "CACHED",
        "EXPIRED", "CACHED",
    ]  # fmt: skip


def test_at_exactly_its_duration_a_target_is_both_requested_and_announced() -> None:
    # The published code requests at age 3 but announces "cached" until age 3 has passed.
    cache = SignalCache(duration=3)
    stored, index = torch.tensor([5]), torch.tensor([0])
    assert cache.request(stored, 8, index).tolist() == [True]
    assert cache.signals(stored, 8, index).tolist() == [Signal.EXPIRED]
    assert cache.request(stored, 7, index).tolist() == [False]
    assert live(stored, 7, 3).tolist() == [True]


def test_a_duration_of_one_is_no_cache() -> None:
    cache = SignalCache(duration=1)
    stored, index = cache.empty(3), torch.arange(3)
    for round_ in range(4):
        assert cache.request(stored, round_, index).all()
        stored = cache.update(stored, round_, index)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_clients_always_use_the_target_the_server_means(duration: int, seed: int) -> None:
    """Replay rounds of random selections; the client sees only signals and fresh targets."""
    generator = torch.Generator().manual_seed(seed)
    cache = SignalCache(duration)
    num_public = 8
    stored = cache.empty(num_public)
    server, client = torch.zeros(num_public, 1), torch.full((num_public, 1), torch.nan)
    ages = []
    for round_ in range(15):
        index = torch.randperm(num_public, generator=generator)[:4].sort().values
        asked = cache.request(stored, round_, index)
        signals = cache.signals(stored, round_, index)
        assert torch.equal(asked, signals != Signal.CACHED)
        fresh = torch.full((int(asked.sum()), 1), float(round_))
        server[index[asked]] = client[index[signals != Signal.CACHED]] = fresh
        used = server[index]
        assert torch.equal(client[index], used)
        stored = cache.update(stored, round_, index)
        assert torch.equal(used.flatten(), stored[index].float())
        ages += (round_ - stored[index]).tolist()
    assert 0 <= min(ages) <= max(ages) < duration


def test_the_state_is_a_tensor_and_updates_leave_the_old_one() -> None:
    cache = SignalCache()
    stored = cache.empty(4)
    after = cache.update(stored, 2, torch.tensor([1, 3]))
    assert stored.tolist() == [-1] * 4
    assert after.tolist() == [-1, 2, -1, 2]


def test_a_client_that_missed_a_round_is_caught_up() -> None:
    held = torch.tensor([[1, 4, -1], [1, 2, -1], [-1, -1, -1]])
    stored = torch.tensor([1, 4, -1])
    lacking = stale(held, stored, torch.tensor([1, 2]))
    assert lacking.tolist() == [[False, False], [True, False], [True, False]]


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None])
def test_bad_durations(bad: object) -> None:
    with pytest.raises(ParameterError, match="'duration' parameter of SignalCache"):
        SignalCache(bad)  # type: ignore[arg-type]
