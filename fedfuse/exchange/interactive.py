"""What a client learns of messages: to say what can be read back, and what all say of a sample."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.validation import require_number


def conversation(
    message: Float[Tensor, "B D"], missed: Float[Tensor, "B d"], heard: Float[Tensor, "B D"]
) -> Float[Tensor, " B"]:
    """Return ``||Dec(E(h)) - h||**2 + ||E(h) - fused||**2``.

    Args:
        message: E(h).
        missed: Dec(E(h)) - h.
        heard: The fused message of the sample.

    >>> import torch
    >>> h, decoded, said = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.ones(1, 3)
    >>> conversation(said, decoded - h, said)
    tensor([1.])
    """
    return missed.square().sum(dim=1) + (message - heard).square().sum(dim=1)


@dataclass(frozen=True, slots=True)
class Conversation:
    """``weight`` times :func:`conversation`, of what a talking model returns beside its logits.

    Args:
        weight: Beside the loss of the logits.
    """

    weight: float = 0.01

    def __post_init__(self) -> None:
        require_number("Conversation", "weight", self.weight, at_least=0)

    def __call__(
        self, features: Float[Tensor, "B E"], told: Float[Tensor, "B D"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss; E is D + d."""
        message, missed = features.tensor_split([told.shape[1]], dim=1)
        return self.weight * conversation(message, missed, told)
