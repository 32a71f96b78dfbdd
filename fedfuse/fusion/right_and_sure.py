"""Weigh every answer by how sure it is, where it is right (FedGEMS).

Cheng et al. 2021 (arXiv 2110.11027): a server that knows the public labels lets a client say the
more on a sample the lower the entropy of its prediction, and does not ask how sure it is where the
label says that it is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.confidence import entropy
from fedfuse.fusion.per_sample import Average, by_confidence
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number, require_one_of

SUREST = 1e-6
"""Least entropy, nats, that is told from less."""


def sureness(logits: Float[Tensor, "K P C"], labels: Int[Tensor, " P"]) -> Float[Tensor, "K P"]:
    """Return 1 / H(softmax(z)) where the likeliest class is the label, elsewhere 0.

    >>> import math
    >>> right = torch.tensor([[[0.0, math.log(3)]]])
    >>> sureness(right, torch.tensor([1])), sureness(right, torch.tensor([0]))
    (tensor([[1.7783]]), tensor([[0.]]))
    """
    right = logits.argmax(dim=-1) == labels
    return torch.where(right, 1 / (-entropy(logits)).clamp_min(SUREST), 0)


@dataclass(frozen=True, slots=True)
class RightAndSure:
    """Fuse with weights ``softmax_j(1/H_j if right else 0)``, times a receiver's weights.

    Args:
        temperature: Of the softmax of probabilities that are averaged; sureness is at 1.
        average: Raw ``logits``, or ``probabilities``.
    """

    temperature: float = 1.0
    average: Average = "logits"
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("RightAndSure", "temperature", self.temperature, above=0)
        require_one_of("RightAndSure", "average", self.average, list(Space))

    @property
    def space(self) -> Space:
        """What is averaged."""
        return Space(self.average)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"], labels: Int[Tensor, " P"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        sure = sureness(bank.logits, labels)
        return by_confidence(bank, weights, sure, self.space, self.temperature)
