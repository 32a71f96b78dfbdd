"""Harm: in how many federations does a client deploy something worse than local training?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.claims.shared import Row, federation, read
from experiments.results import SHORT, TESTS, Run
from fedfuse.compare import HARMED, Interval, clopper_pearson, outcomes, signed
from fedfuse.errors import ConfigError

Array = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Harm:
    """One way to deploy, on one test.

    Args:
        federations: Runs that were counted.
        harmed: Those of them with at least one client below its local twin by more than its
            test's error (:func:`fedfuse.compare.outcomes`).
        clients: Clients that were.
        gain: Mean gain over the local twins: over runs, of the mean over clients.
    """

    federations: int
    harmed: int
    clients: int
    gain: float

    @property
    def share(self) -> Interval:
        """The share of federations with a harmed client: Clopper and Pearson's interval."""
        return clopper_pearson(self.harmed, self.federations)


def harm(*folders: Path) -> Iterator[Row]:
    """Yield what was deployed with the guard, and what would have been without, of the same runs.

    What a client would have deployed without is the fused model of the same run: the guard
    changes nothing of what is trained. Local training is the client's twin, which is to the bit
    its client of the local arm (with ``trainer=loop``). Of several federations the last rows are
    those of all together.
    """
    yield (
        *("federation", "method", "test set", "deployed", "federations with a harmed client"),
        *("share [95%, exact]", "clients", "gain over local", "of the unguarded gain"),
    )
    everything: dict[str, list[Run]] = {}
    groups = read(*folders)
    for run_group in groups:
        for name, runs in run_group.methods.items():
            everything.setdefault(name, []).extend(runs)
            yield from _rows(federation(run_group), name, runs)
    if len(groups) > 1:
        for name, together in everything.items():
            yield from _rows("all", name, together)


def _rows(where: str, name: str, runs: Sequence[Run]) -> Iterator[Row]:
    for test in TESTS:
        guarded, unguarded = (count(runs, test, suffix) for suffix in ("", "_unguarded"))
        if guarded is None or unguarded is None:
            continue
        gained = unguarded.gain > 0
        kept = f"{100 * guarded.gain / unguarded.gain:.0f}%" if gained else "-"
        for kind, found, of_gain in (("unguarded", unguarded, "-"), ("guarded", guarded, kept)):
            low, high = 100 * found.share.low, 100 * found.share.high
            yield (
                *(where, name, SHORT[test], kind, f"{found.harmed} of {found.federations}"),
                f"{100 * found.harmed / found.federations:.1f}% [{low:.1f}, {high:.1f}]",
                *(str(found.clients), signed(found.gain), of_gain),
            )


def count(runs: Sequence[Run], test: str, suffix: str) -> Harm | None:
    """Return in how many runs a client is harmed; None for runs without a guard.

    Args:
        runs: Of one method.
        test: ``accuracy_own`` or ``accuracy_global``.
        suffix: Behind the metric that is looked at: ``_unguarded``, or nothing.
    """
    harmed, clients, gains = 0, 0, []
    for run in runs:
        local, deployed = run.arm.last(f"{test}_local"), run.arm.last(f"{test}{suffix}")
        if local is None or deployed is None:
            continue
        sizes = run.test_sizes(test)
        if sizes is None:
            raise ConfigError(
                f"the run '{run.path.name}' does not say how many samples its clients test on",
                next_step="Run experiment=harm again.",
            )
        found = int((outcomes(deployed, local, sizes) == HARMED).sum())
        harmed, clients = harmed + (found > 0), clients + found
        gains.append(float(np.nanmean(deployed - local)))
    return Harm(len(gains), harmed, clients, float(np.mean(gains))) if gains else None
