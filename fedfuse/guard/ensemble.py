"""The two-answer ensemble: own and fused answers mixed as validation data says, without a test."""

from __future__ import annotations

from dataclasses import dataclass

from fedfuse.errors import ParameterError
from fedfuse.guard.mixture import GRID, shares
from fedfuse.guard.protocol import Choice, Paired
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Deploy the mixture of own and fused log-probabilities with the smallest validation loss.

    Where a balanced distribution is asked about and a class is missing from what is held back, the
    loss there is unknown, and the share of the client's own distribution serves.

    Args:
        grid: Shares of the fused model that are tried, each from 0 to 1.
    """

    grid: tuple[float, ...] = GRID

    def __post_init__(self) -> None:
        if not isinstance(self.grid, tuple | list) or not len(self.grid):
            raise ParameterError("Ensemble", "grid", self.grid, "a list of shares from 0 to 1")
        for share in self.grid:
            require_number("Ensemble", "grid", share, at_least=0, at_most=1)
        object.__setattr__(self, "grid", tuple(float(share) for share in self.grid))

    def __call__(
        self,
        own: Paired,
        balanced: Paired,
        num_clients: int,  # noqa: ARG002
    ) -> tuple[Choice, Choice]:
        """Return the shares for the own distribution and for the balanced one."""
        first = Choice(shares(own, self.grid))
        complete = len(set(balanced.labels.tolist())) == balanced.local.shape[1]
        return first, Choice(shares(balanced, self.grid)) if complete else first
