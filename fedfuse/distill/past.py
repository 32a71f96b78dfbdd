"""FCCL: what a model said before, of all classes or beside the label, kept while it trains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedfuse.distill.labels import at_label
from fedfuse.train.facts import labels_of
from fedfuse.train.work import SampleLoss


@dataclass(frozen=True, slots=True)
class NearItsPast:
    """``loss + sum_i weights[i] T^2 sum_c t_c (log t_c - log p_c)`` of a model and n fixed ones.

    p and t are softmaxes over all classes at T, of the model and of a model that it has been. The
    sum runs over all classes (a KL divergence) or over those beside the label, which are not made
    to sum to 1 (Huang et al., CVPR 2022 and arXiv 2309.16286, as their code has both).

    Args:
        weights: Of each former model, n of them.
        temperature: T.
        beside_label: Whether the label's own class is left out.
        loss: On the labels.
    """

    weights: tuple[float, ...]
    temperature: float
    beside_label: bool
    loss: SampleLoss

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample from all models' logits side by side [B, (1 + n) C], [B]."""
        now, *past = logits.chunk(1 + len(self.weights), dim=1)
        total, log_now = self.loss(now, targets), (now / self.temperature).log_softmax(dim=1)
        for weight, before in zip(self.weights, past, strict=True):
            log_before = (before.detach() / self.temperature).log_softmax(dim=1)
            apart = log_before.exp() * (log_before - log_now)
            if self.beside_label:
                apart = apart.masked_fill(at_label(labels_of(targets), now), 0)
            total = total + weight * self.temperature**2 * apart.sum(dim=1)
        return total
