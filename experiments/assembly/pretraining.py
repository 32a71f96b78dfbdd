"""What the pre-training of a run came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What came before the first round.

    Args:
        steps: Optimiser steps of a client before the first round, mean over the clients.
        baseline_steps: The same of the baseline, 0 if it did not pre-train; None without one.
    """

    steps: float
    baseline_steps: float | None

    def line(self) -> str:
        """Return it in words."""
        told = f"pre-trained on the labelled public set: {self.steps:.0f} steps a client"
        if self.baseline_steps is None:
            return told
        if self.baseline_steps == 0:
            return f"{told};\n  the baseline was not, so the gain is of both together"
        return f"{told}, the baseline too"


def pretrained(
    steps: Mapping[int, float], baseline_steps: Mapping[int, float] | None
) -> Pretrained | None:
    """Return what came before the first round, from the clients' steps; None if nothing did."""
    if not steps:
        return None
    return Pretrained(
        float(np.mean(list(steps.values()))),
        None if baseline_steps is None else float(np.mean(list(baseline_steps.values()) or [0.0])),
    )
