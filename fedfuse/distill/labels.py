"""What losses that know labels have in common: where the label stands, and how many classes."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.errors import ConfigError
from fedfuse.shapes import Bool, Float, Int


def at_label(labels: Int[Tensor, " B"], like: Float[Tensor, "B C"]) -> Bool[Tensor, "B C"]:
    """Return where each sample's label stands among the classes; nowhere if it is below 0.

    >>> at_label(torch.tensor([1, -1]), torch.zeros(2, 2)).tolist()
    [[False, True], [False, False]]
    """
    return labels.unsqueeze(-1) == torch.arange(like.shape[-1], device=like.device)


def require_classes(
    owner: str, why: str, num_classes: int, least: int, next_step: str = "Choose distill=kl."
) -> None:
    """Raise ConfigError if there are fewer classes than a loss makes sense for."""
    if num_classes < least:
        raise ConfigError(
            f"{owner} {why}",
            got=f"{num_classes} classes",
            allowed=f"{least} or more",
            next_step=next_step,
        )
