"""Krum (Blanchard et al. 2017) in the space of whole prediction tables, R^(P*C).

Krum is a choice of sources, so its target is a weighted mean after all and personal weights cost
one GEMM. Which sources compete is what the weights say (weight above 0); how much each weighs
does not enter the choice, only the mean of several that were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.rules import answered, mean_probabilities
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number

_BLOCK_ELEMENTS = 2**23  # of a float64 temporary, 64 MiB
_TIE = 1e-12


def squared_distances(
    probs: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None = None
) -> Float[Tensor, "K K"]:
    """Return ``|p_i - p_j|^2`` summed over classes and averaged over samples that both answered.

    Float64, as three GEMMs. Infinite for two clients without a common sample, 0 on the diagonal.

    >>> squared_distances(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([[0., 2.],
            [2., 0.]], dtype=torch.float64)
    """
    exact = probs.double()
    present = torch.ones(probs.shape[:2], dtype=torch.float64, device=probs.device)
    if mask is not None:
        exact, present = torch.where(mask.unsqueeze(-1), exact, 0), mask.double()
    own = exact.square().sum(dim=-1) @ present.T
    product = exact.flatten(1) @ exact.flatten(1).T
    common = present @ present.T
    distances = (own + own.T - product - product.T).clamp_min(0) / common.clamp_min(1)
    return distances.masked_fill(common == 0, torch.inf).fill_diagonal_(0)


def krum_choice(
    distances: Float[Tensor, "J J"],
    neighbours: Bool[Tensor, "K J"],
    corrupted: float = 0.2,
    keep: int = 1,
) -> Bool[Tensor, "K J"]:
    """Return the ``keep`` sources of each row that lie closest to its other sources.

    A source's score is the sum of its ``n - f - 2`` smallest squared distances (at least one) to
    the other sources of the row, n being their number and f the whole part of ``corrupted * n``.
    Sources that tie with the last one chosen are chosen too, so the order of clients is nothing.

    >>> distances = torch.tensor([[0.0, 1.0, 9.0], [1.0, 0.0, 4.0], [9.0, 4.0, 0.0]])
    >>> krum_choice(distances, torch.ones(1, 3, dtype=torch.bool), corrupted=0)
    tensor([[ True,  True, False]])
    """
    chosen = []
    for row in torch.split(neighbours, max(1, _BLOCK_ELEMENTS // distances.numel())):
        size = row.sum(dim=1)
        spoilt = (corrupted * size + _TIE).floor().long()
        counted = (size - spoilt - 2).clamp_min(1)
        others = row.unsqueeze(1) & row.unsqueeze(2)
        others.diagonal(dim1=1, dim2=2).fill_(value=False)
        nearest = distances.expand(len(row), -1, -1).masked_fill(~others, torch.inf).sort().values
        rank = torch.arange(len(distances), device=distances.device)
        scores = torch.where(rank < counted.view(-1, 1, 1), nearest, 0).sum(dim=-1)
        scores = scores.masked_fill(~row, torch.inf)
        last = scores.sort(dim=1).values.gather(1, (size.clamp_max(keep) - 1).unsqueeze(1))
        chosen.append(row & (scores <= last * (1 + 1e-9) + _TIE))
    return torch.cat(chosen)


@dataclass(frozen=True, slots=True)
class Krum:
    """Take the predictions of the sources that the most others agree with.

    On a sample that no chosen source answered the mean of all sources stands in.

    Args:
        corrupted: Share of the sources that may be wrong, from 0 to below 0.5.
        keep: How many are chosen and averaged with their weights: 1 is Krum, more is multi-Krum.
        temperature: Of the softmax.
    """

    corrupted: float = 0.2
    keep: int = 1
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("Krum", "corrupted", self.corrupted, at_least=0, at_most=0.499)
        require_count("Krum", "keep", self.keep)
        require_number("Krum", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        rows, receiver = torch.unique(weights > 0, dim=0, return_inverse=True)
        distances = squared_distances(probs, bank.mask)
        chosen = krum_choice(distances, rows, self.corrupted, self.keep)[receiver]
        kept = torch.where(chosen, weights, 0)
        kept = kept / kept.sum(dim=1, keepdim=True)
        fused = mean_probabilities(bank.logits, kept, bank.mask, self.temperature)
        if bank.mask is None:
            return fused
        spare = mean_probabilities(bank.logits, weights, bank.mask, self.temperature)
        return torch.where(answered(kept, bank.mask).unsqueeze(-1), fused, spare)
