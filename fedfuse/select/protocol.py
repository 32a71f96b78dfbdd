"""What a selection of public samples is."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Select(Protocol):
    """Choose the public samples of a round: ascending indices, int64 [m], 1 <= m <= P.

    Clients and server must see the same choice, so it depends on nothing but the arguments; the
    server draws it once and sends the indices, or both sides draw it from the same stream.
    ``labels`` are the public labels [P] or None; a selection that cannot do without them says so
    with a class attribute ``needs_labels = True``.
    """

    def __call__(
        self,
        round: int,  # noqa: A002
        num_public: int,
        labels: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """Return the indices."""
        ...
