"""Which clients that rest in a round are tested in it, and whom its means are about."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Resting:
    """What becomes of clients that did not take part in a round that is tested.

    Means over clients are compared from round to round and between the arms, so they are always
    about the same clients as far as can be: what is measured of others, or in a round whose resting
    clients were not tested, is kept apart (:attr:`fedfuse.types.Phase.ASIDE`).

    Args:
        tested: ``all`` tests them as they are; ``sample`` those of a sample, which then is judged
            alone, whether it took part or not; ``none`` nobody: those who took part are judged.
        every: Of the rounds that are tested, in every n-th they are tested too, and in the last.
        sample: The sample's ids.
    """

    tested: str = "all"
    every: int = 1
    sample: frozenset[int] = frozenset()

    def among(self, resting: Iterable[int], *, due: bool) -> list[int]:
        """Return which of the clients that rest are tested, ascending."""
        if not due or self.tested == "none":
            return []
        return sorted(i for i in resting if self.tested == "all" or i in self.sample)

    def judged(self, *, due: bool, rested: bool) -> Collection[int] | None:
        """Return whom the round's means are about; None for everybody who was tested.

        Args:
            due: Whether clients that rest are tested in the round.
            rested: Whether anybody did rest.
        """
        if self.tested == "none" or (self.tested == "all" and (due or not rested)):
            return None
        return self.sample if due else ()
