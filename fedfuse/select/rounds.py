"""Which public samples each round is about; server and clients draw the same ones by themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.augment import Augment, Guided, augmented
from fedfuse.declarations import declared, part_name
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.rng import Streams
from fedfuse.select.protocol import Select
from fedfuse.types import PublicSet
from fedfuse.user_code import kind_of


@dataclass(frozen=True, slots=True)
class PublicRounds:
    """The public samples of each round.

    Both sides draw the choice, and what becomes of the samples, from the run's streams, so that
    neither indices nor samples travel.

    Args:
        select: How they are chosen.
        public: The public set.
        streams: The run's random streams.
        augment: What they are changed by; None leaves them as they are.

    Raises:
        ConfigError: If the choice needs labels and the public set has none.
    """

    select: Select
    public: PublicSet
    streams: Streams
    augment: Augment | Guided | None = None

    def __post_init__(self) -> None:
        if declared(self.select, "needs_labels", False) and self.public.labels is None:
            raise ConfigError(
                f"The selection {part_name(self.select)} needs labels of the public samples, and "
                "this public set has none",
                got=f"public set: {self.public.source}",
                next_step="Choose select=random or public=held_out.",
            )

    def index(self, round_: int) -> Tensor:
        """Return the round's samples, ascending indices int64 [m]."""
        num_public = len(self.public)
        generator = self.streams.torch("public", "select", round_)
        index = self.select(round_, num_public, self._labels(), generator)
        ascending = isinstance(index, Tensor) and index.dtype == torch.int64
        ascending = ascending and index.ndim == 1 and len(index) > 0
        ascending = ascending and bool((index.diff() > 0).all())
        if not ascending or index[0] < 0 or index[-1] >= num_public:
            raise FedfuseError(
                f"The selection {part_name(self.select)} broke its promise in round {round_}",
                got=kind_of(index),
                allowed=f"a tensor of ascending int64 from 0 to {num_public - 1}, at least one",
            )
        return index

    def size(self, round_: int) -> int:
        """Return how many samples the round is about, m."""
        return len(self.index(round_))

    def labels(self, round_: int) -> Tensor | None:
        """Return the public labels [m] of the round's samples, or None where nobody knows them.

        Nobody does where the round's samples are changed and the labels do not hold of them.
        """
        labels, kept = self._labels(), declared(self.augment, "labels_kept", True)
        return None if labels is None or not kept else labels[self.index(round_)]

    @property
    def changes_answers(self) -> bool:
        """Whether everybody answers for changed samples, not only learns from them."""
        return self.augment is not None and not declared(self.augment, "lesson_only", False)

    def alike(self, one: int, other: int) -> bool:
        """Tell whether the answers of two rounds are about the same samples."""
        if one == other or self.changes_answers:
            return one == other
        return torch.equal(self.index(one), self.index(other))

    def augmented(self, inputs: Tensor, round_: int, sent: Tensor | None = None) -> Tensor:
        """Return what becomes of the round's samples [m, ...].

        Args:
            inputs: Those.
            round_: The round.
            sent: What the server says of them, if it chooses; None for nothing.
        """
        if self.augment is None:
            return inputs
        return augmented(self.augment, inputs, self.generator(round_), sent)

    def generator(self, round_: int) -> torch.Generator:
        """Return what the round's change is drawn from, the same one on all sides."""
        return self.streams.torch("public", "augment", round_)

    def _labels(self) -> Tensor | None:
        labels = self.public.labels
        return None if labels is None else torch.tensor(labels)
