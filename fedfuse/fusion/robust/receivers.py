"""What the robust rules share: receivers with equal weights are fused once, targets are simplexes.

A robust mean is no matrix product, so K receivers with K different rows of weights cost K times
one common target. With ``scorer=uniform neighbours=all`` all rows are equal and the cost is one;
with ``neighbours=top_k`` each row is fused from its few sources alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedfuse.fusion.blocks import spans
from fedfuse.fusion.rules import answered
from fedfuse.shapes import Bool, Float

_ROWS_ELEMENTS = 2**22  # of targets that are made at a time
_BLOCK_ELEMENTS = 2**18  # of a float64 temporary, 1 MiB: larger ones only miss the caches
_PACKING = 8  # how many times fewer sources pay for taking them out of the cloud
_MIN_MASS = 1e-3

Core = Callable[[Tensor, Tensor], Tensor]
"""Clouds of points [P, J, C] and weights [P, U, J] to what is wanted of each pair, [P, U, ...]."""


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
    blocks = torch.split(rows, max(1, _ROWS_ELEMENTS // max(1, elements_per_row)))
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
    """Return the centre of each sample's cloud of predictions for every receiver."""
    rows, receiver = torch.unique(weights, dim=0, return_inverse=True)
    fused = over_clouds(core, probs, rows, mask)
    if mask is not None:
        fused = torch.where(answered(rows, mask).unsqueeze(-1), fused, 1 / fused.shape[-1])
    return fused.to(probs.dtype)[receiver]


def over_clouds(
    core: Core,
    probs: Float[Tensor, "J P C"],
    rows: Float[Tensor, "U J"],
    mask: Bool[Tensor, "J P"] | None,
) -> Float[Tensor, "U P ..."]:
    """Return what ``core`` makes of every sample's cloud and every row of weights, float64.

    Rows with few sources take just those out of the cloud; others share it. ``core`` gets a few
    samples at a time and all rows, as many as stay in the caches.
    """
    num_sources, num_samples, num_classes = probs.shape
    points = known_points(probs, mask)
    most = int((rows > 0).sum(dim=1).max())
    packs = _PACKING * most <= num_sources
    size = most * num_classes if packs else max(num_sources, num_classes)
    made = []
    for part in spans(len(rows), _BLOCK_ELEMENTS // size):
        some = rows[part]
        sources = some.topk(most, dim=1).indices
        done = []
        for where in spans(num_samples, _BLOCK_ELEMENTS // (len(some) * size)):
            cloud = points[where]
            known = None if mask is None else mask[:, where]
            weight = point_weights(some, known, len(cloud))
            if packs:
                own = weight.gather(-1, sources.expand(len(cloud), -1, -1))
                packed = cloud[:, sources].flatten(0, 1)
                found = core(packed, own.view(-1, 1, most))
                found = found.view(len(cloud), len(some), *found.shape[2:])
            else:
                found = core(cloud, weight)
            done.append(found.transpose(0, 1))
        made.append(torch.cat(done, dim=1))
    return torch.cat(made)


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
