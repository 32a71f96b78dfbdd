"""What clients deploy at the end of a run with a guard that decides it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

At = Callable[[str, int | None], Mapping[int, float]]
"""The clients' values of a metric at a round."""


@dataclass(frozen=True, slots=True)
class Deployed:
    """How many clients deploy what, for each question that they are asked.

    Args:
        own_local: Clients that deploy their local twin on their own distribution.
        own_mixed: Those that deploy a mixture there.
        own_fused: Those that deploy the fused model there.
        own_undecided: Those of whom there was not enough data to know; None if nothing was tested.
        global_local: As ``own_local``, where all classes are alike.
        global_mixed: Likewise.
        global_fused: Likewise.
        global_undecided: Likewise.
        alpha: The error rate that the guard was built for; None for one that promises none.
    """

    own_local: int
    own_mixed: int
    own_fused: int
    own_undecided: int | None
    global_local: int
    global_mixed: int
    global_fused: int
    global_undecided: int | None
    alpha: float | None = None

    def line(self) -> str:
        """Return the closing table's lines."""
        rate = "" if self.alpha is None else f" (error rate {self.alpha:g} a federation)"
        lines = [f"guard{rate}: clients deploy"]
        for name, counts, undecided in (
            ("own", (self.own_local, self.own_mixed, self.own_fused), self.own_undecided),
            (
                "balanced",
                (self.global_local, self.global_mixed, self.global_fused),
                self.global_undecided,
            ),
        ):
            local, mixture, fused = counts
            text = f"  {name}: {local} local, {mixture} mixed, {fused} fused"
            if undecided is not None:
                text += f"; not enough data to know: {undecided}"
            lines.append(text)
        return "\n".join(lines)


def deployed(at: At, last: int | None, alpha: float | None = None) -> Deployed | None:
    """Return what clients deploy; None where no guard decides it.

    Args:
        at: Metrics of the method's arm.
        last: Its last evaluated round.
        alpha: The error rate that the guard was built for, if it was for one.
    """
    counts: dict[str, int | None] = {}
    for test in ("own", "global"):
        shares = list(at(f"deployed_{test}", last).values())
        if not shares:
            return None
        counts[f"{test}_local"] = sum(share == 0 for share in shares)
        counts[f"{test}_fused"] = sum(share == 1 for share in shares)
        counts[f"{test}_mixed"] = sum(0 < share < 1 for share in shares)
        decided = list(at(f"decided_{test}", last).values())
        counts[f"{test}_undecided"] = sum(value == 0 for value in decided) if decided else None
    return Deployed(**counts, alpha=alpha)  # type: ignore[arg-type]
