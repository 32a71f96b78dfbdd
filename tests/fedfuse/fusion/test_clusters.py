"""Clusters of clients and of predictions: by hand, against a brute force, and through masks."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedfuse.fusion import All, MeanProbabilities, Pipeline
from fedfuse.fusion.clusters import ClientClusters, cluster_clients, nearest_centroid
from fedfuse.kmeans import centroids
from fedfuse.types import KnowledgeBank


def _binary(*first: float) -> Tensor:
    p = torch.tensor(first)
    return torch.stack([p, 1 - p], dim=1).unsqueeze(1)


def _equal(num_clients: int) -> Tensor:
    return torch.full((num_clients, num_clients), 1 / num_clients)


def test_centroids_by_hand() -> None:
    # Start: 1.0 is farthest from the mean 0.4, then 0.0. Groups {1, 0.8} and {0, 0.1, 0.1}.
    points = torch.tensor([[[0.0], [0.1], [0.1], [0.8], [1.0]]])
    centres, sizes = centroids(points, torch.ones(1, 1, 5), 2)
    torch.testing.assert_close(centres.flatten(), torch.tensor([0.9, 0.2 / 3]))
    assert sizes.flatten().tolist() == [2, 3]
    # Weights pull: (0.8 * 3 + 1) / 4; a point of weight 0 is not there.
    centres, _ = centroids(points, torch.tensor([[[0.0, 1.0, 1.0, 3.0, 1.0]]]), 2)
    torch.testing.assert_close(centres.flatten().sort().values, torch.tensor([0.1, 0.85]))


def test_more_clusters_than_points_leave_empty_ones() -> None:
    centres, sizes = centroids(torch.tensor([[[0.5], [0.5], [0.7]]]), torch.ones(1, 1, 3), 3)
    assert sorted(sizes.flatten().tolist()) == [0, 1, 2]
    assert centres.isfinite().all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_well_separated_groups_are_found_as_brute_force_finds_them(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    side = torch.tensor([0, 1, 0, 1, 1, 0])[torch.randperm(6, generator=generator)]
    values = 5 * side.view(6, 1, 1) + torch.rand(6, 3, 2, generator=generator)
    got = cluster_clients(values, 2)
    costs = {}
    for split in itertools.product([0, 1], repeat=5):
        member = torch.tensor([0, *split])
        groups = [values[member == g] for g in (0, 1)]
        costs[split] = sum(float((g - g.mean(0)).square().sum()) for g in groups if len(g))
    best = torch.tensor([0, *min(costs, key=costs.__getitem__)])
    assert torch.equal(got.unsqueeze(1) == got, best.unsqueeze(1) == best)


def test_client_clusters_by_hand() -> None:
    logits = torch.stack([_binary(0.9, 0.2, 0.8, 0.1).log().squeeze(1)] * 2, dim=1)
    bank = KnowledgeBank(torch.arange(4), logits, torch.ones(4, dtype=torch.int64))
    scores = ClientClusters()(bank, None)
    together = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1]] * 2, dtype=torch.bool)
    assert torch.equal(scores == 0, together)
    assert torch.equal(scores == -torch.inf, ~together)
    fusion = Pipeline(ClientClusters(), All(), MeanProbabilities())(bank)
    assert torch.equal(fusion.weights, together / 2)
    torch.testing.assert_close(
        fusion.teachers.targets[:, 0, 0], torch.tensor([0.85, 0.15, 0.85, 0.15])
    )


@pytest.mark.parametrize(("num_clients", "groups"), [(1, 2), (2, 2), (3, 9)])
def test_as_many_clusters_as_clients_leave_each_alone(num_clients: int, groups: int) -> None:
    values = torch.randn(num_clients, 4, 3, generator=torch.Generator().manual_seed(0))
    assert len(cluster_clients(values, groups).unique()) == num_clients


def test_one_cluster_of_a_sample_is_the_mean() -> None:
    probs = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    fused = nearest_centroid(probs, _equal(5), 1)
    torch.testing.assert_close(fused, probs.mean(0).expand(5, 7, 3))


def test_samples_are_clustered_each_by_itself() -> None:
    # Client 1 sides with client 0 on the first sample and with client 2 on the second.
    probs = torch.cat([_binary(0.9, 0.8, 0.1), _binary(0.9, 0.2, 0.1)], dim=1)
    fused = nearest_centroid(probs, _equal(3), 2)[..., 0]
    torch.testing.assert_close(fused, torch.tensor([[0.85, 0.9], [0.85, 0.15], [0.1, 0.15]]))


def test_only_the_sources_are_clustered() -> None:
    probs = _binary(0.9, 0.8, 0.1)
    weights = torch.tensor([[0.99, 0.01, 0.0], [0.0, 0.5, 0.5], [0.6, 0.4, 0.0]])
    fused = nearest_centroid(probs, weights, 1)[:, 0, 0]
    torch.testing.assert_close(fused, torch.tensor([0.85, 0.45, 0.85]))
    # Client 2 is none of its own sources; of 0.9 and 0.8 the latter is nearer to its 0.1.
    fused = nearest_centroid(probs, weights, 2)[:, 0, 0]
    torch.testing.assert_close(fused, torch.tensor([0.9, 0.8, 0.8]))


def test_a_silent_client_gets_the_mean_and_nobodys_sample_is_uniform() -> None:
    probs = torch.cat([_binary(0.9, 0.7, 0.1)] * 2, dim=1)
    mask = torch.tensor([[True, False], [True, False], [False, False]])
    fused = nearest_centroid(probs, _equal(3), 2, mask)[..., 0]
    torch.testing.assert_close(fused, torch.tensor([[0.9, 0.5], [0.7, 0.5], [0.8, 0.5]]))
