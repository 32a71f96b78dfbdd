"""A source counts on a sample as much as it tells that sample from all others (CreamFL).

The weights of Multimodal Federated Learning via Contrastive Representation Ensemble
(arXiv 2302.08888), which compares representations. Here logits stand in their place, which is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedfuse.fusion.per_sample import by_confidence
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number


def reference(
    rows: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None = None
) -> Float[Tensor, "P C"]:
    """Return the mean of the clients' unit rows, a unit row again; 0 where nobody answered.

    >>> reference(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    tensor([[0.7071, 0.7071]])
    """
    known = rows if mask is None else torch.where(mask.unsqueeze(-1), rows, 0)
    return normalize(known.sum(dim=0), dim=-1)


def picked_out(
    rows: Float[Tensor, "K P C"], against: Float[Tensor, "P C"], tau: float, block: int
) -> Float[Tensor, "K P"]:
    """Return ``log softmax_y(f_j(x) . g(y) / tau)`` at y = x, from ``-log P - 2/tau`` to 0.

    Args:
        rows: The clients' unit rows f.
        against: Unit rows g of the reference.
        tau: The temperature of the softmax over samples.
        block: How many rows of all clients' products with the reference are held at a time.

    >>> rows = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> picked_out(rows, torch.eye(2), tau=1.0, block=3)
    tensor([[-0.3133, -0.3133],
            [-0.3133, -1.3133]])
    """
    flat, columns = rows.flatten(0, 1), against.T / tau
    beside = torch.cat([(part @ columns).logsumexp(-1) for part in torch.split(flat, block)])
    return (rows * against).sum(dim=-1) / tau - beside.view(rows.shape[:2])


@dataclass(frozen=True, slots=True)
class Contrastive:
    """Weigh every answer by how well it picks out its sample among all public samples.

    A client's logits of a sample, as a unit vector f_j(x), are compared with the reference of
    every sample y, the clients' mean g(y): ``s_j(x) = log softmax_y(f_j(x) . g(y) / tau)`` at
    y = x. A source's weight on the sample is ``w_ij exp(s_j(x))``, renormalised; what is averaged
    are probabilities. The score prefers samples unlike all others, and near-duplicates lower it
    for all sources alike. Samples that nobody answered are no others.

    Args:
        tau: Temperature of the softmax over samples; the authors' code has none.
        block: Rows of the products with the reference, [block, P] float32, held at a time.
        temperature: Of the softmax over classes.
    """

    tau: float = 1.0
    block: int = 4096
    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("Contrastive", "tau", self.tau, above=0)
        require_count("Contrastive", "block", self.block)
        require_number("Contrastive", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver; uniform where none of its sources answered."""
        scores = self.scores(normalize(bank.logits, dim=-1), bank.mask)
        return by_confidence(bank, weights, scores, self.space, self.temperature)

    def scores(
        self, rows: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None
    ) -> Float[Tensor, "K P"]:
        """Return the logarithm of each answer's weight beside that of the pair."""
        if mask is None:
            return picked_out(rows, reference(rows), self.tau, self.block)
        asked = mask.any(dim=0)
        rows = torch.where(mask.unsqueeze(-1), rows, 0)
        scores = rows.new_zeros(mask.shape)
        scores[:, asked] = picked_out(
            rows[:, asked], reference(rows[:, asked]), self.tau, self.block
        )
        return scores
