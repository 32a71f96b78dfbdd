"""What models began from: the base that task vectors are differences to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.shapes import Float
from fedfuse.validation import require_one_of

BASES = ("last", "first", "last_or_mean")
"""``last``: what the architecture was sent last, before the first exchange its initial weights;
``first``: always those; ``last_or_mean``: as ``last``, but models that did not begin alike have no
base before the first exchange, which then averages."""


@dataclass(slots=True)
class Base:
    """The base of each architecture; remembers what was sent.

    Args:
        which: One of :data:`BASES`.
        initial: Architecture to its initial weights, parameters alone, float32 [N].
        alike: Whether its models all began with them.
    """

    which: str
    initial: Mapping[str, Float[Tensor, " N"]]
    alike: bool = True
    _sent: dict[str, Tensor] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        require_one_of("Base", "which", self.which, BASES)

    def of(self, architecture: str) -> Float[Tensor, " N"] | None:
        """Return the base of an architecture; None if there is none yet."""
        initial = self.initial[architecture] if self.alike else None
        return self._sent.get(architecture, initial)

    def note(self, architecture: str, rows: Float[Tensor, "_ N"]) -> None:
        """Remember what is sent to the clients of an architecture: of several rows their mean."""
        if self.which != "first":
            self._sent[architecture] = rows.double().mean(dim=0).float()

    def state(self) -> dict[str, Tensor]:
        """Return what was sent last, by architecture."""
        return {name: vector.clone() for name, vector in self._sent.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            FedfuseError: If it is of other models.
        """
        for name, vector in state.items():
            known = self.initial.get(name)
            if known is None or known.shape != vector.shape:
                raise FedfuseError(
                    "The checkpoint holds models that this run has not",
                    got=name,
                    next_step="Resume with the version that wrote it, or start the run anew.",
                )
        self._sent = {name: vector.to(torch.float32) for name, vector in state.items()}
