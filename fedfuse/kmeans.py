"""Lloyd's k-means for many small problems at once, with a start that needs no random numbers.

The first centre is the point farthest from the mean, each next one the point farthest from the
centres so far. That start depends on the points and not on their order (ties go to the first), so
that relabelling the clients relabels the clusters and no more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Float

_FEW = 4  # how many times fewer problems pay for taking their points along


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
    return _lloyd(points, weights, _farthest_first(points, weights, num_clusters), iterations)


def _lloyd(
    points: Float[Tensor, "P J C"],
    weights: Float[Tensor, "P U J"],
    centres: Float[Tensor, "P U G C"],
    iterations: int,
) -> tuple[Float[Tensor, "P U G C"], Float[Tensor, "P U G"]]:
    """Return the centres after Lloyd's steps, and their weights."""
    # The first cluster is what is left over, which saves a product of the size of the others'.
    numbers = torch.arange(1, centres.shape[2], dtype=torch.uint8, device=points.device)
    all_sizes, all_sums = weights.sum(dim=-1, keepdim=True), (weights @ points).unsqueeze(2)
    sizes = torch.zeros_like(centres[..., 0])
    least = points.shape[1] * torch.finfo(points.dtype).eps  # what rounding may leave of nothing
    for left in reversed(range(iterations)):
        nearest = _nearest(points, centres).unsqueeze(2)
        members = torch.where(nearest == numbers.view(-1, 1), weights.unsqueeze(2), 0)
        sums = (members.flatten(1, 2) @ points).view(*members.shape[:3], points.shape[-1])
        sums = torch.cat([all_sums - sums.sum(dim=2, keepdim=True), sums], dim=2)
        sizes = members.sum(dim=-1)
        sizes = torch.cat([all_sizes - sizes.sum(dim=-1, keepdim=True), sizes], dim=-1)
        sizes = torch.where(sizes > least * all_sizes, sizes, 0)
        means = sums / sizes.clamp_min(torch.finfo(sums.dtype).tiny).unsqueeze(-1)
        moved = torch.where(sizes.unsqueeze(-1) > 0, means, centres)
        moving = (moved != centres).flatten(2).any(dim=-1)
        centres = moved
        problem, variant = moving.nonzero(as_tuple=True)
        if not len(problem):
            break
        if left and _FEW * len(problem) <= moving.numel():
            # Most have settled: the rest goes on by itself.
            at = problem, variant
            rest = points[problem], weights[at].unsqueeze(1), centres[at].unsqueeze(1), left
            ends, counts = _lloyd(*rest)
            centres[at], sizes[at] = ends.squeeze(1), counts.squeeze(1)
            break
    return centres, sizes


def _nearest(points: Float[Tensor, "P J C"], centres: Float[Tensor, "P U G C"]) -> Tensor:
    """Return the number of each point's nearest centre, the first of equals: uint8 [P, U, J].

    ``|x - m|^2`` without ``|x|^2``, which is the same for all centres: one GEMM for each centre.
    """
    best = _closeness(points, centres[:, :, 0])
    nearest = torch.zeros(best.shape, dtype=torch.uint8, device=points.device)
    for number in range(1, centres.shape[2]):
        other = _closeness(points, centres[:, :, number])
        nearer = other > best
        nearest.masked_fill_(nearer, number)
        best = torch.maximum(best, other)
    return nearest


def _closeness(
    points: Float[Tensor, "P J C"], centre: Float[Tensor, "P U C"]
) -> Float[Tensor, "P U J"]:
    """Return half of ``|x|^2 - |x - m|^2``."""
    half = centre.square().sum(dim=-1, keepdim=True) / -2
    return torch.baddbmm(half, centre, points.mT)


def _farthest_first(
    points: Float[Tensor, "P J C"], weights: Float[Tensor, "P U J"], num_clusters: int
) -> Float[Tensor, "P U G C"]:
    """Return the starting centres."""
    total = weights.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    squares = points.square().sum(dim=-1).unsqueeze(1)
    nobody = weights <= 0
    distances = squares - 2 * _closeness(points, weights @ points / total)
    chosen = []
    for step in range(num_clusters):
        farthest = distances.masked_fill_(nobody, -torch.inf).argmax(dim=-1)
        index = farthest.unsqueeze(-1).expand(-1, -1, points.shape[-1])
        centre = points.gather(1, index)
        chosen.append(centre)
        if step + 1 < num_clusters:
            own = squares - 2 * _closeness(points, centre)
            distances = own if step == 0 else torch.minimum(distances, own)
    return torch.stack(chosen, dim=2)
