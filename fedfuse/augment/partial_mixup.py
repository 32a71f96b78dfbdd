"""Mix a small share of the public samples, before everybody answers for them.

Understanding the Role of Mixup in Knowledge Distillation (Choi, Jeon, Shukla, Turaga, arXiv
2211.03946) finds that heavily mixed samples blur a teacher, and mixes few.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.augment.draws import beta, some
from fedfuse.augment.protocol import Augmented
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number


def mixed(rows: Tensor, part: Float[Tensor, " n"], partner: Int[Tensor, " n"]) -> Tensor:
    """Return ``part`` of each row and the rest of its partner's.

    >>> rows = torch.tensor([[4.0], [0.0]])
    >>> mixed(rows, torch.tensor([0.75, 0.5]), torch.tensor([1, 1])).tolist()
    [[3.0], [0.0]]
    """
    own = part.to(rows.device).view(-1, *[1] * (rows.ndim - 1))
    return own * rows + (1 - own) * rows[partner.to(rows.device)]


@dataclass(frozen=True, slots=True)
class PartialMixup:
    """Keep a share of the samples to the bit and mix the others, ``l x + (1 - l) x_partner``.

    Exactly ``keep * m`` samples, rounded, are as they were; the authors' code draws them with
    replacement. Each of the others has a partner from a permutation of all, perhaps itself, and its
    own ``l``. Everybody answers for what comes of it: no stored answers are mixed.

    Args:
        alpha: ``l`` is drawn from Beta(alpha, alpha).
        keep: Share of the samples that are not mixed.
    """

    alpha: float = 1.0
    keep: float = 0.9

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_number("PartialMixup", "alpha", self.alpha, above=0)
        require_number("PartialMixup", "keep", self.keep, at_least=0, at_most=1)

    @property
    def labels_kept(self) -> bool:
        """Whether nothing is mixed."""
        return self.keep == 1

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Augmented:
        """Return the samples, some of them mixed."""
        num = len(inputs)
        kept = some(num, self.keep, generator)
        partner = torch.randperm(num, generator=generator)
        part = beta(self.alpha, num, generator).to(inputs.dtype)
        new = mixed(inputs, part, partner)
        kept = kept.to(inputs.device)
        new[kept] = inputs[kept]
        return Augmented(new, self.labels_kept)
