"""What a guard did in a run: how much it undid, and whom that spared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

At = Callable[[str, int | None], Mapping[int, float]]
"""The clients' values of a metric at a round."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """What ``client.guard=validation`` did.

    Args:
        distillations: How many there were, over the evaluated rounds.
        undone: How many of them clients went back from.
        harmed: Clients below their baseline on their own distribution at the last round; None
            without a baseline.
        harmed_unguarded: The same had every client kept what it learned in that round (from the
            same guarded past: a run without a guard is another run).
    """

    distillations: int
    undone: int
    harmed: int | None
    harmed_unguarded: int | None

    def line(self) -> str:
        """Return the closing table's line."""
        text = f"guard: {self.undone} of {self.distillations} distillations undone"
        if self.harmed is None:
            return text
        return (
            f"{text}; below local on their own\n"
            f"distribution {self.harmed} clients, {self.harmed_unguarded} had all kept the last"
        )


def guarded(at: At, rounds: Iterable[int], before: Mapping[int, float] | None) -> Guarded | None:
    """Return what the guard did; None where there was none.

    Args:
        at: Metrics of the method's arm.
        rounds: Its rounds.
        before: The baseline's accuracies on the clients' own distributions at its last round.
    """
    rounds = sorted(rounds)
    kept = [value for round_ in rounds for value in at("kept", round_).values()]
    if not kept:
        return None
    last = rounds[-1]
    own, learned = at("accuracy_own", last), at("accuracy_own_unguarded", last)
    undone = sum(value == 0 for value in kept)
    if not before:
        return Guarded(len(kept), undone, None, None)
    harmed = sum(own[i] < before[i] for i in own if i in before)
    without = sum(learned.get(i, own[i]) < before[i] for i in own if i in before)
    return Guarded(len(kept), undone, harmed, without)
