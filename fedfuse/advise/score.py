"""How good advice was, beside always fusing, never fusing, and simpler rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.advise.forecast import OUTCOMES, Advice, Forecast, outcome
from fedfuse.advise.rivals import threshold

Array = npt.NDArray[Any]

POLICIES = ("advice", "always", "never", "majority", "validation", "fedcollab", "threshold")
"""Who decides between fusing and training alone: the majority does what had been better most often,
validation fuses where the probe's validation accuracy is above that of training alone, the last
two are :mod:`fedfuse.advise.rivals`: FedCollab fuses clients that it leaves not alone (of a
federation, most of them), the threshold those that are small and alike enough."""

DRAWS = 4000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over cases and its 95% interval over federations.

    Args:
        mean: NaN where no case counts.
        low: Lower bound.
        high: Upper bound.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """How forecasts did.

    Args:
        cases: How many there were.
        federations: Of how many federations.
        outcomes: Which share helped, made no difference, harmed, as it came out.
        answered: The share of cases in which an outcome was named.
        right: Per policy the share of named outcomes that came out; advice and all others on the
            cases in which advice named one.
        side: Per policy the share of all cases in which the better of fusing and training alone
            was chosen. Advice fuses where it expects a gain, and where the probe is unlike all
            that was learned from it does as the majority.
        regret: Per policy what was lost against the better of the two, as a share of accuracy.
        better: Per other policy its regret minus that of advice: above 0 where advice is better.
        brier: Mean squared error of the three probabilities, 0 to 2.
        brier_majority: The same of the frequencies that were learned from.
        covered: How often the interval held what came out; it should be that of ``forecast.LEVEL``.
    """

    cases: int
    federations: int
    outcomes: tuple[float, float, float]
    answered: float
    right: dict[str, Estimate]
    side: dict[str, Estimate]
    regret: dict[str, Estimate]
    better: dict[str, Estimate]
    brier: Estimate
    brier_majority: Estimate
    covered: Estimate

    @property
    def beaten(self) -> tuple[str, ...]:
        """Return the policies that regret more than advice does, for certain."""
        return tuple(name for name, found in self.better.items() if found.low > 0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Past:
    """What had come out in the cases that were learned from.

    Args:
        shares: Of :data:`OUTCOMES`, summing to 1.
        fuses: Whether fusing had been the better side in most.
        threshold: Below which size times heterogeneity it had paid best.
    """

    shares: tuple[float, float, float]
    fuses: bool
    threshold: float = 0.0

    @classmethod
    def of(cls, gains: Array, heterogeneity: Array) -> Past:
        """Return the past of these gains.

        >>> Past.of(np.array([0.03, 0.02, -0.02, 0.0]), np.array([1.0, 3.0, 5.0, 9.0]))
        Past(shares=(0.5, 0.25, 0.25), fuses=False, threshold=4.0)
        """
        came = [outcome(float(gain)) for gain in gains]
        helped, none, harmed = (came.count(kind) / len(came) for kind in OUTCOMES)
        fuses = bool((gains > 0).sum() * 2 > len(gains))
        return cls((helped, none, harmed), fuses, threshold(heterogeneity, gains))


def score(
    gains: Array,
    forecasts: Sequence[Forecast],
    past: Sequence[Past],
    others: Mapping[str, Sequence[bool]],
    groups: Sequence[Any],
) -> Score:
    """Return how forecasts did on what came out.

    Args:
        gains: What fusing gained over training alone, as a share, [N].
        forecasts: Made before, N.
        past: What each forecast was learned from, N.
        others: Of every policy that reads what a case is and not what had come out, whether it
            fuses, N.
        groups: The federation of each case; intervals are over federations, N.
    """
    gains = np.asarray(gains, dtype=np.float64)
    draw = _Draws(groups)
    came = [outcome(float(gain)) for gain in gains]
    said = [forecast.advice for forecast in forecasts]
    named = np.array([word is not Advice.UNSURE for word in said])
    frequent = [OUTCOMES[int(np.argmax(before.shares))] for before in past]
    words = {
        "advice": said,
        "always": [Advice.HELP] * len(said),
        "never": [Advice.HARM] * len(said),
        "majority": frequent,
        **{
            name: [Advice.HELP if better else Advice.HARM for better in told]
            for name, told in others.items()
        },
    }
    fuses = {
        "advice": [
            before.fuses if forecast.strange else forecast.expected > 0
            for forecast, before in zip(forecasts, past, strict=True)
        ],
        "always": [True] * len(said),
        "never": [False] * len(said),
        "majority": [before.fuses for before in past],
        **{name: list(told) for name, told in others.items()},
    }
    chosen = {name: np.where(fuses[name], gains, 0.0) for name in POLICIES}
    best = np.maximum(gains, 0.0)
    happened = np.array([[kind is one for kind in OUTCOMES] for one in came], dtype=float)
    given = np.array([forecast.probabilities for forecast in forecasts])
    usual = np.array([before.shares for before in past])
    bounds = np.array([forecast.interval for forecast in forecasts])
    inside = (bounds[:, 0] <= gains) & (gains <= bounds[:, 1])
    return Score(
        cases=len(gains),
        federations=draw.count,
        outcomes=tuple(happened.mean(axis=0).tolist()),
        answered=float(named.mean()),
        right={
            name: draw.mean(
                np.array([a is b for a, b in zip(words[name], came, strict=True)]), named
            )
            for name in POLICIES
        },
        side={
            name: draw.mean(np.asarray(fuses[name], dtype=bool) == (gains > 0)) for name in POLICIES
        },
        regret={name: draw.mean(best - chosen[name]) for name in POLICIES},
        better={name: draw.mean(chosen["advice"] - chosen[name]) for name in POLICIES[1:]},
        brier=draw.mean(((given - happened) ** 2).sum(axis=1)),
        brier_majority=draw.mean(((usual - happened) ** 2).sum(axis=1)),
        covered=draw.mean(inside),
    )


class _Draws:
    """Bootstrap means over groups drawn with replacement."""

    def __init__(self, groups: Sequence[Any]) -> None:
        kinds, self._where = np.unique([str(group) for group in groups], return_inverse=True)
        self.count = len(kinds)
        rng = np.random.default_rng(0)
        self._weights = rng.multinomial(self.count, np.full(self.count, 1 / self.count), DRAWS)

    def mean(self, values: Array, there: Array | None = None) -> Estimate:
        """Return the mean of the values, of those that are there, and its 95% interval."""
        values = np.asarray(values, dtype=np.float64)
        counts = np.ones(len(values)) if there is None else np.asarray(there, dtype=np.float64)
        if not counts.any():
            return Estimate(np.nan, np.nan, np.nan)
        sums = np.bincount(self._where, values * counts, self.count)
        sizes = np.bincount(self._where, counts, self.count)
        drawn = self._weights @ sizes
        means = (self._weights @ sums)[drawn > 0] / drawn[drawn > 0]
        low, high = np.quantile(means, [0.025, 0.975])
        return Estimate(float((values * counts).sum() / counts.sum()), float(low), float(high))
