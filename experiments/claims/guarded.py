"""The guard, with and without: whom it spares, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.claims.shared import Row, against, both, difference, federation, gain, read
from experiments.results import SHORT, TESTS, Run, RunGroup, flatten, share_undone
from fedfuse.compare import compare

GUARD = "guard._target_"


def guard(*folders: Path) -> Iterator[Row]:
    """Yield each method with and without ``guard=validation``, on the same seeds."""
    yield (
        *("federation", "method", "test set", "guard", "undid"),
        *("local, gain [95%], +/−", "below local", "over no guard"),
    )
    for run_group in read(*folders):
        for name, sides in pairs(run_group).items():
            for test in TESTS:
                for kind, runs in sides.items():
                    found = both(runs, test)
                    if found is None:
                        continue
                    ours, theirs, sizes, seeds = found
                    undone = share_undone(runs)
                    over = None if kind == "none" else against(runs, sides["none"], test)
                    yield (
                        *(federation(run_group), name, SHORT[test], kind),
                        "-" if undone is None else f"{100 * undone:.0f}%",
                        gain(compare(ours, theirs, seeds=seeds, test_sizes=sizes)),
                        f"{int((ours < theirs).sum())} of {int(np.isfinite(ours).sum())}",
                        difference(over),
                    )


def pairs(run_group: RunGroup) -> dict[str, dict[str, Sequence[Run]]]:
    """Return, per method, its runs without and with the guard; only methods that have both."""
    sides: dict[str, dict[str, list[Run]]] = {}
    for name, runs in run_group.methods.items():
        for run in runs:
            # What tells a method's settings apart, the guard aside.
            kind = _kind(run.config)
            plain = _without(name, run.config)
            sides.setdefault(plain, {}).setdefault(kind, []).append(run)
    return {
        name: {kind: found[kind] for kind in ("none", "validation")}
        for name, found in sides.items()
        if len(found) == 2
    }


def _kind(config: Mapping[str, object]) -> str:
    """Return the name of a run's guard, as in ``guard=validation``."""
    target = flatten(config).get(GUARD)
    return "none" if target is None else str(target).rsplit(".", 1)[-1].lower()


def _without(name: str, config: Mapping[str, object]) -> str:
    """Return a method's name without what it says of its guard."""
    own = f"guard {_kind(config)}"
    for written in (f" ({own})", f"{own}, ", f", {own}"):
        name = name.replace(written, "")
    return name
