"""What a requester knows of earlier exchanges, as checkpoints save it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedfuse.shapes import Float, Int


class Remembering:
    """Keep ``memory``, tensors by name, which a subclass has as a field.

    >>> from dataclasses import dataclass, field
    >>> @dataclass(frozen=True)
    ... class Mine(Remembering):
    ...     memory: dict[str, Tensor] = field(default_factory=dict)
    >>> mine, other = Mine({"seen": torch.ones(2)}), Mine()
    >>> other.restore(mine.state())
    >>> other.memory["seen"].tolist()
    [1.0, 1.0]
    """

    __slots__ = ()
    memory: dict[str, Tensor]

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is remembered, by name."""
        return {name: value.clone() for name, value in self.memory.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.memory.clear()
        self.memory.update({name: value.clone() for name, value in state.items()})

    def remember(
        self, name: str, index: Int[Tensor, " m"], values: Float[Tensor, " m *C"]
    ) -> Tensor:
        """Keep numbers of some public samples beside those of others, NaN where there are none.

        Returns:
            What is known of all samples up to the highest number so far.
        """
        known = self.memory.get(name)
        size = max(0 if known is None else len(known), int(index.max()) + 1 if len(index) else 0)
        whole = torch.full((size, *values.shape[1:]), torch.nan, dtype=values.dtype)
        if known is not None:
            whole[: len(known)] = known
        whole[index] = values
        self.memory[name] = whole
        return whole

    def known(self, name: str, index: Int[Tensor, " m"]) -> Float[Tensor, " m *C"] | None:
        """Return what is kept of some samples, NaN where nothing is; None before anything is."""
        whole = self.memory.get(name)
        if whole is None or not len(whole):
            return None
        beyond = index >= len(whole)
        found = whole[index.clamp_max(len(whole) - 1)].clone()
        found[beyond] = torch.nan
        return found
