"""A budget of bytes: how often a federation may exchange knowledge."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError


class ByteBudget:
    """What exchanges cost so far, and whether another one may be afforded.

    What an exchange costs is known when it is over (a codec decides as it goes), so the dearest
    one so far stands for the next. Once that does not fit any more, the method learns alone for
    the rest of its rounds.

    Args:
        budget: Bytes up and down, of all clients and rounds together; None sets no limit.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self.spent = 0
        self.largest = 0

    def affords(self) -> bool:
        """Tell whether another exchange fits."""
        return self.budget is None or self.spent + self.largest <= self.budget

    def book(self, num_bytes: int) -> None:
        """Note the cost of a round.

        Raises:
            FedfuseError: If the first exchange alone costs more than there is.
        """
        if self.budget is not None and not self.spent and num_bytes > self.budget:
            raise FedfuseError(
                "budget_bytes does not pay for one exchange",
                got=f"budget_bytes={self.budget}",
                allowed=f"at least {num_bytes}, what one round costs here",
                next_step="Raise it, or send less: a smaller public.size, select=random or codec=.",
            )
        self.spent += num_bytes
        self.largest = max(self.largest, num_bytes)

    def state(self) -> dict[str, Tensor]:
        """Return what a resumed run has to know."""
        return {"spent": torch.tensor([self.spent, self.largest])}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.spent, self.largest = (int(value) for value in state["spent"])
