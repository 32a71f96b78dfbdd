"""What asking for some samples saves and costs, beside as many samples drawn at random."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.shared import Row, against, federation, gain, marked
from experiments.report.figure import Figure, Numbers
from experiments.report.figures.bought import Bought, bought
from experiments.report.theme import look
from experiments.results import SHORT, TESTS, Run, RunGroup, comparisons, load, run_groups
from fedfuse.compare import Comparison, corrected

DRAWN = "RandomSubset"
"""What draws the samples of the runs that others are held against."""


class Asked(NamedTuple):
    """A method in a federation.

    Args:
        federation: The federation.
        method: The method's name.
        sent: Bytes a client and run, up and down.
        asked: How many samples clients were asked for, or wished for, in the last exchange, and the
            loss of what they were asked for; as one reads it.
        local: Per test its comparison with its own local training.
        over: Per test its comparison with random samples of the nearest cost; None for those.
        reference: Whether it chooses nothing: random samples, or all of them.
    """

    federation: str
    method: str
    sent: float
    asked: str
    local: dict[str, Comparison]
    over: dict[str, Comparison | None]
    reference: bool

    def named(self) -> list[tuple[str, Comparison | None]]:
        """Return what it is compared with and what a reader calls that."""
        where = ", ".join(part for part in (self.federation, self.method) if part != "-")
        return [(f"{where}, {SHORT[test]}", one) for test, one in self.over.items()]


def ask(*folders: Path) -> Iterator[Row]:
    """Yield what each method sends, its gain over local training, and over random samples.

    Those are drawn by ``select=random``; of several sizes it is the one whose bytes are nearest.
    """
    yield (
        *("federation", "method", "kB a client and run", "of all", "asked at last, loss"),
        *(f"{SHORT[test]}: local, gain [95%], +/−" for test in TESTS),
        *(f"{SHORT[test]}: over random" for test in TESTS),
    )
    found = _found(*folders)
    page = [one for item in found for one in item.named()]
    bold = marked(page)
    for item in found:
        most = max(other.sent for other in found if other.federation == item.federation)
        yield (
            *(item.federation, item.method, f"{item.sent / 1000:.1f}"),
            f"{item.sent / most:.0%}",
            item.asked,
            *(gain(item.local.get(test)) for test in TESTS),
            *map(bold, item.over.values()),
        )
    yield (f"Bold: certain. {corrected(page)}",)


def ask_figure(*folders: Path) -> Figure:
    """Return gains against bytes: a panel per federation and test."""
    found = _found(*folders)
    names = dict.fromkeys(item.method for item in found if not item.reference)
    colours = {name: look(i)[0] for i, name in enumerate(names)}
    panels, rows = [], []
    for place in dict.fromkeys(item.federation for item in found):
        for test, words in TESTS.items():
            own = [item for item in found if item.federation == place and test in item.local]
            there = [item for item in own if item.local[test].speaks]
            points = [
                Bought(
                    *(item.method, colours.get(item.method, "base"), item.sent),
                    *(item.local[test].mean, item.local[test].bounds),
                    item.reference,
                )
                for item in there
            ]
            if points:
                title = f"Tested on: {words}" + ("" if place == "-" else f" ({place})")
                panels.append(bought(points, title=title))
            rows += [
                (place, one.label, test, one.sent, one.gain, *(one.bounds or (None, None)))
                for one in points
            ]
    return Figure(
        "ask",
        "What bytes buy",
        "To the right what a client sends and gets in the whole run, upwards what its method wins "
        "over local training, with 95% intervals over the seeds. The line runs through methods "
        "that choose no samples: as many drawn at random, and all of them. What lies above it "
        "chooses well. Methods that send the same stand beside each other.",
        tuple(panels),
        Numbers(("federation", "method", "test", "bytes", "gain", "low", "high"), tuple(rows)),
    )


def _found(*folders: Path) -> list[Asked]:
    """Return every method, those of a federation by the bytes that they send."""
    runs = [_of_all_samples(run) for run in load(*folders).runs]
    return [item for run_group in run_groups(runs) for item in _asked(run_group)]


def _of_all_samples(run: Run) -> Run:
    """Return the run as one of the federation in which every round is about all samples.

    How many samples a round has is what is compared here; passes over them make up for it, so that
    all take as many steps.
    """
    method: dict[str, Any] = {**run.config.get("method", {}), "select": run.config.get("select")}
    client = {k: v for k, v in run.config.get("client", {}).items() if k != "distill_epochs"}
    return replace(run, config={**run.config, "method": method, "select": None, "client": client})


def _asked(run_group: RunGroup) -> Iterator[Asked]:
    compared = {test: comparisons(run_group, test) for test in TESTS}
    talking = {name: runs for name, runs in run_group.methods.items() if _sent(runs) > 0}
    drawn = [runs for runs in talking.values() if _draws(runs[0])]
    for name, runs in sorted(talking.items(), key=lambda item: _sent(item[1])):
        free = _draws(runs[0]) or not _asks(runs[0])
        nearest = min(drawn, key=lambda other: abs(_sent(other) - _sent(runs)), default=())
        yield Asked(
            *(federation(run_group), name, _sent(runs), _last_asked(runs)),
            {test: found[name] for test, found in compared.items() if name in found},
            {test: None if free else against(runs, nearest, test) for test in TESTS},
            free,
        )


def _draws(run: Run) -> bool:
    """Tell whether a run's samples are a random part of the public set."""
    select = (run.config["method"].get("select") or {}).get("_target_", "")
    return str(select).endswith(DRAWN)


def _asks(run: Run) -> bool:
    """Tell whether anybody says which samples are wanted."""
    slots = ("request", "answer", "wish")
    return any((run.config.get(slot) or {}).get("_target_") for slot in slots)


def _sent(runs: Sequence[Run]) -> float:
    """Return bytes a client and run, up and down, the mean over the seeds."""
    return float(np.mean([run.arm.traffic.sum() / int(run.config["num_clients"]) for run in runs]))


def _last_asked(runs: Sequence[Run]) -> str:
    """Return the numbers of the last exchange, the mean over the seeds."""
    told = []
    for name, digits in (("samples_asked", 0), ("samples_wished", 0), ("asked_loss", 2)):
        rows = [run.arm.federation.get(f"{name}@fuse", np.empty(0)) for run in runs]
        last = [row[np.isfinite(row)][-1] for row in rows if np.isfinite(row).any()]
        if last:
            told.append(f"{np.mean(last):.{digits}f}")
    return ", ".join(told) or "-"
