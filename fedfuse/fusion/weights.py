"""From effectiveness scores to fusion weights, and what the weights say about a round."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int

DENSE_BYTES = 2**28
"""The largest matrix [K, K] of float32 weights that is held whole: K = 8,192."""


def masked_softmax(
    scores: Float[Tensor, "K J"], neighbours: Bool[Tensor, "K J"]
) -> Float[Tensor, "K J"]:
    """Return weights ``exp(s_ij) / sum_l exp(s_il)`` over each row's neighbours.

    Rows sum to 1 and are exactly zero outside the neighbours; equal scores give exactly equal
    weights. Infinite scores count as the largest float, so no score makes a NaN but a NaN; a row
    without neighbours is all zero.

    >>> scores = torch.tensor([[0.0, 1e6], [2.0, 2.0]])
    >>> masked_softmax(scores, torch.ones(2, 2, dtype=torch.bool))
    tensor([[0.0000, 1.0000],
            [0.5000, 0.5000]])
    """
    limits = torch.finfo(scores.dtype)
    bounded = scores.clamp(limits.min, limits.max).masked_fill(~neighbours, -torch.inf)
    return torch.where(neighbours, bounded.softmax(dim=1), 0)


def square(
    index: Int[Tensor, "K k"], weights: Float[Tensor, "K k"], sparse: bool
) -> Float[Tensor, "K K"]:
    """Return the weights of each row's few sources as a matrix, dense or sparse (COO).

    Args:
        index: Sources, ascending in each row.
        weights: Their weights.
        sparse: Whether to hold the ``k`` entries of each row only.

    >>> square(torch.tensor([[0, 1], [0, 1]]), torch.tensor([[0.9, 0.1], [0.5, 0.5]]), sparse=False)
    tensor([[0.9000, 0.1000],
            [0.5000, 0.5000]])
    """
    num_clients, k = index.shape
    if not sparse:
        return weights.new_zeros(num_clients, num_clients).scatter_(1, index, weights)
    rows = torch.arange(num_clients, device=index.device).repeat_interleave(k)
    return torch.sparse_coo_tensor(
        torch.stack([rows, index.flatten()]),
        weights.flatten(),
        (num_clients, num_clients),
        is_coalesced=True,
        check_invariants=False,
    )


def effective_neighbours(weights: Float[Tensor, "K J"]) -> Float[Tensor, " K"]:
    """Return ``exp(H(w_i))``: how many equally weighted sources a row amounts to, 1 to K.

    >>> effective_neighbours(torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]))
    tensor([2., 1.])
    """
    if weights.is_sparse:
        values = weights.values()
        rows = torch.zeros(len(weights), dtype=values.dtype, device=values.device)
        return (-rows.index_add_(0, weights.indices()[0], torch.xlogy(values, values))).exp()
    return (-torch.xlogy(weights, weights).sum(dim=1)).exp()


def self_weight(weights: Float[Tensor, "K K"]) -> Float[Tensor, " K"]:
    """Return how much each client's own knowledge counts in its teacher, ``w_ii``.

    >>> self_weight(torch.tensor([[0.9, 0.1], [0.5, 0.5]]))
    tensor([0.9000, 0.5000])
    """
    if weights.is_sparse:
        (rows, columns), values = weights.indices(), weights.values()
        own = torch.zeros(len(weights), dtype=values.dtype, device=values.device)
        return own.index_put_((rows[rows == columns],), values[rows == columns])
    return weights.diagonal().clone()


def distances(weights: Float[Tensor, "K K"]) -> dict[str, float]:
    """Return how far weights are from uniform and from the identity, each from 0 to 1.

    The mean over the rows of the total variation distance ``sum_j |w_ij - u_ij| / 2``. Learned
    weights that collapse end in one of the two: the plain mean, or everybody its own teacher.

    >>> distances(torch.eye(4))
    {'weights_from_uniform': 0.75, 'weights_from_identity': 0.0}
    """
    uniform = torch.full_like(weights, 1 / weights.shape[1])
    identity = torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    return {
        f"weights_from_{name}": float((weights - other).abs().sum(dim=1).mean() / 2)
        for name, other in (("uniform", uniform), ("identity", identity))
    }
