"""Baselines that the runs of a pack share although they begin at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from experiments.pack.turns import Run
from experiments.runs.baselines import Shelf
from fedfuse.types import RoundRecord


@dataclass(slots=True)
class Claims:
    """Which run trains which baseline now."""

    by_name: dict[str, Run] = field(default_factory=dict)

    def busy(self, name: str) -> bool:
        """Tell whether somebody trains it and has not ended without it."""
        return name in self.by_name and not self.by_name[name].ended


@dataclass(frozen=True, slots=True)
class SharedShelf:
    """The first run that wants a baseline trains it, and the others wait for that.

    Args:
        shelf: Where baselines lie.
        run: The run that asks.
        claims: Common to all runs.
    """

    shelf: Shelf
    run: Run
    claims: Claims

    def find(self, name: str) -> tuple[RoundRecord, ...] | None:
        """Return a baseline, or None if this run is to train it."""
        while (found := self.shelf.find(name)) is None and self.claims.busy(name):
            self.run.wait(lambda: not self.claims.busy(name))
        if found is None:
            self.claims.by_name[name] = self.run
        return found

    def keep(self, name: str, records: Sequence[RoundRecord]) -> None:
        """Put down a finished baseline."""
        self.shelf.keep(name, records)
        self.claims.by_name.pop(name, None)
