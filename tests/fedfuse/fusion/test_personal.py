"""Rules that are no matrix product, with sources of every receiver's own: against slow loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fedfuse.fusion.clusters import nearest_centroid
from fedfuse.fusion.robust import coordinate, receivers
from fedfuse.fusion.robust.coordinate import coordinate_median, trimmed_mean
from fedfuse.fusion.robust.geometric import geometric_median
from fedfuse.fusion.robust.spectral import spectral_mean
from fedfuse.kmeans import centroids

RULES = [coordinate_median, trimmed_mean, geometric_median, spectral_mean]


def federation(num_clients: int, k: int, num_classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities [K, 5, C], weights of k random sources each, and a mask."""
    draw = torch.Generator().manual_seed(num_clients)
    probs = (2 * torch.randn(num_clients, 5, num_classes, generator=draw)).softmax(dim=-1)
    scores = torch.rand(num_clients, num_clients, generator=draw)
    weights = scores * (scores >= scores.topk(k, dim=1).values[:, -1:])
    mask = torch.rand(num_clients, 5, generator=draw) < 0.7
    return probs, weights / weights.sum(dim=1, keepdim=True), mask


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("num_clients", "k"), [(30, 2), (30, 20), (17, 1)])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_receivers_target_is_that_of_its_sources_alone(rule, num_clients, k, masked):
    probs, weights, mask = federation(num_clients, k)
    together = rule(probs, weights, mask if masked else None)
    for i in (0, num_clients // 2, num_clients - 1):
        near = weights[i].nonzero().flatten()
        alone = rule(probs[near], weights[i : i + 1, near], mask[near] if masked else None)
        torch.testing.assert_close(together[i], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_blocks_change_nothing(rule, monkeypatch):
    probs, weights, mask = federation(12, 5)
    whole = rule(probs, weights, mask)
    monkeypatch.setattr(receivers, "_BLOCK_ELEMENTS", 50)
    monkeypatch.setattr(coordinate, "_BLOCK_ELEMENTS", 50)
    torch.testing.assert_close(rule(probs, weights, mask), whole, rtol=0, atol=1e-7)


@pytest.mark.parametrize("num_classes", [3, 30])
def test_the_filtered_direction_is_found_with_many_classes_and_with_few(num_classes):
    # Three liars of eight, along one direction: the filter takes them out whole.
    draw = torch.Generator().manual_seed(0)
    honest = 6 * torch.eye(num_classes)[:1] + 0.1 * torch.randn(5, num_classes, generator=draw)
    lies = 9 * torch.eye(num_classes)[1:2].expand(3, -1)
    probs = torch.cat([honest, lies]).softmax(dim=-1).unsqueeze(1)
    fused = spectral_mean(probs, torch.full((1, 8), 1 / 8), corrupted=0.4)
    torch.testing.assert_close(fused[0], probs[:5].mean(dim=0), rtol=0, atol=0.01)


def _lloyd(points: Tensor, num_clusters: int, iterations: int) -> Tensor:
    """Return the centres [G, C] that a loop over points finds from the same start."""
    rows = list(points)
    mean = points.mean(dim=0)
    start = [max(rows, key=lambda x: float((x - mean).square().sum()))]
    while len(start) < num_clusters:
        start.append(max(rows, key=lambda x: min(float((x - c).square().sum()) for c in start)))
    centres = start
    for _ in range(iterations):
        groups: list[list[Tensor]] = [[] for _ in centres]
        for x in rows:
            gaps = [float((x - c).square().sum()) for c in centres]
            groups[gaps.index(min(gaps))].append(x)
        centres = [
            torch.stack(g).mean(dim=0) if g else c for g, c in zip(groups, centres, strict=True)
        ]
    return torch.stack(centres)


@pytest.mark.parametrize("num_clusters", [1, 2, 3])
@pytest.mark.parametrize("iterations", [1, 10])
def test_centroids_agree_with_a_loop(num_clusters, iterations):
    draw = torch.Generator().manual_seed(3)
    points = torch.rand(6, 15, 3, generator=draw, dtype=torch.float64)
    chosen = torch.rand(4, 15, generator=draw) < 0.5
    weights = chosen.double().expand(6, 4, 15)
    centres, sizes = centroids(points, weights, num_clusters, iterations)
    for p in range(6):
        for u in range(4):
            expected = _lloyd(points[p, chosen[u]], num_clusters, iterations)
            torch.testing.assert_close(centres[p, u], expected)
    torch.testing.assert_close(sizes.sum(dim=-1), weights.sum(dim=-1))


@pytest.mark.parametrize(("num_clients", "k"), [(30, 3), (12, 6)])
def test_every_receiver_gets_the_nearest_centroid_of_its_own_sources(num_clients, k):
    probs, weights, _ = federation(num_clients, k)
    got = nearest_centroid(probs, weights, num_clusters=2)
    for i in range(0, num_clients, 5):
        for x in range(5):
            centres = _lloyd(probs[weights[i] > 0, x].double(), 2, 10)
            nearest = (centres - probs[i, x]).square().sum(dim=1).argmin()
            torch.testing.assert_close(got[i, x].double(), centres[nearest], rtol=0, atol=1e-6)
