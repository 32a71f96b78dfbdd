"""Choose whose knowledge each client's teacher is fused from: scores [K, K] to bool [K, K].

Row = receiver, column = source. Two conventions hold for every selector:

* ``include_self=True`` always keeps the receiver's own knowledge, and it counts (as one of the
  ``k``, as part of the mass); ``include_self=False`` leaves it out.
* Every row keeps someone: a client left without any neighbour, such as the only one of a
  federation, keeps itself.

Ties go to the smaller client id, so that a result does not depend on how a sort was written.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.fusion.weights import masked_softmax
from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_count, require_flag, require_number

_SLACK = 1e-9
"""Mass that rounding may cost: ten weights of 0.1 must count as one, thrice 0.1 as 0.3."""


def everyone(scores: Float[Tensor, "K K"], include_self: bool = True) -> Bool[Tensor, "K K"]:
    """Return every client as a neighbour of every other.

    >>> everyone(torch.zeros(2, 2), include_self=False)
    tensor([[False,  True],
            [ True, False]])
    """
    return _never_empty(_candidates(scores, include_self))


def top_k(scores: Float[Tensor, "K K"], k: int, include_self: bool = True) -> Bool[Tensor, "K K"]:
    """Return the ``k`` best-scored sources of each row, all of them if there are fewer.

    >>> top_k(torch.tensor([[0.0, 3.0, 2.0], [1.0, 0.0, 1.0], [0.0, 0.0, 9.0]]), k=2)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [ True, False,  True]])
    """
    order = _ranking(scores, include_self)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, order[:, :k], value=True)
    return _never_empty(chosen & _candidates(scores, include_self))


def top_p(scores: Float[Tensor, "K K"], p: float, include_self: bool = True) -> Bool[Tensor, "K K"]:
    """Return each row's nucleus: the fewest best sources whose softmax weights reach ``p``.

    With ``include_self`` the receiver comes first, whatever its score.

    >>> scores = torch.tensor([[0.5, 0.3, 0.2], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]]).log()
    >>> top_p(scores, p=0.7)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [False, False,  True]])
    """
    candidates = _candidates(scores, include_self)
    order = _ranking(scores, include_self)
    mass = masked_softmax(scores.double(), candidates).gather(1, order)
    before = mass.cumsum(dim=1) - mass
    chosen = torch.zeros_like(candidates).scatter(1, order, before < p - _SLACK)
    return _never_empty(chosen & candidates)


def threshold(
    scores: Float[Tensor, "K K"], min_ratio: float, include_self: bool = True
) -> Bool[Tensor, "K K"]:
    """Return the sources whose softmax weight is at least ``min_ratio`` times an equal share.

    The cut is relative to ``1 / K`` because an absolute weight means another thing for every
    number of clients: 0.05 cuts nobody of 10 equal clients and everybody of 100.

    >>> threshold(torch.tensor([[0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]]).log(), 0.8)
    tensor([[ True,  True, False],
            [False,  True, False],
            [ True,  True,  True]])
    """
    candidates = _candidates(scores, include_self)
    weights = masked_softmax(scores.double(), candidates)
    ratios = weights * candidates.sum(dim=1, keepdim=True)
    chosen = candidates & (ratios >= min_ratio - _SLACK)
    return _never_empty(chosen | _own(scores) if include_self else chosen)


def mutual(scores: Float[Tensor, "K K"], k: int, include_self: bool = True) -> Bool[Tensor, "K K"]:
    """Return the pairs that choose each other among their ``k`` best; the result is symmetric.

    >>> scores = torch.tensor([[0.0, 2.0, 1.0], [2.0, 0.0, 1.0], [2.0, 1.0, 0.0]])
    >>> mutual(scores, k=2)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [False, False,  True]])
    """
    chosen = top_k(scores, k, include_self)
    return _never_empty(chosen & chosen.T)


@dataclass(frozen=True, slots=True)
class All:
    """Fuse everyone's knowledge."""

    include_self: bool = True

    def __post_init__(self) -> None:
        require_flag("All", "include_self", self.include_self)

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        return everyone(scores, self.include_self)


@dataclass(frozen=True, slots=True)
class AllBut:
    """Fuse everyone's knowledge but that of one client, which still listens to all.

    Without it everybody else learns what its knowledge is worth to them (leave one out). An id
    that no client has leaves out nobody.
    """

    client: int = -1

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        chosen = torch.ones_like(scores, dtype=torch.bool)
        if 0 <= self.client < len(scores):
            chosen[:, self.client] = False
            chosen[self.client] = True
        return _never_empty(chosen)


@dataclass(frozen=True, slots=True)
class TopK:
    """Fuse the ``k`` best-scored sources, the receiver itself counted if included."""

    k: int = 5
    include_self: bool = True

    def __post_init__(self) -> None:
        require_count("TopK", "k", self.k)
        require_flag("TopK", "include_self", self.include_self)

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        return top_k(scores, self.k, self.include_self)


@dataclass(frozen=True, slots=True)
class TopP:
    """Fuse the fewest best sources whose weights reach the mass ``p``, above 0 to 1."""

    p: float = 0.9
    include_self: bool = True

    def __post_init__(self) -> None:
        require_number("TopP", "p", self.p, above=0, at_most=1)
        require_flag("TopP", "include_self", self.include_self)

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        return top_p(scores, self.p, self.include_self)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fuse sources with at least ``min_ratio`` (0 to 1) of the weight a plain mean gives them."""

    min_ratio: float = 0.5
    include_self: bool = True

    def __post_init__(self) -> None:
        require_number("Threshold", "min_ratio", self.min_ratio, at_least=0, at_most=1)
        require_flag("Threshold", "include_self", self.include_self)

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        return threshold(scores, self.min_ratio, self.include_self)


@dataclass(frozen=True, slots=True)
class Mutual:
    """Fuse clients that choose each other among their ``k`` best."""

    k: int = 5
    include_self: bool = True

    def __post_init__(self) -> None:
        require_count("Mutual", "k", self.k)
        require_flag("Mutual", "include_self", self.include_self)

    def __call__(self, scores: Float[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
        """Return whom each receiver listens to."""
        return mutual(scores, self.k, self.include_self)


def _own(like: Float[Tensor, "K K"] | Bool[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Return True on the diagonal."""
    return torch.eye(len(like), dtype=torch.bool, device=like.device)


def _candidates(scores: Float[Tensor, "K K"], include_self: bool) -> Bool[Tensor, "K K"]:
    """Return who may be chosen at all."""
    return torch.ones_like(_own(scores)) if include_self else ~_own(scores)


def _ranking(scores: Float[Tensor, "K K"], include_self: bool) -> Int[Tensor, "K K"]:
    """Return each row's sources from best to worst, the receiver first or last."""
    limits = torch.finfo(scores.dtype)
    own_score = torch.inf if include_self else -torch.inf
    # Clamping keeps the receiver strictly first or last even beside infinite scores.
    bounded = scores.clamp(limits.min, limits.max).masked_fill(_own(scores), own_score)
    return bounded.argsort(dim=1, descending=True, stable=True)


def _never_empty(chosen: Bool[Tensor, "K K"]) -> Bool[Tensor, "K K"]:
    """Let clients without any neighbour keep themselves."""
    return chosen | (_own(chosen) & ~chosen.any(dim=1, keepdim=True))
