"""The guard with an error rate: fused answers are deployed where they are shown to be no harm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.compare.betting import mean_wealth
from fedfuse.guard.mixture import shares
from fedfuse.guard.protocol import Choice, Paired
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Sequential:
    """Deploy fused, local or mixed answers, whichever the evidence supports.

    Args:
        alpha: Share of federations that may hold a client which deploys something worse than its
            local twin. Each of K clients decides with alpha / K.
    """

    alpha: float = 0.05

    def __post_init__(self) -> None:
        require_number("Sequential", "alpha", self.alpha, above=0, below=1)

    def __call__(self, own: Paired, balanced: Paired, num_clients: int) -> tuple[Choice, Choice]:
        """Return what answers the own distribution, and what the balanced one."""
        return self._choose(own, num_clients), self._choose(balanced, num_clients)

    def _choose(self, pairs: Paired, num_clients: int) -> Choice:
        needed = num_clients / self.alpha
        better = gains(pairs)
        if evidence(better) >= needed:
            return Choice(1.0, decided=True)
        if evidence(-better) >= needed:
            return Choice(0.0, decided=True)
        return Choice(shares(pairs), decided=False)


def gains(pairs: Paired) -> np.ndarray:
    """Return per sample, in float64 from -1 to 1, what the fused answer wins: right minus right.

    Times its weight, as a part of the largest.
    """
    ours, theirs = (
        (logits.argmax(dim=1) == pairs.labels).double() for logits in (pairs.fused, pairs.local)
    )
    if not len(pairs):
        return np.zeros(0)
    return np.asarray(((ours - theirs) * pairs.weight / pairs.weight.max()).numpy())


def evidence(values: np.ndarray) -> float:
    """Return the e-value against "the mean of these is at most 0"; 1 without any."""
    return float(mean_wealth(values, 0.0)[-1]) if len(values) else 1.0
