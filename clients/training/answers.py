"""What models say of their clients' tests, those of many models joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedfuse.metrics import accuracies

Pair = tuple[torch.Tensor, torch.Tensor]
"""Logits [N, C] and labels [N]."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What k models say of samples of their own each, one model's behind the other's.

    Args:
        logits: [S, C].
        labels: [S].
        sizes: Samples of each model, from 0; S in all.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    sizes: Sequence[int]

    def pairs(self) -> list[Pair | None]:
        """Return what each model says; None of those that say nothing."""
        sizes = list(self.sizes)
        each = zip(torch.split(self.logits, sizes), torch.split(self.labels, sizes), strict=True)
        return [pair if len(pair[1]) else None for pair in each]

    def accuracies(self) -> list[float | None]:
        """Return the share of samples whose largest logit is their label's, None without any."""
        told = iter(accuracies(self.logits.argmax(dim=1) == self.labels, positive(self.sizes)))
        return [next(told) if size else None for size in self.sizes]


@dataclass(frozen=True, slots=True)
class Answers:
    """What some models say of their clients' tests.

    Args:
        balanced: Of the balanced test set, as a test on which all classes are alike reads it.
        own: Of the client's own test set, as one that is distributed as its data reads it.
        validation: Of its validation data, read like ``own``; nothing without such data.
        validation_balanced: The same read like ``balanced``.
        plain: The balanced test set's as the model was trained.
        post_hoc: The balanced test set's without the prior; None unless that is told beside.
        own_at: Where each answer of ``own`` stands in ``balanced``, -1 if nowhere; None if they are
            read another way.
    """

    balanced: Joined
    own: Joined
    validation: Joined
    validation_balanced: Joined
    plain: Joined
    post_hoc: Joined | None = None
    own_at: torch.Tensor | None = None


def positive(sizes: Sequence[int]) -> list[int]:
    """Return the sizes of the models that say something."""
    return [size for size in sizes if size]
