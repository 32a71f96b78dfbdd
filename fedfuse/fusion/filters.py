"""Leave out the public samples on which a fused target says too little."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedfuse.fusion.around import at_temperature, fused_by
from fedfuse.fusion.class_weights import ClassWeights
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number


def ambiguity(probs: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
    """Return ``|onehot(argmax p) - p|_1 = 2 (1 - max p)``: 0 if certain, ``2 (1 - 1/C)`` if flat.

    >>> import torch
    >>> ambiguity(torch.tensor([[[0.7, 0.2, 0.1]]]))
    tensor([[0.6000]])
    """
    return 2 * (1 - probs.amax(dim=-1))


def unambiguous(probs: Float[Tensor, "K P C"], theta: float) -> Float[Tensor, "K P"]:
    """Return sample weights: 0 where the ambiguity is ``theta`` or more, else 1.

    >>> import torch
    >>> unambiguous(torch.tensor([[[0.9, 0.1], [0.5, 0.5]]]), theta=0.5)
    tensor([[1., 0.]])
    """
    return (ambiguity(probs) < theta).to(probs.dtype)


def untempered(
    rule: Any,
    bank: KnowledgeBank,
    weights: Float[Tensor, "K J"] | ClassWeights,
    targets: Float[Tensor, "K P C"],
    space: Space,
    labels: Int[Tensor, " P"] | None = None,
) -> Float[Tensor, "K P C"]:
    """Return what a rule fused as probabilities at temperature 1.

    A threshold means the same whatever the temperature of the distillation only if it is asked
    there: at T = 4 not even certain answers are far from flat. So a rule with a ``temperature``
    fuses once more without it.

    Args:
        rule: What fused; one without a ``temperature`` of its own has none to take back. One that
            remembers, as it was before it fused.
        bank: What it fused.
        weights: With which.
        targets: To what.
        space: Whether those are logits.
        labels: Public labels [P], if anybody knows them.
    """
    if space is Space.LOGITS:
        return targets.softmax(dim=-1)
    plain = at_temperature(rule, 1.0)
    return targets if plain is rule else fused_by(plain, bank, weights, labels).targets


def share_left_out(counts: Float[Tensor, "K P"] | Bool[Tensor, "K P"]) -> float:
    """Return which share of the samples does not count, for the receiver with the fewest.

    >>> import torch
    >>> share_left_out(torch.tensor([[1.0, 0.0, 0.5, 0.2], [1.0, 0.0, 0.0, 0.0]]))
    0.75
    """
    return float((counts == 0).double().mean(dim=1).max())


@dataclass(frozen=True, slots=True)
class AmbiguityFilter:
    """The server's filter of Selective-FD (Shao et al. 2024), as a public port of it has it.

    The paper's own demonstration code does not contain it.

    Args:
        theta: Drop a sample whose ambiguity is at least this; above 0, below 2. The ambiguity of
            C classes never exceeds ``2 (1 - 1/C)`` (1 for two classes, 1.8 for ten), so a larger
            ``theta`` drops nothing: the port's 2.0 is a filter that never fires, and is refused.
    """

    theta: float = 1.0

    def __post_init__(self) -> None:
        require_number("AmbiguityFilter", "theta", self.theta, above=0, at_most=1.999)

    def __call__(self, probs: Float[Tensor, "K P C"]) -> Float[Tensor, "K P"]:
        """Return sample weights for fused probabilities, neither tempered nor sharpened."""
        num_classes = probs.shape[-1]
        largest = 2 * (1 - 1 / num_classes)
        if self.theta > largest:
            warnings.warn(
                f"theta={self.theta:g} never drops a sample: with {num_classes} classes no "
                f"ambiguity exceeds {largest:g}.",
                UserWarning,
                stacklevel=1,
            )
        return unambiguous(probs, self.theta)
