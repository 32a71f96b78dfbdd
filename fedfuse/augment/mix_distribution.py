"""Give public samples the brightness and contrast of others, channel by channel.

MixDistribution of KD3 (Distribution Shift Matters for Knowledge Distillation with Webly Collected
Images, arXiv 2307.11469), of which only the abstract was read; the form is that of MixStyle (arXiv
2104.02008), applied to inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.augment.draws import beta, some
from fedfuse.augment.protocol import Augmented
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_flag, require_number

EPSILON = 1e-6
"""Least deviation that a sample is divided by."""


def restyled(rows: Tensor, part: Float[Tensor, " n"], partner: Int[Tensor, " n"]) -> Tensor:
    """Return each row with a mean and deviation of which ``part`` is its own, the rest another's.

    Per channel, over all that a channel holds; rows of features [n, d] have one channel. A row that
    is all its own, or its own partner, comes back to the bit.

    >>> rows = torch.tensor([[1.0, 3.0], [10.0, 14.0]])
    >>> restyled(rows, torch.tensor([0.5, 1.0]), torch.tensor([1, 0])).tolist()
    [[5.5, 8.5], [10.0, 14.0]]
    """
    part, partner = part.to(rows.device), partner.to(rows.device)
    flat = rows.reshape(len(rows), rows.shape[1] if rows.ndim > 2 else 1, -1)
    centre = flat.mean(dim=2, keepdim=True)
    spread = flat.std(dim=2, correction=0, keepdim=True)
    own = part.view(-1, 1, 1)
    new_centre = own * centre + (1 - own) * centre[partner]
    new_spread = own * spread + (1 - own) * spread[partner]
    new = new_spread * (flat - centre) / spread.clamp_min(EPSILON) + new_centre
    as_it_was = (part == 1) | (partner == torch.arange(len(rows), device=rows.device))
    return torch.where(as_it_was.view(-1, 1, 1), flat, new).view_as(rows)


@dataclass(frozen=True, slots=True)
class MixDistribution:
    """Mix the statistics of some samples with those of others; what they show stays.

    ``x' = s_mix (x - mean) / s + mean_mix``, of which ``mean_mix = l mean + (1 - l) mean_partner``
    and the same for the deviations s. Labels are kept.

    Args:
        alpha: ``l`` is drawn from Beta(alpha, alpha).
        share: Of the samples that are changed, rounded.
        consistency: Whether clients answer for the samples as they were and learn the answers from
            the changed ones; if not, everybody also answers for the changed ones.
    """

    alpha: float = 0.1
    share: float = 0.5
    consistency: bool = True

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __post_init__(self) -> None:
        require_number("MixDistribution", "alpha", self.alpha, above=0)
        require_number("MixDistribution", "share", self.share, at_least=0, at_most=1)
        require_flag("MixDistribution", "consistency", self.consistency)

    @property
    def lesson_only(self) -> bool:
        """Whether samples are changed for the lesson alone."""
        return self.consistency

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Augmented:
        """Return the samples, some of them restyled."""
        num = len(inputs)
        changed = some(num, self.share, generator)
        partner = torch.randperm(num, generator=generator)
        part = torch.ones(num, dtype=inputs.dtype)
        part[changed] = beta(self.alpha, num, generator)[changed].to(inputs.dtype)
        return Augmented(restyled(inputs, part, partner))
