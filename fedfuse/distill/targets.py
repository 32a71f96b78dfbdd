"""Bring a teacher into the space that the student's loss wants."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.errors import FedfuseError
from fedfuse.protocols import DistillLoss
from fedfuse.shapes import Float, Int
from fedfuse.types import Space, Teachers


def as_targets(teachers: Teachers, loss: DistillLoss) -> Float[Tensor, "K P C"]:
    """Return the teachers' targets in the loss's space.

    A loss on probabilities always gets them: logits go through a softmax at the loss's own
    ``temperature`` (1 if it has none). A plain function without a ``space`` is taken to want
    probabilities. Targets in half precision become float32, and probabilities sum to 1 again.

    Raises:
        FedfuseError: If the loss wants logits and the teachers hold probabilities, from which
            logits cannot be recovered.
    """
    wanted = Space(declared(loss, "space", Space.PROBABILITIES))
    targets = teachers.targets.to(torch.promote_types(teachers.targets.dtype, torch.float32))
    if wanted is teachers.space:
        rounded = targets is not teachers.targets and wanted is Space.PROBABILITIES
        return targets / targets.sum(dim=-1, keepdim=True) if rounded else targets
    if wanted is Space.LOGITS:
        raise FedfuseError(
            f"The distillation loss {part_name(loss)} compares logits, "
            f"but the fusion rule (or its sharpening) gives probabilities",
            next_step="Choose rule=mean_logits sharpen=none, or distill=kl.",
        )
    temperature = float(declared(loss, "temperature", 1.0))
    return (targets / temperature).softmax(dim=-1)


def batchable(loss: DistillLoss) -> bool:
    """Tell whether a loss may be computed of the samples of many clients at once."""
    return not declared(loss, "relational", False) and declared(loss, "batchable", True)


def labels_for(
    loss: DistillLoss, labels: Int[Tensor, " P"] | None, targets: Float[Tensor, "*batch P C"]
) -> Int[Tensor, "*batch P"] | None:
    """Return the labels that a loss is told, whoever learns; None where it may not be told any.

    They are the public ones. Where nobody knows those, a loss that declares ``pseudo_labels`` is
    told what the target calls likeliest.
    """
    if labels is not None:
        return labels.expand(targets.shape[:-1])
    return targets.argmax(dim=-1) if declared(loss, "pseudo_labels", False) else None
