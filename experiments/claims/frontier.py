"""The frontier: what each method wins on the own distribution and on the balanced test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.claims.shared import (
    Row,
    difference,
    federation,
    gain,
    read,
)
from experiments.results import SHORT, TESTS, RunGroup, comparisons
from fedfuse.compare import ADJUSTED, Comparison, certain_together, corrected, pareto_front, signed

FRONT = (
    "Front: no other method's means, nor local training's, are as good on both tests and better "
    "on one."
)

Found = dict[str, Comparison]
"""Per test set a comparison."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A method on a federation.

    Args:
        federation: The federation.
        method: The method.
        over: Its gain over local training, on both tests.
        control: The same over local training with the prior corrected; empty without such a run.
        front: Whether nothing beats its mean gain on both tests, local training included.
    """

    federation: str
    method: str
    over: Found
    control: Found
    front: bool

    def named(self) -> list[tuple[str, Comparison]]:
        """Return every comparison and what a reader calls it."""
        where = self.method if self.federation == "-" else f"{self.method} in {self.federation}"
        sides = {"": self.over, f" over {ADJUSTED}": self.control}
        return [
            (f"{where}, {SHORT[test]}{over}", one)
            for over, found in sides.items()
            for test, one in found.items()
        ]


def standings(run_group: RunGroup) -> list[Standing]:
    """Return how every method of a federation stands that was tested both ways."""
    compared = {test: comparisons(run_group, test) for test in TESTS}
    lead = {test: comparisons(run_group, test, over=ADJUSTED) for test in TESTS}
    names = [name for name in compared["accuracy_own"] if name in compared["accuracy_global"]]
    means = [[compared[test][name].mean for test in TESTS] for name in names]
    # Local training is a way to train as well: whoever loses on both tests is on no front.
    front = pareto_front(np.array([*means, [0.0, 0.0]]))[:-1]
    return [
        Standing(
            federation(run_group),
            name,
            {test: compared[test][name] for test in TESTS},
            {test: lead[test][name] for test in TESTS if name in lead[test]},
            bool(best),
        )
        for name, best in zip(names, front, strict=True)
    ]


def frontier(*folders: Path) -> Iterator[Row]:
    """Yield every method's gains over both kinds of local training, then a row per method."""
    yield (
        *("federation", "method"),
        *(f"{SHORT[test]}: local, gain [95%], +/−" for test in TESTS),
        *(f"{SHORT[test]}: over {ADJUSTED}" for test in TESTS),
        "front",
    )
    found = [one for run_group in read(*folders) for one in standings(run_group)]
    page = [one for standing in found for one in standing.named()]
    kept = certain_together([one for _, one in page])
    certain = {id(one) for (_, one), stays in zip(page, kept, strict=True) if stays}

    def bold(text: str, one: Comparison | None) -> str:
        return f"**{text}**" if id(one) in certain else text

    for one in found:
        yield (
            *(one.federation, one.method),
            *(bold(gain(one.over[test]), one.over[test]) for test in TESTS),
            *(bold(difference(it := one.control.get(test)), it) for test in TESTS),
            "yes" if one.front else "",
        )
    yield (f"Bold: certain. {corrected(page)} {FRONT}",)
    yield (
        *("method", "federations"),
        *(f"{SHORT[test]}: worst to best gain" for test in TESTS),
        *(f"{SHORT[test]}: certainly above / below local" for test in TESTS),
        *(f"{SHORT[test]}: helped / harmed" for test in TESTS),
        *(f"{SHORT[test]}: certainly above / below {ADJUSTED}" for test in TESTS),
        "on the front",
    )
    for method in dict.fromkeys(one.method for one in found):
        own = [one for one in found if one.method == method]
        over = {test: [one.over[test] for one in own] for test in TESTS}
        control = {test: [one.control[test] for one in own if one.control] for test in TESTS}
        yield (
            *(method, str(len(own))),
            *(_range(over[test]) for test in TESTS),
            *(_sides(over[test], certain) for test in TESTS),
            *(_clients(over[test]) for test in TESTS),
            *(_sides(control[test], certain) for test in TESTS),
            f"{sum(one.front for one in own)} of {len(own)}",
        )


def _range(found: Sequence[Comparison]) -> str:
    means = [one.mean for one in found if one.speaks]
    return f"{signed(min(means))} to {signed(max(means))}" if means else "-"


def _sides(found: Sequence[Comparison], certain: set[int]) -> str:
    kept = [one.mean for one in found if id(one) in certain]
    above = sum(mean > 0 for mean in kept)
    return f"{above} / {len(kept) - above}" if found else "-"


def _clients(found: Sequence[Comparison]) -> str:
    judged = [one for one in found if one.judged]
    helped, harmed = (sum(getattr(one, side) for one in judged) for side in ("helped", "harmed"))
    return f"{helped} / {harmed} of {sum(one.compared for one in judged)}" if judged else "-"
