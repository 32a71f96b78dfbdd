"""From an expected gain and its error to what to say."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

DIFFERENCE = 0.01
"""Gains within one point of accuracy either way make no difference."""

LEVEL = 0.9
"""Of a forecast's interval."""

LIKELY = 0.5
"""An outcome is called likely if it is at least as probable as all others together."""


class Advice(StrEnum):
    """What fusing is likely to do."""

    HELP = "help"
    NONE = "make no difference"
    HARM = "harm"
    UNSURE = "unsure"
    """No outcome is likely, or the probe is unlike all that was learned from."""


OUTCOMES = (Advice.HELP, Advice.NONE, Advice.HARM)


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of fusion over local training, as a normal distribution of the gain.

    Args:
        expected: The gain, as a share (0.01 is one point).
        error: Its standard deviation.
        strange: Names of the features outside of all that was learned from.
    """

    expected: float
    error: float
    strange: tuple[str, ...] = ()

    @property
    def probabilities(self) -> tuple[float, float, float]:
        """Return how probable it is that fusing helps, makes no difference, harms.

        >>> [round(p, 3) for p in Forecast(0.01, 0.01).probabilities]
        [0.5, 0.477, 0.023]
        """
        gain = NormalDist(self.expected, max(self.error, 1e-9))
        harm, not_help = gain.cdf(-DIFFERENCE), gain.cdf(DIFFERENCE)
        return 1 - not_help, not_help - harm, harm

    @property
    def interval(self) -> tuple[float, float]:
        """Return the bounds that hold the gain with probability :data:`LEVEL`."""
        reach = NormalDist().inv_cdf((1 + LEVEL) / 2) * self.error
        return self.expected - reach, self.expected + reach

    @property
    def advice(self) -> Advice:
        """Return the likely outcome, or that there is none to name."""
        if self.strange:
            return Advice.UNSURE
        best = max(zip(self.probabilities, OUTCOMES, strict=True), key=lambda pair: pair[0])
        return best[1] if best[0] >= LIKELY else Advice.UNSURE


def outcome(gain: float) -> Advice:
    """Return what a gain that came out is called.

    >>> outcome(0.02), outcome(-0.005), outcome(-0.02)
    (<Advice.HELP: 'help'>, <Advice.NONE: 'make no difference'>, <Advice.HARM: 'harm'>)
    """
    if gain > DIFFERENCE:
        return Advice.HELP
    return Advice.HARM if gain < -DIFFERENCE else Advice.NONE
