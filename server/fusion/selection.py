"""What of the public samples the server's own model learns from clients, and what from itself.

FedGEMS (Cheng et al. 2021, arXiv 2110.11027): of a sample that the model gets right it learns the
label, and remembers what it said; of one that it gets wrong, what it said when it last was right,
and only if it never was, what was fused of the clients' predictions.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.shapes import Bool, Float, Int


class RightAnswers:
    """The model's logits of each public sample as it last was right.

    Args:
        num_public: P.
        num_classes: C.
    """

    def __init__(self, num_public: int, num_classes: int) -> None:
        self._logits = torch.zeros(num_public, num_classes)
        self._known = torch.zeros(num_public, dtype=torch.bool)

    def note(
        self, index: Int[Tensor, " m"], own: Float[Tensor, "m C"], labels: Int[Tensor, " m"]
    ) -> tuple[Bool[Tensor, " m"], Bool[Tensor, " m"]]:
        """Return where the model is right, whose logits are kept, and where it has been before."""
        right = own.argmax(dim=1) == labels
        before = self._known[index] & ~right
        self._logits[index[right]] = own[right]
        self._known[index[right]] = True
        return right, before

    def of(self, index: Int[Tensor, " m"], temperature: float) -> Float[Tensor, "m C"]:
        """Return the probabilities of what is remembered; even ones where nothing is."""
        return (self._logits[index] / temperature).softmax(dim=1)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        return {"right/logits": self._logits.clone(), "right/known": self._known.clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self._logits, self._known = state["right/logits"].clone(), state["right/known"].clone()


def selected(
    fused: Float[Tensor, "m C"],
    remembered: Float[Tensor, "m C"],
    labels: Int[Tensor, " m"],
    right: Bool[Tensor, " m"],
    before: Bool[Tensor, " m"],
) -> Float[Tensor, "m C"]:
    """Return what is learned of each sample: its label, what is remembered, or what was fused.

    KL towards a label's one-hot vector is the cross-entropy of the label at the loss's temperature,
    so at T = 1 its mixture with the cross-entropy is that; elsewhere it is a cross-entropy of both.

    >>> one, two, three = torch.eye(3)
    >>> now, then = torch.tensor([True, False, False]), torch.tensor([False, True, False])
    >>> fused, kept = three.expand(3, 3), two.expand(3, 3)
    >>> selected(fused, kept, torch.zeros(3, dtype=torch.int64), now, then).argmax(1).tolist()
    [0, 1, 2]
    """
    named = one_hot(labels, fused.shape[1]).to(fused.dtype)
    others = torch.where(before.unsqueeze(1), remembered.to(fused.dtype), fused)
    return torch.where(right.unsqueeze(1), named, others)
