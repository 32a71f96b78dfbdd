"""Lloyd's k-means for many small problems at once, with a start that needs no random numbers.

The first centre is the point farthest from the mean, each next one the point farthest from the
centres so far. That start depends on the points and not on their order (ties go to the first), so
that relabelling the clients relabels the clusters and no more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Float


def centroids(
    points: Float[Tensor, "P J C"],
    weights: Float[Tensor, "P U J"],
    num_clusters: int,
    iterations: int = 10,
) -> tuple[Float[Tensor, "P U G C"], Float[Tensor, "P U G"]]:
    """Return the centres of P x U clusterings of J weighted points, and their weights.

    Points without weight take no part. Lloyd's steps end when no centre moves, or after
    ``iterations``. A centre of weight 0 (fewer different points than clusters) stays where it was.

    >>> points = torch.tensor([[[0.0], [0.2], [1.0]]])
    >>> centroids(points, torch.ones(1, 1, 3), num_clusters=2)[0].flatten()
    tensor([1.0000, 0.1000])
    """
    centres = _farthest_first(points, weights, num_clusters)
    sizes = torch.zeros_like(centres[..., 0])
    squares = points.square().sum(dim=-1)
    for _ in range(iterations):
        nearest = _squared_distances(points, squares, centres).argmin(dim=-2)
        members = torch.nn.functional.one_hot(nearest, num_clusters).to(weights.dtype)
        members = (members * weights.unsqueeze(-1)).transpose(-1, -2)  # [P, U, G, J]
        sizes = members.sum(dim=-1)
        sums = members @ points.unsqueeze(1)
        tiny = torch.finfo(sums.dtype).tiny
        means = sums / sizes.clamp_min(tiny).unsqueeze(-1)
        moved = torch.where(sizes.unsqueeze(-1) > 0, means, centres)
        still = torch.equal(moved, centres)
        centres = moved
        if still:
            break
    return centres, sizes


def _farthest_first(
    points: Float[Tensor, "P J C"], weights: Float[Tensor, "P U J"], num_clusters: int
) -> Float[Tensor, "P U G C"]:
    """Return the starting centres."""
    total = weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    squares = points.square().sum(dim=-1)
    counted = weights > 0
    mean = (weights @ points / total).unsqueeze(2)
    distances = _squared_distances(points, squares, mean).squeeze(2)
    chosen = []
    for step in range(num_clusters):
        farthest = distances.masked_fill(~counted, -1).argmax(dim=-1)
        index = farthest.unsqueeze(-1).expand(-1, -1, points.shape[-1])
        centre = points.gather(1, index)
        chosen.append(centre)
        own = _squared_distances(points, squares, centre.unsqueeze(2)).squeeze(2)
        distances = own if step == 0 else torch.minimum(distances, own)
    return torch.stack(chosen, dim=2)


def _squared_distances(
    points: Float[Tensor, "P J C"],
    squares: Float[Tensor, "P J"],
    centres: Float[Tensor, "P U G C"],
) -> Float[Tensor, "P U G J"]:
    """Return ``|x - m|^2`` as a GEMM."""
    num_problems, num_variants, num_clusters, num_classes = centres.shape
    flat = centres.reshape(num_problems, -1, num_classes)
    product = (flat @ points.mT).view(num_problems, num_variants, num_clusters, -1)
    norms = centres.square().sum(dim=-1, keepdim=True)
    return (norms + squares[:, None, None, :] - 2 * product).clamp_min_(0)
