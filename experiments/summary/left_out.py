"""Public samples that nobody learns from: what left them out, and whether hardly any remain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MOST = 0.9
"""Share of a round's samples; a run in which more are left out warns."""

CAUSES = {
    "left_out_by_masks": "the clients' masks",
    "left_out_by_rule": "the fusion rule",
    "left_out_by_filter": "the filter",
    "left_out": "mask, filter and cache together",
}
"""Metrics of a round, and who left that share out: of the answers that clients were asked for, of
the targets for the receiver with the fewest, and all in all."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What share of the public samples was left out.

    Args:
        largest: The largest share of a round, by :data:`CAUSES`.
        rounds: In how many rounds it was more than :data:`MOST`.
        num_rounds: Rounds that fused.
    """

    largest: dict[str, float]
    rounds: dict[str, int]
    num_rounds: int

    def lines(self) -> list[str]:
        """Return the closing table's warnings; none where enough samples remain."""
        told = [name for name, count in self.rounds.items() if count]
        # What all do together is news only where nobody does it alone.
        return [
            f"warning: {CAUSES[name]} left out {100 * self.largest[name]:.0f}% of the public\n"
            f"  samples (over {100 * MOST:.0f}% in {self.rounds[name]} of {self.num_rounds} "
            "rounds): little is learnt from others"
            for name in told
            if name != "left_out" or told == ["left_out"]
        ]


def left_out(by_round: Callable[[str], Mapping[int, float]]) -> LeftOut | None:
    """Return what was left out; None where every sample of every round counted.

    Args:
        by_round: The federation's values of a metric, by round.
    """
    shares = {name: list(by_round(name).values()) for name in CAUSES}
    if not any(any(values) for values in shares.values()):
        return None
    found = {name: values for name, values in shares.items() if values}
    return LeftOut(
        largest={name: max(values) for name, values in found.items()},
        rounds={name: sum(value > MOST for value in values) for name, values in found.items()},
        num_rounds=max(len(values) for values in found.values()),
    )
