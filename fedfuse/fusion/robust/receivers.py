"""What the robust rules share: receivers with equal weights are fused once, targets are simplexes.

A robust mean is no matrix product, so K receivers with K different rows of weights cost K times
one common target. With ``scorer=uniform neighbours=all`` all rows are equal and the cost is one;
with ``neighbours=top_k`` each row is fused from its few sources alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedfuse.fusion.rules import answered
from fedfuse.shapes import Bool, Float

_BLOCK_ELEMENTS = 2**20  # of a float64 temporary, 8 MiB: larger ones only miss the caches
_MIN_MASS = 1e-3

Core = Callable[[Tensor, Tensor], Tensor]
"""Clouds of points [P, J, C] and weights [P, U, J] to one centre for each pair, [P, U, C]."""


def fuse_distinct(
    fuse: Callable[[Tensor], Tensor],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None,
    elements_per_row: int,
) -> Float[Tensor, "K P C"]:
    """Return ``fuse(rows)[U, P, C]`` of the distinct rows of weights, one copy per receiver.

    Args:
        fuse: Weights [U, J] to targets [U, P, C].
        weights: Row-stochastic.
        mask: Who answered; a target for which nobody did becomes uniform.
        elements_per_row: Size of the largest temporary that ``fuse`` makes for one row; rows are
            handed over in blocks of bounded size.
    """
    rows, receiver = torch.unique(weights, dim=0, return_inverse=True)
    blocks = torch.split(rows, max(1, _BLOCK_ELEMENTS // max(1, elements_per_row)))
    fused = torch.cat([fuse(block) for block in blocks])
    if mask is not None:
        known = answered(rows, mask).unsqueeze(-1)
        fused = torch.where(known, fused, 1 / fused.shape[-1])
    return fused[receiver]


def fuse_clouds(
    core: Core,
    probs: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    mask: Bool[Tensor, "J P"] | None,
) -> Float[Tensor, "K P C"]:
    """Return the centre of each sample's cloud of predictions for every receiver.

    Rows with few sources take just those out of the cloud; others share it.
    """
    num_sources, num_samples, num_classes = probs.shape
    points = known_points(probs, mask)
    most = int((weights > 0).sum(dim=1).max())

    def shared(rows: Float[Tensor, "U J"]) -> Float[Tensor, "U P C"]:
        return core(points, point_weights(rows, mask, num_samples)).transpose(0, 1)

    def packed(rows: Float[Tensor, "U J"]) -> Float[Tensor, "U P C"]:
        sources = rows.topk(most, dim=1).indices
        clouds = points[:, sources].view(-1, most, num_classes)
        every = point_weights(rows, mask, num_samples)
        own = every.gather(-1, sources.expand(num_samples, -1, -1)).view(-1, 1, most)
        return core(clouds, own).view(num_samples, -1, num_classes).transpose(0, 1)

    if 2 * most <= num_sources:
        elements = num_samples * max(num_sources, most * num_classes)
        return fuse_distinct(packed, weights, mask, elements).to(probs.dtype)
    elements = num_samples * max(num_sources, num_classes)
    return fuse_distinct(shared, weights, mask, elements).to(probs.dtype)


def known_points(
    values: Float[Tensor, "J P C"], mask: Bool[Tensor, "J P"] | None
) -> Float[Tensor, "P J C"]:
    """Return each sample's cloud of points in float64, zeros where a source did not answer."""
    exact = values.double()
    if mask is not None:
        exact = torch.where(mask.unsqueeze(-1), exact, 0)
    return exact.transpose(0, 1).contiguous()


def point_weights(
    rows: Float[Tensor, "U J"], mask: Bool[Tensor, "J P"] | None, num_samples: int
) -> Float[Tensor, "P U J"]:
    """Return each sample's weights in float64, renormalised over the sources that answered.

    All zero where none did.
    """
    exact = rows.double()
    if mask is None:
        exact = exact / exact.sum(dim=1, keepdim=True)
        return exact.expand(num_samples, *rows.shape)
    weights = exact * mask.T.unsqueeze(1)
    total = weights.sum(dim=-1, keepdim=True)
    return weights / total.clamp_min(torch.finfo(torch.float64).tiny)


def to_simplex(values: Float[Tensor, "U P C"]) -> Float[Tensor, "U P C"]:
    """Return non-negative values divided by their sum over the classes.

    A coordinate-wise rule can leave next to nothing: the medians of three clients that are sure
    of three different classes are all 0. Blowing that rest up to a distribution would turn noise
    into certainty, so a sum below 0.001 becomes uniform.

    >>> to_simplex(torch.tensor([[[0.3, 0.1], [0.0, 1e-9]]]))
    tensor([[[0.7500, 0.2500],
             [0.5000, 0.5000]]])
    """
    mass = values.sum(dim=-1, keepdim=True)
    return torch.where(mass >= _MIN_MASS, values / mass.clamp_min(_MIN_MASS), 1 / values.shape[-1])
