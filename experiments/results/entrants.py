"""Everything that has an accuracy on a federation: the ways of training alone, then the methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from experiments.results.arms import Arm
from experiments.results.run_group import RunGroup
from experiments.results.runs import Run
from fedfuse.compare import ADJUSTED, CONTROLS, LOCAL, POST_HOC, POST_HOC_METRIC


@dataclass(frozen=True, slots=True)
class Side:
    """One arm of a run.

    Args:
        run: The run.
        arm: Its metrics.
        alone: Whether its clients trained alone.
        answers: Which tests its clients got right at the end, as :attr:`Run.answers` of one arm.
    """

    run: Run
    arm: Arm
    alone: bool
    answers: Mapping[str, npt.NDArray[np.uint8]] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> Side:
        """Return the arm of a run's own method."""
        return cls(run, run.arm, run.method in CONTROLS, run.answers["method"])

    def control(self, name: str) -> Side | None:
        """Return a way of training alone that this side's run has; None without it."""
        arm = self.run.controls.get(name)
        if arm is None:
            return None
        kept = "baseline" if name == LOCAL else name
        return Side(self.run, arm, True, self.run.answers.get(kept, {}))


def controls(run_group: RunGroup) -> tuple[str, ...]:
    """Return what the methods of a federation are compared with, plain local training first.

    This is the one place that says it: tables, verdicts and figures have a part for each of these.
    """
    there = {
        name
        for runs in run_group.methods.values()
        for run in runs
        for name in (run.method, *run.controls)
    }
    return tuple(name for name in CONTROLS if name in there)


def entrants(run_group: RunGroup) -> dict[str, dict[int, Side]]:
    """Return whoever has an accuracy on a federation, by name and seed.

    Ways of training alone come first: from runs of their own, or else from the runs of methods,
    which have them as arms. Where methods correct by several priors (a sweep over ``prior.tau``),
    the control of each says by which.
    """
    methods = {
        name: {run.seed: Side.of(run) for run in runs} for name, runs in run_group.methods.items()
    }
    sides = [side for own in methods.values() for side in own.values()]
    found = {LOCAL: methods.get(LOCAL) or _by_seed(side.control(LOCAL) for side in sides)}
    corrected = [side for side in sides if _post_hoc(side) or side.control(ADJUSTED)]
    priors = sorted({_prior(side.run) for side in corrected})
    for prior in priors:
        own = [side for side in corrected if _prior(side.run) == prior]
        suffix = f" ({prior})" if len(priors) > 1 else ""
        found[f"{POST_HOC}{suffix}"] = _by_seed(map(_post_hoc, own))
        if not any(side.run.method == ADJUSTED for side in sides):
            found[f"{ADJUSTED}{suffix}"] = _by_seed(side.control(ADJUSTED) for side in own)
    if ADJUSTED in methods:
        found[ADJUSTED] = methods[ADJUSTED]
    return {name: own for name, own in found.items() if own} | {
        name: own for name, own in methods.items() if name not in found
    }


def _by_seed(sides: Iterable[Side | None]) -> dict[int, Side]:
    """Return the first side of each seed; seeds ascend, as those of methods do."""
    found: dict[int, Side] = {}
    for side in sides:
        if side is not None:
            found.setdefault(side.run.seed, side)
    return dict(sorted(found.items()))


def _post_hoc(side: Side) -> Side | None:
    """Return plain local training corrected at test time; at home that is local training itself."""
    plain = side.control(LOCAL)
    values = None if plain is None else plain.arm.at(POST_HOC_METRIC)
    if plain is None or values is None:
        return None
    clients = {"accuracy_global@fused": values}
    if (validation := plain.arm.at("accuracy_val")) is not None:  # it chooses the same round
        clients["accuracy_val@fused"] = validation
    return Side(side.run, Arm(plain.arm.rounds, clients, {}), alone=True)


def _prior(run: Run) -> str:
    """Return how a run corrects for its clients' label priors, in a few words."""
    return ", ".join(f"{key} {value}" for key, value in (run.config.get("prior") or {}).items())
