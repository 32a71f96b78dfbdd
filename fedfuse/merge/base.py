"""What models began from: the base that task vectors are differences to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.shapes import Float
from fedfuse.validation import require_one_of

BASES = ("last", "first", "sent")
"""``last``: what the architecture was sent last, before the first exchange its initial weights;
``first``: always those; ``sent``: what it was sent last, and there is none before the first."""


@dataclass(slots=True)
class Base:
    """The base of each architecture; remembers what was sent.

    Args:
        which: One of :data:`BASES`.
        initial: Architecture to its initial weights, parameters alone, float32 [N].
    """

    which: str
    initial: Mapping[str, Float[Tensor, " N"]]
    _sent: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_one_of("Base", "which", self.which, BASES)

    def of(self, architecture: str) -> Float[Tensor, " N"] | None:
        """Return the base of an architecture; None if there is none yet."""
        if self.which == "sent":
            return self._sent.get(architecture)
        return self._sent.get(architecture, self.initial[architecture])

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
                raise FedfuseError("The checkpoint holds models that this run has not", got=name)
        self._sent = {name: vector.to(torch.float32) for name, vector in state.items()}
