"""A model that says its features in messages of one size for all, and reads such messages.

After Talking Models (arXiv 2310.03188), whose abstract alone was read: the form is ours.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.models.features import WithFeatures


class Talking(nn.Module):
    """A client's model with its encoder E of features to messages and its decoder Dec back.

    Both are linear and begin as the same orthogonal map and its transpose, so that a message
    begins as a projection of the features. As a model it is the client's own.

    Args:
        model: The client's model, whose last linear layer takes d features.
        begins: [d, D], the orthogonal map.
    """

    def __init__(self, model: nn.Module, begins: Tensor) -> None:
        super().__init__()
        self.encoder = nn.Parameter(begins.clone())
        self.decoder = nn.Parameter(begins.T.clone(memory_format=torch.contiguous_format))
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to the model's logits."""
        logits: Tensor = self.model(inputs)
        return logits


class Aloud(nn.Module):
    """A talking model that returns what it says beside its logits.

    Args:
        talking: The model.
        num_classes: C.
    """

    def __init__(self, talking: Talking, num_classes: int) -> None:
        super().__init__()
        self.talking, self.num_classes = talking, num_classes
        self._sides = [WithFeatures(talking.model, num_classes)]  # in a list: registered once

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits, message E(h) and what Dec makes of it less h, [B, C + D + d]."""
        sides = self._sides[0](inputs)
        features = sides[:, self.num_classes :]
        message = features @ self.talking.encoder
        missed = message @ self.talking.decoder - features
        return torch.cat([sides[:, : self.num_classes], message, missed], dim=1)
