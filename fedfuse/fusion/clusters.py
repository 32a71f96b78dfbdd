"""Co-distil within clusters: of clients, or of each sample's predictions (COMET, PerFed-CKT).

Cho et al. (arXiv 2109.08119) cluster clients by their predictions; only the abstract was read.
The clustering per sample is what a public port of it (in SCARLET's code) does instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.robust.receivers import known_points, over_clouds
from fedfuse.kmeans import centroids
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number, require_one_of

_BLOCK_ELEMENTS = 2**20  # of the centroids that receivers choose from at a time


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
    # Receivers of one set share its centroids; which of them a receiver gets is its own affair.
    sets, receiver = torch.unique(weights > 0, dim=0, return_inverse=True)
    groups = min(num_clusters, int(sets.sum(dim=1).max()))

    def core(points: Float[Tensor, "P J C"], counted: Float[Tensor, "P U J"]) -> Tensor:
        centres, sizes = centroids(points, counted, groups, iterations)
        return torch.cat([centres, sizes.unsqueeze(-1)], dim=-1)

    found = over_clouds(core, probs, sets.to(probs.dtype), mask)  # [U, P, G, C + 1]
    own = known_points(probs, mask).transpose(0, 1)
    fused = torch.empty_like(probs)
    for part in spans(len(probs), _BLOCK_ELEMENTS // found[0].numel()):
        known = None if mask is None else mask[part]
        fused[part] = _picked(found[receiver[part]], own[part], known).to(probs.dtype)
    return fused


def _picked(
    found: Float[Tensor, "k P G D"], own: Float[Tensor, "k P C"], known: Bool[Tensor, "k P"] | None
) -> Float[Tensor, "k P C"]:
    """Return each receiver's nearest centroid, or the mean where it has no prediction itself.

    Args:
        found: Its centroids, and as a last number how much is in each.
        own: Its own predictions.
        known: Whether it has one; None for everywhere.
    """
    centres, sizes = found[..., :-1], found[..., -1:]
    distances = (centres - own.unsqueeze(2)).square().sum(dim=-1, keepdim=True)
    # An empty cluster's centre is no one's knowledge.
    best = distances.masked_fill(sizes == 0, torch.inf).argmin(dim=2, keepdim=True)
    picked = centres.gather(2, best.expand(-1, -1, -1, centres.shape[-1])).squeeze(2)
    if known is None:
        return picked
    total = sizes.sum(dim=2)
    mean = (sizes * centres).sum(dim=2) / total.clamp_min(torch.finfo(total.dtype).tiny)
    picked = torch.where(known.unsqueeze(-1), picked, mean)
    return torch.where(total == 0, 1 / own.shape[-1], picked)


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
