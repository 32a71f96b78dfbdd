"""Every comparison that a line-up allows, with every control: what tables and verdicts tell of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.results.arms import SHORT, TESTS
from experiments.results.comparisons import Moment, comparisons, decisions, share_undone
from experiments.results.entrants import controls, entrants
from experiments.results.run_group import RunGroup
from fedfuse.compare import CONTROLS, LOCAL, Comparison, Decision, verdict


@dataclass(frozen=True)
class Compared:
    """A comparison and what it is of.

    Args:
        federation: The line-up's label; empty if there is only one.
        method: The method's name.
        test: A key of TESTS.
        found: The statistics.
        undone: The share of distillations that a guard undid; None without one.
        over: What it is compared with, a key of CONTROLS.
        alone: Whether the method is a way of training alone itself.
        decision: With the plain control, of a method that has both: fuse or train alone?
    """

    federation: str
    method: str
    test: str
    found: Comparison
    undone: float | None = None
    over: str = LOCAL
    alone: bool = False
    decision: Decision | None = None

    @property
    def name(self) -> str:
        """Return what a reader calls it among the comparisons of a page."""
        where = f"{self.method} in {self.federation}" if self.federation else self.method
        over = "" if self.over == LOCAL else f" over {self.over}"
        return f"{where}, {SHORT[self.test]}{over}"

    def sentence(self) -> str:
        """Return it in words: with both controls the answer to "fuse or train alone?"."""
        if self.decision is not None:
            return self.decision.sentence()
        return verdict(self.found, self.method, CONTROLS[self.over])


def compared(run_group: RunGroup, moment: Moment = Moment.LAST) -> list[Compared]:
    """Return every comparison of a line-up, method by method, with every control that it has.

    These are the comparisons that a page tells of together.
    """
    everybody, told = entrants(run_group), {}
    for test in TESTS:
        found = {over: comparisons(run_group, test, moment, over) for over in controls(run_group)}
        answers = decisions(run_group, test, found, moment)
        for over, methods in found.items():
            for method, one in methods.items():
                told[method, test, over] = Compared(
                    *(run_group.label, method, test, one),
                    share_undone(run_group.methods.get(method, ())),
                    over,
                    any(side.alone for side in everybody[method].values()),
                    answers.get(method) if over == LOCAL else None,
                )
    order = itertools.product(everybody, TESTS, CONTROLS)
    return [told[place] for place in order if place in told]


def to_tell(done: Sequence[Compared]) -> list[Compared]:
    """Return the comparisons that words are made of: of methods that fuse, if there are any."""
    answered = {(item.federation, item.method, item.test) for item in done if item.decision}
    rest = [
        item
        for item in done
        if item.decision or (item.federation, item.method, item.test) not in answered
    ]
    return [item for item in rest if not item.alone] or rest


def against(done: Sequence[Compared]) -> str:
    """Return what comparisons are with, in words."""
    kinds = {item.over for item in done}
    return CONTROLS[kinds.pop()] if len(kinds) == 1 else "training alone"


def with_prior(done: Sequence[Compared]) -> bool:
    """Tell whether any way of training alone but the plain one is there."""
    return any(item.alone or item.over != LOCAL for item in done)
