"""How long a run will still take, from the rounds that it has computed itself."""

from __future__ import annotations

from collections.abc import Sequence


class Remaining:
    """The time left of a run.

    Rounds that somebody else has computed (a baseline that the runs of a sweep share, a run gone
    on with) are reported at once and say nothing about the others, so only rounds that have begun
    here are timed. An arm's first round is left out where there are others: it starts things up,
    and fuses nothing.

    Args:
        arms: The federations that run one after the other.
        num_rounds: Rounds of each.
    """

    def __init__(self, arms: Sequence[str], num_rounds: int) -> None:
        self._left = dict.fromkeys(arms, num_rounds)
        self._seconds: dict[str, list[float]] = {arm: [] for arm in arms}
        self._begun: tuple[str, int, float] | None = None

    def begin(self, arm: str, round_: int, now: float) -> None:
        """Note that a round has begun, if it is not under way already."""
        if self._begun is None or self._begun[:2] != (arm, round_):
            self._begun = (arm, round_, now)

    def done(self, arm: str, round_: int, now: float) -> None:
        """Note that a round is done, here or elsewhere."""
        self._left[arm] -= 1
        if self._begun is not None and self._begun[:2] == (arm, round_):
            self._seconds[arm].append(now - self._begun[2])
        self._begun = None

    def left(self, now: float) -> float | None:
        """Return the seconds left; None as long as nothing is known.

        An arm that has not begun is expected to be like those that have.
        """
        usual = {
            arm: sum(spent[1:] or spent) / len(spent[1:] or spent)
            for arm, spent in self._seconds.items()
            if spent
        }
        if not usual:
            return None
        other = max(usual.values())
        total = sum(count * usual.get(arm, other) for arm, count in self._left.items())
        if self._begun is not None:
            arm, _, begun = self._begun
            total -= min(now - begun, usual.get(arm, other))
        return max(0.0, total)
