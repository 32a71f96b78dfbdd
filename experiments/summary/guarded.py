"""What a guard did in a run: how much it undid, and whom that spared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedfuse.compare import ENOUGH, HARMED, HELPED, outcomes
from fedfuse.guard.validation import FEWEST

At = Callable[[str, int | None], Mapping[int, float]]
"""The clients' values of a metric at a round."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """What ``guard=validation`` did.

    Args:
        distillations: How many there were, over the evaluated rounds.
        undone: How many of them clients went back from.
        harmed: Clients below their baseline on their own distribution at the last round by more
            than the error of their tests; None without a baseline or where test sizes are unknown.
        harmed_unguarded: The same had every client kept what it learned in that round (from the
            same guarded past: a run without a guard is another run).
        smallest_validation: Fewest validation samples that a client decided on; None where unknown.
        largest_validation: Most of them.
    """

    distillations: int
    undone: int
    harmed: int | None
    harmed_unguarded: int | None
    smallest_validation: int | None = None
    largest_validation: int | None = None

    def line(self) -> str:
        """Return the closing table's line."""
        text = f"guard: {self.undone} of {self.distillations} distillations undone"
        if self.smallest_validation is not None and self.smallest_validation < ENOUGH:
            text += (
                f", on {self.smallest_validation} to {self.largest_validation} validation\n"
                f"samples each: below {ENOUGH} largely chance, below {FEWEST} never"
            )
        if self.harmed is None:
            return text
        return (
            f"{text}; harmed on their own\n"
            f"distribution {self.harmed} clients, {self.harmed_unguarded} had all kept the last"
        )


def guarded(
    at: At,
    rounds: Iterable[int],
    before: Mapping[int, float] | None,
    sizes: npt.NDArray[np.integer] | None = None,
    val_sizes: npt.NDArray[np.integer] | None = None,
) -> Guarded | None:
    """Return what the guard did; None where there was none.

    Args:
        at: Metrics of the method's arm.
        rounds: Its rounds.
        before: The baseline's accuracies on the clients' own distributions at its last round.
        sizes: Test samples behind each client's accuracy, [K].
        val_sizes: Validation samples of each client, [K].
    """
    rounds = sorted(rounds)
    kept = [value for round_ in rounds for value in at("kept", round_).values()]
    if not kept:
        return None
    last = rounds[-1]
    own, learned = at("accuracy_own", last), at("accuracy_own_unguarded", last)
    undone = sum(value == 0 for value in kept)
    harmed = change_of(own, before, sizes)[1]
    unguarded = change_of({i: learned.get(i, own[i]) for i in own}, before, sizes)[1]
    known = [] if val_sizes is None else [int(size) for size in val_sizes if size]
    fewest, most = min(known, default=None), max(known, default=None)
    return Guarded(len(kept), undone, harmed, unguarded, fewest, most)


def change_of(
    values: Mapping[int, float],
    before: Mapping[int, float] | None,
    sizes: npt.NDArray[np.integer] | None,
) -> tuple[int | None, int | None]:
    """Return how many clients were helped and harmed beyond the error of their tests.

    Args:
        values: Accuracies by client.
        before: The same of the baseline; clients that lack it do not count.
        sizes: Test samples of each client [K]. Unknown sizes (None, or 0 where a server does not
            see its clients' tests) decide nothing, nor do tests of fewer than ``ENOUGH`` samples:
            where all are so, both counts are None.
    """
    both = [client for client in values if client in (before or {})]
    if sizes is None or before is None or not both or not (sizes[both] > 0).all():
        return None, None
    if not (sizes[both] >= ENOUGH).any():
        return None, None
    ours, theirs = (np.array([side[client] for client in both]) for side in (values, before))
    decided = outcomes(ours, theirs, sizes[both])
    return int((decided == HELPED).sum()), int((decided == HARMED).sum())
