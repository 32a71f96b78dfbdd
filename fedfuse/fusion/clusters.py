"""Co-distil within clusters: of clients, or of each sample's predictions (COMET, PerFed-CKT).

Cho et al. (arXiv 2109.08119) cluster clients by their predictions; only the abstract was read.
The clustering per sample is what a public port of it (in SCARLET's code) does instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.kmeans import centroids
from fedfuse.fusion.robust.receivers import known_points, point_weights
from fedfuse.hyperparameters import require_count, require_number, require_one_of
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space


def cluster_clients(
    values: Float[Tensor, "K P C"],
    num_clusters: int,
    mask: Bool[Tensor, "K P"] | None = None,
    iterations: int = 20,
) -> Int[Tensor, " K"]:
    """Return each client's cluster by k-means on its whole prediction table, R^(P*C).

    A sample that a client did not answer takes the mean of those who did, which is near to no
    cluster more than to another. Cluster numbers mean nothing beyond equality.

    >>> values = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.9, 0.1]]])
    >>> cluster_clients(values, num_clusters=2)
    tensor([1, 0, 1])
    """
    exact = values.double()
    if mask is not None:
        known = mask.unsqueeze(-1)
        count = known.sum(dim=0).clamp_min(1)
        exact = torch.where(known, exact, 0)
        exact = torch.where(known, exact, exact.sum(dim=0) / count)
    points = exact.flatten(1).unsqueeze(0)
    weights = points.new_ones(1, 1, len(values))
    centres, _ = centroids(points, weights, min(num_clusters, len(values)), iterations)
    distances = torch.cdist(points[0], centres[0, 0], compute_mode="donot_use_mm_for_euclid_dist")
    return distances.argmin(dim=1)


def nearest_centroid(
    probs: Float[Tensor, "K P C"],
    weights: Float[Tensor, "K K"],
    num_clusters: int,
    mask: Bool[Tensor, "K P"] | None = None,
    iterations: int = 10,
) -> Float[Tensor, "K P C"]:
    """Return, per sample, the centroid of its sources' predictions nearest to the receiver's own.

    The sources of a receiver are those it gives weight to; each counts the same. A receiver that
    did not answer a sample has nothing to be near to and gets the mean of its sources.

    >>> p = torch.tensor([0.1, 0.3, 0.9])
    >>> probs = torch.stack([p, 1 - p], 1).unsqueeze(1)
    >>> nearest_centroid(probs, torch.full((3, 3), 1 / 3), num_clusters=2)[:, 0, 0]
    tensor([0.2000, 0.2000, 0.9000])
    """
    _, num_samples, num_classes = probs.shape
    points = known_points(probs, mask)
    # Receivers of one set share its centroids; which of them a receiver gets is its own affair.
    sets, receiver = torch.unique(weights > 0, dim=0, return_inverse=True)
    fused = probs.new_empty(probs.shape)
    for number, row in enumerate(sets):
        members = (receiver == number).nonzero().flatten()
        sources = row.nonzero().flatten()
        cloud = points[:, sources]
        equal = probs.new_ones(1, len(sources))
        weight = point_weights(equal, None if mask is None else mask[sources], num_samples)
        centres, sizes = centroids(cloud, weight, min(num_clusters, len(sources)), iterations)
        own = points[:, members]
        near = torch.cdist(own, centres[:, 0], compute_mode="donot_use_mm_for_euclid_dist")
        # An empty cluster's centre is no one's knowledge.
        best = near.masked_fill(sizes == 0, torch.inf).argmin(dim=-1)
        picked = centres[:, 0].gather(1, best.unsqueeze(-1).expand(-1, -1, num_classes))
        if mask is not None:
            mean = weight @ cloud
            picked = torch.where(mask.T[:, members].unsqueeze(-1), picked, mean)
            unknown = weight.sum(dim=-1, keepdim=True) == 0
            picked = torch.where(unknown, 1 / num_classes, picked)
        fused[members] = picked.transpose(0, 1).to(probs.dtype)
    return fused


@dataclass(frozen=True, slots=True)
class ClientClusters:
    """Score sources of the receiver's own cluster 0 and all others minus infinity.

    A selector that leaves the receiver out gives a client that is alone in its cluster equal
    weights for everyone else; keep ``include_self: true``.

    Args:
        num_clusters: At most as many as there are clients.
        of: Cluster the ``probabilities`` or the raw ``logits``.
        temperature: Of the softmax, for probabilities.
        iterations: Of Lloyd's algorithm, at most.
    """

    num_clusters: int = 2
    of: str = "probabilities"
    temperature: float = 1.0
    iterations: int = 20

    def __post_init__(self) -> None:
        require_count("ClientClusters", "num_clusters", self.num_clusters)
        require_one_of("ClientClusters", "of", self.of, list(Space))
        require_number("ClientClusters", "temperature", self.temperature, above=0)
        require_count("ClientClusters", "iterations", self.iterations)

    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "K K"]:
        """Return 0 within a cluster, minus infinity between two."""
        values = bank.logits
        if self.of == Space.PROBABILITIES:
            values = (values / self.temperature).softmax(dim=-1)
        cluster = cluster_clients(values, self.num_clusters, bank.mask, self.iterations)
        together = cluster.unsqueeze(1) == cluster
        return bank.logits.new_zeros(together.shape).masked_fill(~together, -torch.inf)


@dataclass(frozen=True, slots=True)
class SampleClusters:
    """Cluster each sample's predictions and give every client the centroid nearest to its own.

    The weights only say which sources take part (weight above 0), not how much they count.

    Args:
        num_clusters: G, the centroids per sample.
        temperature: Of the softmax.
        iterations: Of Lloyd's algorithm, at most.
    """

    num_clusters: int = 2
    temperature: float = 1.0
    iterations: int = 10
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_count("SampleClusters", "num_clusters", self.num_clusters)
        require_number("SampleClusters", "temperature", self.temperature, above=0)
        require_count("SampleClusters", "iterations", self.iterations)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K K"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return nearest_centroid(probs, weights, self.num_clusters, bank.mask, self.iterations)
