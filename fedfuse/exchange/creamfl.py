"""Representations that clients and server learn from each other by contrast (CreamFL).

Multimodal Federated Learning via Contrastive Representation Ensemble (arXiv 2302.08888). Features
of the public samples go up; the server fuses them, each client's weighed by how well it picks its
sample out of all others, and what comes down is the reference that clients contrast theirs with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus

from fedfuse.exchange.beside import to_all
from fedfuse.fusion.contrastive import Contrastive, picked_out
from fedfuse.shapes import Bool, Float
from fedfuse.types import Fusion, KnowledgeBank
from fedfuse.validation import require_number


def inter(
    features: Float[Tensor, "B D"], reference: Float[Tensor, "B D"], tau: float
) -> Float[Tensor, " B"]:
    """Return ``-log softmax_y(f(x) . g(y) / tau)`` at y = x, over the samples y of the batch.

    >>> inter(torch.tensor([[1.0, 0.0]] * 2), torch.eye(2), tau=0.5)[0]
    tensor(0.1269)
    """
    against = features @ reference.T / tau
    return against.logsumexp(dim=1) - against.diagonal()


def intra(
    features: Float[Tensor, "B D"],
    reference: Float[Tensor, "B D"],
    before: Float[Tensor, "B D"],
    tau: float,
) -> Float[Tensor, " B"]:
    """Return ``-log(e^(f.g/tau) / (e^(f.g/tau) + e^(f.f_old/tau)))``, f_old from before the round.

    >>> same = torch.tensor([[1.0, 0.0]])
    >>> intra(same, same, torch.tensor([[0.0, 1.0]]), tau=0.5)
    tensor([0.1269])
    """
    return softplus(((features * before).sum(dim=1) - (features * reference).sum(dim=1)) / tau)


@dataclass(frozen=True, slots=True)
class InterIntra:
    """``mu (inter + intra)`` of unit features; what is told of a sample: g and f_old, [B, 2 D].

    Args:
        mu: Weight of both.
        tau: Temperature of both.
    """

    mu: float = 0.5
    tau: float = 0.5

    def __post_init__(self) -> None:
        require_number("InterIntra", "mu", self.mu, at_least=0)
        require_number("InterIntra", "tau", self.tau, above=0)

    def __call__(
        self, features: Float[Tensor, "B D"], told: Float[Tensor, "B E"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss; samples of a batch are compared."""
        reference, before = torch.split(told, features.shape[1], dim=1)
        own, reference, before = (normalize(rows, dim=1) for rows in (features, reference, before))
        apart = inter(own, reference, self.tau) + intra(own, reference, before, self.tau)
        return self.mu * apart


@dataclass(frozen=True, slots=True)
class NearFeatures:
    """``weight * mean_d (f / ||f|| - told)**2``: how a server's model learns the fused features."""

    weight: float

    def __call__(
        self, features: Float[Tensor, "B D"], told: Float[Tensor, "B D"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss."""
        return self.weight * (normalize(features, dim=1) - told).square().mean(dim=1)


def fused_features(
    features: Float[Tensor, "K P D"],
    mask: Bool[Tensor, "K P"] | None,
    weigh: Contrastive,
    against: Float[Tensor, "P D"] | None = None,
) -> Float[Tensor, "P D"]:
    """Return the sum of the clients' unit features, weighed by how they pick out their samples.

    Args:
        features: What the clients sent.
        mask: For which samples they answer; None for all. A sample of nobody's is zero.
        weigh: Says how surely each feature is its sample's.
        against: Unit rows of the reference; None for the clients' mean.
    """
    rows = normalize(features, dim=-1)
    if mask is not None:
        rows = torch.where(mask.unsqueeze(-1), rows, 0)
    if against is None:
        scores = weigh.scores(rows, mask)
    else:
        scores = picked_out(rows, against, weigh.tau, weigh.block)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=0).nan_to_num(0.0)  # nobody's: all are -inf
    return (weights.unsqueeze(-1) * rows).sum(dim=0)


@dataclass(frozen=True, slots=True)
class ContrastiveBeside:
    """Everybody gets the fused features of each sample (:func:`fused_features`).

    Args:
        weigh: Says how surely each feature is its sample's.
        ask: The server's model, if it has one: round to its features [P, D], with which clients'
            are compared; None compares them with their mean.
    """

    weigh: Contrastive
    ask: Callable[[int], Tensor] | None = None

    def __call__(self, knowledge: KnowledgeBank, fusion: Fusion, round_: int) -> Fusion:
        """Return the fusion with the same features for each client."""
        assert knowledge.features is not None
        against = None if self.ask is None else normalize(self.ask(round_), dim=-1)
        fused = fused_features(knowledge.features, knowledge.mask, self.weigh, against)
        return to_all(fusion, features=fused)
