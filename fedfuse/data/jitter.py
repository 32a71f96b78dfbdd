"""Noisy copies of a few samples as the public set.

Knowledge Migration Framework for Smart Contract Vulnerability Detection (AF-STip, arXiv 2412.11175)
distils without data: what teachers are asked about are distorted copies of a few samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedfuse.data.draw import apportion, draw_by_class
from fedfuse.data.public import as_raw, moments
from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError, require
from fedfuse.types import IntArray, PublicSet
from fedfuse.validation import require_count, require_flag, require_number, require_one_of


@dataclass(frozen=True, slots=True)
class Jitter:
    """Hold a few samples out of the training pool and distort copies of them.

    Every seed has as many copies as another, or one more; none is in the set as it was.

    Args:
        size: P, the number of copies.
        seeds: Samples that they are copies of.
        noise: Deviation of the Gaussian noise on a copy, where the training data's is 1 (per
            channel; features: each one's).
        draw: How the seeds are drawn: ``balanced`` takes equally many of each class, as far as each
            goes, ``natural`` does not look at labels.
        labelled: Whether a copy's label, its seed's, is known to anybody.
    """

    size: int = 500
    seeds: int = 20
    noise: float = 0.5
    draw: Literal["balanced", "natural"] = "balanced"
    labelled: bool = True

    def __post_init__(self) -> None:
        require_count("Jitter", "size", self.size)
        require_count("Jitter", "seeds", self.seeds)
        allowed = f"an integer from 1 to size, {self.size}"
        require(self.seeds <= self.size, "Jitter", "seeds", self.seeds, allowed)
        require_number("Jitter", "noise", self.noise, above=0)
        require_one_of("Jitter", "draw", self.draw, ("balanced", "natural"))
        require_flag("Jitter", "labelled", self.labelled)

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Draw the seeds and distort their copies."""
        if self.seeds >= len(available):
            raise DataError(
                f"The seeds of the public set do not fit into {raw.name}",
                got=f"public.seeds={self.seeds}",
                allowed=f"less than the {len(available)} training samples that are not test data",
                next_step="Lower public.seeds.",
            )
        if self.draw == "natural":
            taken = np.sort(rng.choice(available, size=self.seeds, replace=False))
        else:
            known, classes = raw.train.labels, raw.num_classes
            supply = np.bincount(known[available], minlength=classes)
            counts = apportion(np.ones(classes), self.seeds, supply, rng)
            taken = draw_by_class(known, available, counts, rng)
        copied = taken[np.arange(self.size) % self.seeds]
        _, deviation = moments(raw, available)
        values = raw.train.inputs[copied].astype(np.float64)
        values += self.noise * deviation * rng.standard_normal(values.shape)
        labels = np.array(raw.train.labels[copied]) if self.labelled else None
        source = f"{self.size} noisy copies of {self.seeds} samples held out of {raw.name}"
        source += "" if self.labelled else ", unlabelled"
        return PublicSet(as_raw(values, raw), labels, source), taken
