"""What a loss that is made of other losses declares: what those do, and none that clients learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedfuse.declarations import declared
from fedfuse.distill.targets import batchable
from fedfuse.errors import require
from fedfuse.prior import FLOOR
from fedfuse.train.facts import wants
from fedfuse.train.own_loss import learns_by_client
from fedfuse.types import Space


def require_shared(owner: str, parameter: str, loss: object) -> None:
    """Raise if clients learn a loss for themselves: as a part of another, nobody asks it to."""
    alone = learns_by_client(loss) or declared(loss, "needs_validation", False)
    allowed = "a loss that clients do not learn for themselves, as TGeo with rule=ratio"
    require(not alone, owner, parameter, loss, allowed)


class Composite:
    """What losses made of others have in common; a frozen dataclass inherits it."""

    __slots__ = ()

    @property
    def _losses(self) -> Sequence[Any]:
        """The losses that it is made of, one at least."""
        raise NotImplementedError

    @property
    def space(self) -> Space:
        """The space of its losses."""
        return Space(declared(self._losses[0], "space", Space.PROBABILITIES))

    @property
    def temperature(self) -> float:
        """The temperature of its losses."""
        return float(declared(self._losses[0], "temperature", 1.0))

    @property
    def wants(self) -> frozenset[str]:
        """What any of its losses wants to know."""
        return frozenset().union(*map(wants, self._losses))

    @property
    def floor(self) -> float:
        """Samples that an absent class counts for in the prior that its losses want."""
        asking = (loss for loss in self._losses if "prior" in wants(loss))
        return float(next((declared(loss, "floor", FLOOR) for loss in asking), FLOOR))

    @property
    def relational(self) -> bool:
        """Whether any of its losses relates samples."""
        return any(declared(loss, "relational", False) for loss in self._losses)

    @property
    def batchable(self) -> bool:
        """Whether all of its losses may be computed for many clients at once."""
        return all(map(batchable, self._losses))

    @property
    def least_where_agreeing(self) -> bool:
        """Whether each of its losses is least where student and teacher agree."""
        return all(declared(loss, "least_where_agreeing", True) for loss in self._losses)

    @property
    def min_classes(self) -> int:
        """The least number of classes that all of its losses make sense for."""
        return max(declared(loss, "min_classes", 2) for loss in self._losses)
