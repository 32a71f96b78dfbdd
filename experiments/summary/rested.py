"""What became of clients that rested in a round: whom the figures are about, and what that cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import DictConfig

MUCH, LONG = 0.5, 10.0
"""The share of a run's time, and its seconds, from which on it is said how to spare tests."""


@dataclass(frozen=True, slots=True)
class Rested:
    """How clients that did not take part in a round were tested.

    Args:
        tested: ``evaluation.resting``.
        every: ``evaluation.resting_every``.
        judged: Clients that the last round's figures are about.
        num_clients: K.
        seconds: What the tests of those who rested took.
        share: Their share of the run's time.
    """

    tested: str
    every: int
    judged: int
    num_clients: int
    seconds: float
    share: float

    def lines(self) -> list[str]:
        """Return what the reader of a table has to know, or can spare the next time."""
        some = f"{self.judged:,} of {self.num_clients:,} clients"
        told = []
        if self.tested == "none":
            told.append(
                f"the figures are of {some}, those who took part in the last round and have\n"
                "  just learnt; who rests is not tested (evaluation.resting=none)"
            )
        elif self.tested == "sample":
            told.append(
                f"the figures are of a sample, {some}, the same in every round\n"
                "  (evaluation.resting=sample)"
            )
        if self.every > 1 and self.tested != "none":
            told.append(
                f"who rests is tested in one of {self.every} tested rounds and in the last; only\n"
                "  these have figures (evaluation.resting_every)"
            )
        if self.share >= MUCH and self.seconds >= LONG:
            told.append(
                f"tests of clients that rest took {100 * self.share:.0f}% of the time: "
                "evaluation.resting=sample (or none)\n  and evaluation.resting_every=N spare them"
            )
        return told


def rested(cfg: DictConfig | None, judged: int, seconds: Mapping[str, float]) -> Rested | None:
    """Return how those who rested were tested; None if nobody did, or nothing is to be said.

    Args:
        cfg: The run's configuration; None where it is not known.
        judged: Clients that the last round's figures are about.
        seconds: The run's wall time by phase.
    """
    if cfg is None:
        return None
    tests, spent = cfg.evaluation, seconds.get("rest", 0.0)
    usual = tests.resting == "all" and tests.resting_every == 1
    if not spent and (usual or judged == cfg.num_clients):
        return None
    share = spent / (sum(seconds.values()) or 1.0)
    return Rested(tests.resting, tests.resting_every, judged, cfg.num_clients, spent, share)
