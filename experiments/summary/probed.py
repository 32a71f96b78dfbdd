"""What models answered to the probes: the method's beside the baseline's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments.summary.arm_rows import ArmRows
from fedfuse.probes.by_class import OF_CLASS
from fedfuse.probes.protocol import is_share
from fedfuse.types import Phase


@dataclass(frozen=True, slots=True)
class Probed:
    """The probes' answers at the last round in which they were asked.

    Args:
        round: The round.
        method: Metric to its mean over the clients.
        baseline: The same of the baseline; empty without one.
        change: Metric to the mean over the clients of the method's value less the same client's in
            the baseline; empty likewise.
        seconds: What asking has cost in the method's arm.
    """

    round: int
    method: dict[str, float]
    baseline: dict[str, float]
    change: dict[str, float]
    seconds: float

    def lines(self) -> list[str]:
        """Return each metric in a line; of single classes none."""
        told = [
            f"probes in round {self.round}, {self.seconds:.1f} s"
            f"{': local -> method' if self.change else ''}"
        ]
        for name, value in self.method.items():
            if name.startswith((OF_CLASS, "distance_")):
                continue
            scale, told_as, more = (100, ".1f", "%") if is_share(name) else (1, ".3g", "")
            shown, before = f"{scale * value:{told_as}}{more}", self.baseline.get(name)
            if before is not None and name in self.change:
                gained = f"{scale * self.change[name]:+{told_as}}"
                shown = f"{scale * before:{told_as}}{more} -> {shown} ({gained})"
            told.append(f"  {name.removeprefix('accuracy_')}: {shown}")
        return told


def probed(arm: ArmRows, twin: ArmRows | None, seconds: Mapping[str, float]) -> Probed | None:
    """Return what the probes found; None where nobody asked.

    Args:
        arm: The method's.
        twin: The baseline's; None without one.
        seconds: Wall time by phase, of the method's arm.
    """
    names = arm.names(Phase.PROBED)
    rounds = [r for name in names for r in arm.rounds(name, Phase.PROBED)]
    if not rounds:
        return None
    last = max(rounds)
    ours = {name: found for name in names if (found := arm.at(name, last, Phase.PROBED))}
    theirs = {name: twin.at(name, last, Phase.PROBED) if twin else {} for name in ours}
    pairs = {
        name: [found[i] - theirs[name][i] for i in found if i in theirs[name]]
        for name, found in ours.items()
    }
    return Probed(
        round=last,
        method={name: float(np.mean(list(found.values()))) for name, found in ours.items()},
        baseline={name: float(np.mean(list(v.values()))) for name, v in theirs.items() if v},
        change={name: float(np.mean(gained)) for name, gained in pairs.items() if gained},
        seconds=seconds.get("probes", 0.0),
    )
