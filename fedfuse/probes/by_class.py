"""Accuracy of each class, from which forgetting is told."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.probes.protocol import Asked

OF_CLASS = "accuracy_class_"
"""Before the number of a class in the metric of its accuracy."""


@dataclass(frozen=True, slots=True)
class ByClass:
    """Tell the accuracy of each class apart; classes without a sample have none.

    Where a round of every few asks it, :func:`fedfuse.compare.backward_loss` tells what was lost.
    """

    def __call__(
        self,
        model: Asked,
        inputs: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> dict[str, float]:
        """Return each class's accuracy."""
        logits = model.predict(inputs)
        right = (logits.argmax(dim=1) == labels).double()
        there = torch.bincount(labels, minlength=logits.shape[1])
        sums = torch.zeros(logits.shape[1], dtype=torch.float64, device=right.device)
        shares = (sums.index_add_(0, labels, right) / there).tolist()
        return {f"{OF_CLASS}{c}": shares[c] for c in there.nonzero()[:, 0].tolist()}
