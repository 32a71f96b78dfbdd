"""FedNTD: what a model said of the classes beside the label, kept while it trains on the label."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.distill.labels import at_label
from fedfuse.distill.losses import KL
from fedfuse.shapes import Float, Int
from fedfuse.train.facts import labels_of
from fedfuse.train.work import SampleLoss


def not_true(logits: Float[Tensor, "B C"], labels: Int[Tensor, " B"]) -> Tensor:
    """Return the logits of the classes beside each sample's label, [B, C - 1].

    >>> not_true(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.tensor([1, 0]))
    tensor([[1., 3.],
            [5., 6.]])
    """
    beside = ~at_label(labels, logits)
    return torch.masked_select(logits, beside).view(len(logits), logits.shape[1] - 1)


@dataclass(frozen=True, slots=True)
class NotTrue:
    """``loss + beta T^2 KL(q_before || q)`` over the classes beside the label (FedNTD).

    q are softmaxes at T of these classes' logits alone: of the model, and of what it was, a fixed
    teacher (Lee et al. 2022, arXiv 2106.03097).

    Args:
        beta: Weight of the divergence.
        temperature: T.
        loss: On the labels.
    """

    beta: float
    temperature: float
    loss: SampleLoss

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample from both models' logits side by side [B, 2C], [B]."""
        now, before = logits.chunk(2, dim=1)
        labels = labels_of(targets)
        teacher = (not_true(before.detach(), labels) / self.temperature).softmax(dim=1)
        kept = KL(self.temperature)(not_true(now, labels), teacher)
        return self.loss(now, targets) + self.beta * kept
