"""Fuse, train alone, or train alone with prior correction: the answer, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fedfuse.compare.comparison import Comparison
from fedfuse.compare.controls import ADJUSTED, CONTROLS, LOCAL
from fedfuse.compare.interval import Interval
from fedfuse.compare.points import signed
from fedfuse.compare.verdict import ONE_SEED, verdict


class Answer(StrEnum):
    """What to do."""

    FUSE = "fuse"
    CORRECT = "train alone with prior correction"
    ALONE = "train alone"
    OPEN = "not decided between fusing and training alone with prior correction"
    SILENT = "no answer"


@dataclass(frozen=True, slots=True)
class Decision:
    """A method against both ways of training alone, on one test protocol.

    Args:
        method: Its name.
        gain: The method against plain local training.
        lead: The method against prior-corrected local training.
        prior: Prior-corrected against plain local training.
    """

    method: str
    gain: Comparison
    lead: Comparison
    prior: Comparison

    @property
    def answer(self) -> Answer:
        """Return what to do.

        A way that costs more must be shown to be better: fusing than both ways of training alone,
        prior correction than plain training. "Shown" is an interval that excludes 0; one seed has
        none, and then the means decide.
        """
        if not (self.gain.speaks and self.lead.speaks and self.prior.speaks):
            return Answer.SILENT
        gain, lead, prior = map(_direction, (self.gain, self.lead, self.prior))
        if lead > 0 and max(gain, prior) > 0:
            return Answer.FUSE
        if prior > 0:
            return Answer.CORRECT
        return Answer.OPEN if gain > 0 else Answer.ALONE

    @property
    def certain(self) -> bool:
        """Return whether the answer rests on intervals; with one seed it rests on means alone."""
        return all(one.interval is not None for one in (self.gain, self.lead, self.prior))

    def sentence(self) -> str:
        """Return the answer and both verdicts, and how much of the gain is the prior's."""
        told = self.answer[:1].upper() + self.answer[1:]
        if self.answer is not Answer.SILENT and not self.certain:
            told += ", by the means alone: one seed has no interval"
        against = ((self.gain, LOCAL), (self.lead, ADJUSTED))
        words = [
            verdict(found, self.method, CONTROLS[name]).removeprefix(f"{ONE_SEED} ")
            for found, name in against
        ]
        return f"{told}. {' '.join(words)}{self._share()}"

    def _share(self) -> str:
        """Return what the prior alone brings of the gain, in words."""
        if self.answer is Answer.SILENT:
            return ""
        brought = f"{signed(self.prior.mean)} points{_bounds(self.prior.interval)}"
        text = f" Prior correction alone brings {brought}"
        if self.gain.mean > 0 and self.prior.mean > 0:
            of_it = self.prior.mean / self.gain.mean
            if of_it >= 1:
                return f"{text}, no less than the method."
            text += f" of the {signed(self.gain.mean)}"
            text += ": most of the gain" if of_it > 0.5 else ""
        return f"{text}."


def _bounds(interval: Interval | None) -> str:
    return "" if interval is None else f" [{signed(interval.low)}, {signed(interval.high)}]"


def _direction(found: Comparison) -> int:
    """Return 1 for better, -1 for worse, 0 where no difference is shown."""
    if (found.interval is not None and not found.significant) or signed(found.mean) == "0.0":
        return 0
    return 1 if found.mean > 0 else -1
