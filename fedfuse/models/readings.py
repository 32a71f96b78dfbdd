"""Models whose features are read by more than their own last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WithReadings(nn.Module):
    """A model that returns its logits and, beside them, what a fixed layer reads in its features.

    Args:
        sides: A model that returns logits and features side by side, as
            :class:`~fedfuse.models.features.WithFeatures`.
        num_classes: C, the width of the logits.
        weight: The fixed layer's, [R, D]; a client's own, and no part of its state.
        bias: Its bias [R]; None for none.
        squared: Whether the features' squared length follows, in one more column.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        sides: nn.Module,
        num_classes: int,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        squared: bool = False,
    ) -> None:
        super().__init__()
        self.sides, self.num_classes, self.squared = sides, num_classes, squared
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits and readings side by side, [B, C + R] or [B, C + R + 1]."""
        sides = self.sides(inputs)
        features = sides[:, self.num_classes :]
        parts = [
            sides[:, : self.num_classes],
            nn.functional.linear(features, self.weight, self.bias),
        ]
        if self.squared:
            parts.append(features.square().sum(dim=1, keepdim=True))
        return torch.cat(parts, dim=1)
