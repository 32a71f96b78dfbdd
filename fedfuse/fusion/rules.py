"""Fuse the knowledge of all clients into one target per receiver: weights @ values, one GEMM.

Averaging probabilities gives every client one vote; averaging logits lets over-confident clients
dominate; the geometric mean of probabilities lies between and vetoes what one source excludes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.class_weights import ClassWeights, to_simplex_
from fedfuse.fusion.softmax import softmax
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number


def weighted_mean(
    values: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"] | ClassWeights,
    mask: Bool[Tensor, "J P"] | None = None,
) -> Float[Tensor, "K P C"]:
    """Return ``sum_j w_kj values_j`` for every receiver k as one [K, J] x [J, P*C] product.

    With a mask the weights are renormalised, sample by sample, over the sources that answered;
    where none of a receiver's sources did, the mean is 0. Weights may differ by class: then each
    class is averaged, and renormalised, with its own (two such products; with a mask three).

    >>> values = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> weighted_mean(values, torch.tensor([[0.75, 0.25]]))
    tensor([[[0.7500, 0.2500]]])
    """
    if isinstance(weights, ClassWeights):
        return weights.means(weights.of(values, mask))[0]
    shape = (len(weights), *values.shape[1:])
    if mask is None:
        return (weights @ values.flatten(1)).view(shape)
    # Not a product with the mask: an answer that was never given may hold NaN.
    known = torch.where(mask.unsqueeze(-1), values, 0)
    total = (weights @ known.flatten(1)).view(shape)
    mass = weights @ mask.to(weights.dtype)
    return torch.where(
        _enough(mass).unsqueeze(-1), total / mass.clamp_min(_tiny(mass)).unsqueeze(-1), 0
    )


def answered(
    weights: Float[Tensor, "K J"] | ClassWeights, mask: Bool[Tensor, "J P"]
) -> Bool[Tensor, "K P"]:
    """Return True where any source that a receiver gives weight to answered the sample.

    >>> answered(torch.eye(2), torch.tensor([[True, False], [True, True]]))
    tensor([[ True, False],
            [ True,  True]])
    """
    if isinstance(weights, ClassWeights):
        return weights.answered(mask)
    return _enough(weights @ mask.to(weights.dtype))


def mean_probabilities(
    logits: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"] | ClassWeights,
    mask: Bool[Tensor, "J P"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "K P C"]:
    """Return the weighted mean of ``softmax(z / T)``; uniform where nobody answered.

    With weights by class the linear pool is renormalised over the classes.
    """
    probs = (logits / temperature).softmax(dim=-1)
    if isinstance(weights, ClassWeights):
        return to_simplex_(weights.means(weights.of(probs, mask, spent=True))[0])
    fused = weighted_mean(probs, weights, mask)
    return fused if mask is None else _uniform_where_unanswered(fused, weights, mask)


def mean_logits(
    logits: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"] | ClassWeights,
    mask: Bool[Tensor, "J P"] | None = None,
) -> Float[Tensor, "K P C"]:
    """Return the weighted mean of the logits; 0, a uniform prediction, where nobody answered.

    With weights by class a constant that a source adds to all its logits does not stay one:
    :func:`geometric_mean`, whose log-probabilities have no such freedom, is the log-linear pool.
    """
    return weighted_mean(logits, weights, mask)


def geometric_mean(
    logits: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"] | ClassWeights,
    mask: Bool[Tensor, "J P"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, "K P C"]:
    """Return ``prod_j softmax(z_j / T) ** w_kj``, renormalised; uniform where nobody answered.

    The same as the softmax of :func:`mean_logits` over T, since normalising takes out whatever is
    constant over the classes, but through log-probabilities, which do not cancel. With weights by
    class it is the log-linear pool ``softmax_c(sum_j w_kjc log p_jc)``.
    """
    log_probs = (logits / temperature).log_softmax(dim=-1)
    if isinstance(weights, ClassWeights):
        return weights.means(weights.of(log_probs, mask, spent=True))[0].softmax(dim=-1)
    return weighted_mean(log_probs, weights, mask).softmax(dim=-1)


@dataclass(frozen=True, slots=True)
class MeanProbabilities:
    """Average the sources' probabilities at a temperature (DS-FL, CFD, KnFu-style)."""

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    by_class: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("MeanProbabilities", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"] | ClassWeights
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        return mean_probabilities(bank.logits, weights, bank.mask, self.temperature)

    def values(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return what is averaged."""
        return softmax(logits, self.temperature)

    def targets(self, means: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the averages as they are."""
        return means


@dataclass(frozen=True, slots=True)
class MeanLogits:
    """Average the sources' raw logits (FedMD, as read in its authors' code)."""

    space: ClassVar[Space] = Space.LOGITS
    by_class: ClassVar[bool] = True

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"] | ClassWeights
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        return mean_logits(bank.logits, weights, bank.mask)

    def values(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return what is averaged."""
        return logits

    def targets(self, means: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the averages as they are."""
        return means


@dataclass(frozen=True, slots=True)
class GeometricMean:
    """Average the sources' log-probabilities at a temperature and renormalise."""

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES
    by_class: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("GeometricMean", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"] | ClassWeights
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        return geometric_mean(bank.logits, weights, bank.mask, self.temperature)

    def values(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return what is averaged."""
        return (logits / self.temperature).log_softmax(dim=-1)

    def targets(self, means: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the averages, renormalised."""
        return means.softmax(dim=-1)


def _tiny(mass: Float[Tensor, "K P"]) -> float:
    """Return the smallest number that still has full precision; less is as good as nothing."""
    return torch.finfo(mass.dtype).tiny


def _enough(mass: Float[Tensor, "K P"]) -> Bool[Tensor, "K P"]:
    """Return True where the weights of those who answered can be renormalised."""
    return mass >= _tiny(mass)


def _uniform_where_unanswered(
    probs: Float[Tensor, "K P C"], weights: Float[Tensor, "K J"], mask: Bool[Tensor, "J P"]
) -> Float[Tensor, "K P C"]:
    """Return a harmless distribution for the samples that will not count."""
    return torch.where(answered(weights, mask).unsqueeze(-1), probs, 1 / probs.shape[-1])
