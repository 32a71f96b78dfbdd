"""Selective-FD's client selector: answer only for public samples that look like one's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.familiarity.hold_out import hold_out, quantile_mask
from fedfuse.familiarity.kulsif import kulsif_ratio, median_width, uniform_samples
from fedfuse.familiarity.protocol import SPACES
from fedfuse.shapes import Bool, Float, Int
from fedfuse.validation import require_count, require_number, require_one_of

NARROW = 1 / 6
"""Width of the kernel, in median distances."""


@dataclass(frozen=True, slots=True)
class KuLSIFSelector:
    """Keep a public sample iff its density ratio is above a quantile of held-out private ones'.

    As the authors' demonstration has it: 250 auxiliary points drawn uniformly (here from the box
    that the private and the public samples fill), regularisation ``250 ** -0.5``, quantile 0.25,
    and a narrow kernel: its width is 5 for MNIST, where 20 is called too large. That is a sixth of
    the median distance between a client's samples, which is what is taken here, so that it suits
    any scale. The median itself, a usual choice elsewhere, accepts half of the classes that a
    client does not have. That code takes 5 % of the private data as known samples; here it is as
    many as there are, up to ``max_known``. Its authors warn that it fails with few samples and in
    high dimensions: use features there.

    Args:
        quantile: q, 0 to 1; about that share of a client's own kind is refused.
        num_auxiliary: Points of the denominator.
        width: Of the kernel; None for a sixth of the median distance between known samples.
        held_out: Share of the private samples that sets the quantile.
        max_known: Most private samples that are learned from.
        of: ``inputs``, flattened (once per run), or ``features``, what goes into the last layer of
            the client's own model (in every round, because the model moves on).
    """

    quantile: float = 0.25
    num_auxiliary: int = 250
    width: float | None = None
    held_out: float = 0.25
    max_known: int = 500
    of: str = "inputs"
    gives: ClassVar[str] = "mask"

    def __post_init__(self) -> None:
        require_number("KuLSIFSelector", "quantile", self.quantile, at_least=0, at_most=1)
        require_count("KuLSIFSelector", "num_auxiliary", self.num_auxiliary)
        if self.width is not None:
            require_number("KuLSIFSelector", "width", self.width, above=0)
        require_number("KuLSIFSelector", "held_out", self.held_out, above=0, at_most=0.9)
        require_count("KuLSIFSelector", "max_known", self.max_known)
        require_one_of("KuLSIFSelector", "of", self.of, SPACES)

    def __call__(
        self,
        private: Float[Tensor, "n d"],
        labels: Int[Tensor, " n"],  # noqa: ARG002
        public: Float[Tensor, "P d"],
        generator: torch.Generator,
    ) -> Bool[Tensor, " P"]:
        """Return the mask of the samples that the client answers for."""
        learned, held = hold_out(len(private), self.held_out, generator)
        known = private[learned[torch.randperm(len(learned), generator=generator)]]
        known = known[: self.max_known]
        everything = torch.cat([private, public])
        auxiliary = uniform_samples(everything, self.num_auxiliary, generator)
        width = NARROW * median_width(known) if self.width is None else self.width
        query = torch.cat([public, private[held]])
        ratios = kulsif_ratio(known, auxiliary, query, width, self.num_auxiliary**-0.5)
        return quantile_mask(ratios[: len(public)], ratios[len(public) :], self.quantile)
