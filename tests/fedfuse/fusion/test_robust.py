"""Robust means: by hand, against slow float64 loops, and with liars among the sources."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.fusion.robust import (
    CoordinateMedian,
    GeometricMedian,
    Krum,
    SpectralFilter,
    TrimmedMean,
)
from fedfuse.fusion.robust.coordinate import coordinate_median, trimmed_mean
from fedfuse.fusion.robust.geometric import geometric_median
from fedfuse.fusion.robust.krum import krum_choice, squared_distances
from fedfuse.fusion.robust.receivers import to_simplex
from fedfuse.fusion.robust.spectral import spectral_mean
from fedfuse.types import KnowledgeBank

COLUMNS = [[0.6, 0.3, 0.1], [0.5, 0.1, 0.4], [0.0, 0.2, 0.8]]
THREE = torch.tensor(COLUMNS).unsqueeze(1)
EQUAL = torch.full((1, 3), 1 / 3)


def _binary(*first: float) -> Tensor:
    """Return sources [J, 1, 2] with these probabilities of the first class."""
    p = torch.tensor(first)
    return torch.stack([p, 1 - p], dim=1).unsqueeze(1)


def test_median_by_hand() -> None:
    # Medians 0.5, 0.2, 0.4, which sum to 1.1.
    expected = torch.tensor([[[5 / 11, 2 / 11, 4 / 11]]])
    torch.testing.assert_close(coordinate_median(THREE, EQUAL), expected)
    # Four equal weights: the middle of 0.2 and 0.4.
    fused = coordinate_median(_binary(0.9, 0.2, 0.4, 0.1), torch.full((1, 4), 0.25))
    torch.testing.assert_close(fused, torch.tensor([[[0.3, 0.7]]]))
    # Weights 0.1, 0.2, 0.7: the last alone holds more than half.
    fused = coordinate_median(_binary(0.1, 0.2, 0.9), torch.tensor([[0.1, 0.2, 0.7]]))
    torch.testing.assert_close(fused, torch.tensor([[[0.9, 0.1]]]))


def test_trimmed_mean_by_hand() -> None:
    probs = _binary(0.0, 0.2, 0.6, 1.0)
    weights = torch.full((1, 4), 0.25)
    # A quarter off each end leaves 0.2 and 0.6; an eighth leaves halves of 0 and 1 too.
    for trim, first in ((0.25, 0.4), (0.125, (0.1 * 2 + 0.3 * 2 + 0.5) / 3), (0.0, 0.45)):
        fused = trimmed_mean(probs, weights, trim=trim)
        torch.testing.assert_close(fused, torch.tensor([[[first, 1 - first]]]))


def test_geometric_median_by_hand() -> None:
    # On a line it is the median, a data point; the centre of an equilateral triangle by symmetry.
    fused = geometric_median(_binary(0.1, 0.2, 0.9), EQUAL, iterations=200, tolerance=0)
    torch.testing.assert_close(fused, torch.tensor([[[0.2, 0.8]]]), rtol=0, atol=1e-4)
    corners = torch.eye(3).unsqueeze(1)
    torch.testing.assert_close(geometric_median(corners, EQUAL), torch.full((1, 1, 3), 1 / 3))
    # One Weiszfeld step from the mean 0.4: weights 1/0.3, 1/0.2, 1/0.5 (times sqrt 2).
    total = 1 / 0.3 + 1 / 0.2 + 1 / 0.5
    first = (0.1 / 0.3 + 0.2 / 0.2 + 0.9 / 0.5) / total
    fused = geometric_median(_binary(0.1, 0.2, 0.9), EQUAL, iterations=1)
    torch.testing.assert_close(fused, torch.tensor([[[first, 1 - first]]]))


def test_spectral_filter_by_hand() -> None:
    # Mean 0.36; squared projections 2 * 0.16^2 and 2 * 0.64^2, so the four lose 1/16. The whole
    # step costs 0.2 + 0.8/16 = 0.25; of 2 * 0.1 = 0.2 allowed that is 0.8 of it. The outlier
    # keeps 0.04, the others 0.19 each: (0.76 * 0.2 + 0.04 * 1) / 0.8 = 0.24.
    probs = _binary(0.2, 0.2, 0.2, 0.2, 1.0)
    weights = torch.full((1, 5), 0.2)
    fused = spectral_mean(probs, weights, corrupted=0.1)
    torch.testing.assert_close(fused, torch.tensor([[[0.24, 0.76]]]))
    torch.testing.assert_close(spectral_mean(probs, weights), torch.tensor([[[0.2, 0.8]]]))
    torch.testing.assert_close(
        spectral_mean(probs, weights, corrupted=0), torch.tensor([[[0.36, 0.64]]])
    )


def test_krum_by_hand() -> None:
    # First classes 0, 0.1, 0.3, 1: squared distances are 2 (a - b)^2. With f = 1 of 4 each source
    # counts its one nearest: 0.02, 0.02, 0.08, 0.98. Krum takes both that tie.
    distances = squared_distances(_binary(0.0, 0.1, 0.3, 1.0))
    torch.testing.assert_close(distances[0], torch.tensor([0, 0.02, 0.18, 2]).double())
    everyone = torch.ones(1, 4, dtype=torch.bool)
    assert krum_choice(distances, everyone, 0.25).tolist() == [[True, True, False, False]]
    assert krum_choice(distances, everyone, 0.25, keep=3).tolist() == [[True] * 3 + [False]]
    # f = 0: two nearest each: 0.2, 0.02 + 0.08 = 0.1, 0.08 + 0.18, 0.98 + 1.62.
    assert krum_choice(distances, everyone, 0).tolist() == [[False, True, False, False]]
    # The choice is among the row's sources.
    row = torch.tensor([[False, False, True, True]])
    assert krum_choice(distances, row, 0).tolist() == [[False, False, True, True]]


def test_krum_counts_common_samples_only() -> None:
    probs = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]], [[0.5, 0.5]] * 2])
    mask = torch.tensor([[True, False], [True, True], [False, False]])
    distances = squared_distances(probs, mask)
    assert distances.tolist() == [[0, 2, math.inf], [2, 0, math.inf], [math.inf, math.inf, 0]]


def test_krum_falls_back_where_its_choice_is_silent() -> None:
    # Clients 0 to 2 agree and one of them is chosen (they tie); none answers sample 1.
    logits = torch.zeros(4, 2, 2)
    logits[3, :, 0] = math.log(3)
    mask = torch.tensor([[True, False], [True, False], [True, False], [True, True]])
    bank = KnowledgeBank(torch.arange(4), logits, torch.ones(4, dtype=torch.int64), mask=mask)
    fused = Krum(0.25)(bank, torch.full((4, 4), 0.25))
    torch.testing.assert_close(fused[0], torch.tensor([[0.5, 0.5], [0.75, 0.25]]))


def test_next_to_nothing_becomes_uniform_and_not_certain() -> None:
    # Three clients sure of three classes: every median is 0.
    fused = coordinate_median(torch.eye(3).unsqueeze(1), EQUAL)
    torch.testing.assert_close(fused, torch.full((1, 1, 3), 1 / 3))
    assert to_simplex(torch.tensor([[[1e-9, 1e-30]]])).tolist() == [[[0.5, 0.5]]]


def _median(values: list[float], weights: list[float]) -> float:
    pairs = sorted(zip(values, weights, strict=True))
    half, seen, lower = math.fsum(weights) / 2, 0.0, None
    for value, weight in pairs:
        seen += weight
        if lower is None and seen >= half - 1e-9:
            lower = value
        if seen > half + 1e-9:
            assert lower is not None
            return (lower + value) / 2
    raise AssertionError


def _trimmed(values: list[float], weights: list[float]) -> float:
    # The quantile function's mean from 0.2 to 0.8, on a fine grid.
    order = np.argsort(values)
    total = np.cumsum(np.array(weights)[order]) / math.fsum(weights)
    ends = np.clip(np.concatenate([[0.0], total]), 0.2, 0.8)
    return float((np.diff(ends) * np.array(values)[order]).sum() / 0.6)


@pytest.mark.parametrize(("rule", "loop"), [(coordinate_median, _median), (trimmed_mean, _trimmed)])
@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_clients=st.integers(1, 9),
    masked=st.booleans(),
    equal=st.booleans(),
)
def test_coordinate_rules_agree_with_a_loop(
    rule: Callable[..., Tensor],
    loop: Callable[[list[float], list[float]], float],
    seed: int,
    num_clients: int,
    masked: bool,
    equal: bool,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(num_clients, 4, 3, generator=generator).softmax(dim=-1)
    weights = torch.rand(num_clients, num_clients, generator=generator) + 0.01
    weights = torch.ones_like(weights) if equal else weights
    weights /= weights.sum(dim=1, keepdim=True)
    mask = torch.rand(num_clients, 4, generator=generator) < (0.6 if masked else 2)
    got = rule(probs, weights, mask if masked else None)
    for i in range(num_clients):
        for x in range(4):
            known = [j for j in range(num_clients) if mask[j, x]]
            own = weights[i, known].double().tolist()
            raw = [loop(probs[known, x, c].double().tolist(), own) for c in range(3) if known]
            expected = [value / math.fsum(raw) for value in raw] if known else [1 / 3] * 3
            assert got[i, x].tolist() == pytest.approx(expected, abs=1e-5)


def _total_distance(points: Tensor, weights: Tensor, centre: Tensor) -> float:
    return float((weights * (points - centre).norm(dim=-1)).sum())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 8))
def test_nothing_nearby_is_a_better_geometric_median(seed: int, num_clients: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(num_clients, 1, 4, generator=generator).softmax(dim=-1).double()
    weights = torch.rand(1, num_clients, generator=generator).double() + 0.05
    weights /= weights.sum()
    centre = geometric_median(probs, weights, iterations=500, tolerance=1e-9)[0, 0]
    best = _total_distance(probs[:, 0], weights[0], centre)
    for candidate in [*probs[:, 0], probs[:, 0].mean(0)]:
        for step in (1e-3, 0.1, 1.0):
            moved = centre + step * (candidate - centre)
            assert best <= _total_distance(probs[:, 0], weights[0], moved) + 1e-5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(3, 8))
def test_the_first_filtered_direction_is_the_top_eigenvector(seed: int, num_clients: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(num_clients, 1, 3, generator=generator)).softmax(dim=-1).double()
    weights = torch.full((1, num_clients), 1 / num_clients).double()
    x = probs[:, 0]
    centred = x - x.mean(0)
    values, vectors = torch.linalg.eigh(centred.T @ centred)
    if values[-1] < 3 * values[-2]:
        return  # power iteration is only as good as the gap
    share = (centred @ vectors[:, -1]).square()
    share /= share.max()
    kept = weights[0] * (1 - min(1.0, 0.4 / float((weights[0] * share).sum())) * share)
    expected = (kept.unsqueeze(1) * x).sum(0) / kept.sum()
    got = spectral_mean(probs, weights, corrupted=0.2, iterations=1)[0, 0]
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), num_clients=st.integers(1, 9), keep=st.integers(1, 3))
def test_krum_agrees_with_a_loop(seed: int, num_clients: int, keep: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(num_clients, 3, 4, generator=generator).softmax(dim=-1)
    near = torch.rand(num_clients, num_clients, generator=generator) < 0.7
    near.fill_diagonal_(True)
    got = krum_choice(squared_distances(probs), near, 0.3, keep)
    for i in range(num_clients):
        sources = near[i].nonzero().flatten().tolist()
        count = max(1, len(sources) - math.floor(0.3 * len(sources)) - 2)
        scores = {}
        for j in sources:
            others = [float((probs[j] - probs[k]).square().sum()) / 3 for k in sources if k != j]
            scores[j] = math.fsum(sorted(others)[:count])
        last = sorted(scores.values())[min(keep, len(sources)) - 1]
        chosen = [j for j in sources if scores[j] <= last + 1e-6]
        assert got[i].nonzero().flatten().tolist() == chosen


ROBUST = [CoordinateMedian(), TrimmedMean(0.3), GeometricMedian(), SpectralFilter(0.3), Krum(0.3)]


@pytest.mark.parametrize("rule", ROBUST, ids=repr)
@pytest.mark.parametrize("num_classes", [2, 100])
def test_three_colluding_liars_of_ten_do_not_move_the_target(
    rule: Callable[..., Tensor], num_classes: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 0.1 * torch.randn(10, 20, num_classes, generator=generator)
    logits[:, :, 0] += 6
    lies = logits.clone()
    lies[7:, :, 0] -= 6
    lies[7:, :, 1] += 12
    bank = KnowledgeBank(torch.arange(10), logits, torch.ones(10, dtype=torch.int64))
    weights = torch.full((10, 10), 0.1)
    honest = logits[:7].softmax(dim=-1).mean(dim=0)
    fused = rule(replace(bank, logits=lies), weights)
    assert float((fused - honest).abs().max()) < 0.1
    mean = lies.softmax(dim=-1).mean(dim=0)
    assert float((mean - honest).abs().max()) > 0.25  # what a plain mean would have done
