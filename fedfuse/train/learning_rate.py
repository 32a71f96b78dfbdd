"""Learning-rate schedules: at which share of the optimiser's rate each step of a run is taken.

A schedule is a function of how far the run is, and remembers nothing, so a run that goes on after
a break, on whatever engine, takes its steps at the same rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from fedfuse.declarations import declared, part_name
from fedfuse.errors import ParameterError
from fedfuse.train.work import Work
from fedfuse.user_code import PartError, call
from fedfuse.validation import require_number, require_one_of

PER = ("round", "step")
"""How often a rate changes."""


class LearningRate(Protocol):
    """Say which share of the optimiser's learning rate holds.

    ``per`` is ``round`` (the default of a plain function: one rate for all steps of a round) or
    ``step``; ``warmup``, if there is one, the rounds at the beginning that climb.
    """

    def __call__(self, done: float, num_rounds: int) -> float:
        """Return the share, finite and at least 0.

        Args:
            done: Rounds of the run that are over, from 0 to below ``num_rounds``; a fraction of
                one counts with ``per=step``.
            num_rounds: Rounds of the run.
        """
        ...


def climb(done: float, warmup: float) -> float:
    """Return the share of a linear warm-up: 1 of ``warmup + 1`` equal stages at first, then all.

    >>> [climb(done, 3) for done in (0, 1, 2, 3, 4)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, (done + 1) / (warmup + 1))


@dataclass(frozen=True, slots=True)
class Constant:
    """The optimiser's own rate, after a linear warm-up if there is one (arXiv 1706.02677).

    Args:
        warmup: Rounds that climb to it; 0 for none.
        per: ``round``, or ``step`` to change within a round.
    """

    warmup: float = 0.0
    per: str = "round"

    def __post_init__(self) -> None:
        _check(self, self.warmup, self.per)

    def __call__(self, done: float, num_rounds: int) -> float:  # noqa: ARG002
        """Return the share."""
        return climb(done, self.warmup)


@dataclass(frozen=True, slots=True)
class Cosine:
    """Half a cosine from the optimiser's rate down to a share of it (arXiv 1608.03983).

    Args:
        warmup: Rounds that climb before it begins; 0 for none.
        final: Share of the rate at the end of the run.
        per: ``round``, or ``step`` to change within a round.
    """

    warmup: float = 0.0
    final: float = 0.0
    per: str = "round"

    def __post_init__(self) -> None:
        _check(self, self.warmup, self.per)
        require_number("Cosine", "final", self.final, at_least=0, at_most=1)

    def __call__(self, done: float, num_rounds: int) -> float:
        """Return the share.

        >>> [round(Cosine()(done, 4), 3) for done in range(4)]
        [1.0, 0.854, 0.5, 0.146]
        """
        if done < self.warmup:
            return climb(done, self.warmup)
        along = (done - self.warmup) / (num_rounds - self.warmup)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * along)) / 2


@dataclass(frozen=True, slots=True)
class Step:
    """The optimiser's rate times a factor for each of some points of the run that is behind.

    Args:
        warmup: Rounds that climb at the beginning; 0 for none.
        at: The points, as shares of the run, in order.
        factor: The factor.
        per: ``round``, or ``step`` to change within a round.
    """

    warmup: float = 0.0
    at: Sequence[float] = (0.5, 0.75)
    factor: float = 0.1
    per: str = "round"

    def __post_init__(self) -> None:
        _check(self, self.warmup, self.per)
        require_number("Step", "factor", self.factor, above=0, at_most=1)
        points = self.at
        listed = isinstance(points, Sequence) and not isinstance(points, str) and len(points) > 0
        if not listed or list(points) != sorted(set(points)):
            raise ParameterError("Step", "at", points, "shares of the run in order, as [0.5,0.75]")
        for point in points:
            require_number("Step", "at", point, above=0, below=1)

    def __call__(self, done: float, num_rounds: int) -> float:
        """Return the share.

        >>> [round(Step()(done, 8), 3) for done in range(8)]
        [1.0, 1.0, 1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
        """
        behind = sum(done >= point * num_rounds for point in self.at)
        return climb(done, self.warmup) * self.factor**behind


def _check(schedule: object, warmup: float, per: str) -> None:
    """Raise unless what all schedules have is allowed."""
    name = type(schedule).__name__
    require_number(name, "warmup", warmup, at_least=0)
    require_one_of(name, "per", per, PER)


def is_flat(schedule: LearningRate) -> bool:
    """Tell whether the rate is the optimiser's own all the time.

    >>> is_flat(Constant()), is_flat(Constant(warmup=2)), is_flat(Cosine())
    (True, False, False)
    """
    return isinstance(schedule, Constant) and schedule.warmup == 0


def share(schedule: LearningRate, done: float, num_rounds: int, what: str | None = None) -> float:
    """Return what a schedule says, which may be anybody's function.

    Raises:
        PartError: If it is no share of a rate.
    """
    what = what or f"The lr_schedule {part_name(schedule)}"
    told = call(what, schedule, {"done": done, "num_rounds": num_rounds})
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < math.inf:
        return float(told)
    raise PartError(
        f"{what} returned no share of the learning rate with {done:g} rounds of {num_rounds} over",
        got=repr(told),
        allowed="a finite number of at least 0",
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """A schedule over the rounds of a run.

    Args:
        schedule: The schedule.
        num_rounds: Rounds of the run.
    """

    schedule: LearningRate
    num_rounds: int

    def over(self, work: Work, begin: float, end: float) -> Work:
        """Return steps that take a run from ``begin`` to ``end`` with their rates.

        Args:
            work: The steps.
            begin: Rounds that are over before the first of them.
            end: Rounds that are over after the last.
        """
        count, within = work.schedule.num_steps, declared(self.schedule, "per", "round") == "step"
        places = [begin + (end - begin) * step / count for step in range(count)]
        if not within:
            places = [float(math.floor(place)) for place in places]
        known = {place: share(self.schedule, place, self.num_rounds) for place in set(places)}
        return replace(work, rates=tuple(known[place] for place in places))
