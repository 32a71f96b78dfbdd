"""Losses of models that return features beside their logits: each side gets its own.

What a term on the features is to know of a sample stands behind its target, in more columns, as
facts do (:mod:`fedfuse.train.facts`): padding, cutting and weighing rows stay as they are, and one
loss serves the clients of a whole cohort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.train.work import SampleLoss, Work

FeatureTerm = Callable[[Tensor, Tensor], Tensor]
"""Map features [B, D] and what is told of each sample [B, E] to what is added to its loss, [B].

A frozen dataclass without tensors: what is a client's or a round's is told by columns."""


@dataclass(frozen=True, slots=True)
class OnSides:
    """``loss(logits, targets) + term(features, told)`` of logits and features side by side.

    Args:
        loss: What the logits minimise.
        num_classes: C, the width of the logits' side.
        term: What the features add; None for nothing.
        columns: E, how many columns of the targets are the term's, the last ones.
    """

    loss: SampleLoss
    num_classes: int
    term: FeatureTerm | None = None
    columns: int = 0

    def __call__(self, sides: Float[Tensor, "B W"], targets: Tensor) -> Float[Tensor, " B"]:
        """Return one loss per sample, [B]."""
        logits = sides.narrow(1, 0, self.num_classes)
        if self.term is None:
            return self.loss(logits, targets)
        own, told = split_targets(targets, self.columns)
        features = sides.narrow(1, self.num_classes, sides.shape[1] - self.num_classes)
        return self.loss(logits, own) + self.term(features, told)


def split_targets(targets: Float[Tensor, "B W"], columns: int) -> tuple[Tensor, Tensor]:
    """Return what a loss learns from, labels [B] or [B, W - E], and the last E columns, [B, E]."""
    end = targets.shape[1] - columns
    # Classes are two or more: one column is of labels.
    own = targets.select(1, 0).long() if end == 1 else targets.narrow(1, 0, end)
    return own, targets.narrow(1, end, columns)


def widened(targets: Tensor, told: Float[Tensor, "N E"]) -> Float[Tensor, "N W"]:
    """Return the targets with more columns behind them: what :func:`split_targets` divides."""
    own = targets if targets.is_floating_point() else targets.float().unsqueeze(1)
    return torch.cat([own, told], dim=1)


@dataclass(frozen=True, slots=True)
class OnReadings:
    """``loss(logits, targets) + weight * loss(readings, targets)`` of two sides as wide.

    Args:
        loss: What both sides minimise.
        num_classes: C, the width of either.
        weight: Of the second.
    """

    loss: SampleLoss
    num_classes: int
    weight: float

    def __call__(self, sides: Float[Tensor, "B W"], targets: Tensor) -> Float[Tensor, " B"]:
        """Return one loss per sample, [B]."""
        own, other = torch.split(sides, self.num_classes, dim=1)
        return self.loss(own, targets) + self.weight * self.loss(other, targets)


def on_sides(
    work: Work,
    num_classes: int,
    term: FeatureTerm | None = None,
    told: Float[Tensor, "N E"] | None = None,
    anchor: Work | None = None,
) -> Work:
    """Return the work of a model that returns features beside its logits.

    Args:
        work: As it is for logits alone.
        num_classes: C.
        term: What the features add; None for nothing.
        told: What the term is to know of each of the work's samples, float32 and on its device.
        anchor: What takes the place of the work's anchor; None lets its features add nothing.
    """
    targets = work.targets
    if told is not None:
        targets = widened(targets, told)
    if anchor is None and work.anchor is not None:
        anchor = on_sides(work.anchor, num_classes)
    return replace(
        work,
        targets=targets,
        loss=OnSides(work.loss, num_classes, term, 0 if told is None else told.shape[1]),
        anchor=anchor,
    )
