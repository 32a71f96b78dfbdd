"""Runs that train together: each lives as it would alone, but takes turns (``pack/turns.py``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from experiments.config.plain import plain
from experiments.engines import serial
from experiments.engines.hosting import check_sites
from experiments.pack.trainer import PackTrainer
from experiments.pack.turns import PackedRun, PlaceReporter, take_turns
from experiments.runs.baselines import BaselineCache, Baselines
from experiments.runs.display import Display
from experiments.runs.failures import EXPECTED, Expected
from experiments.runs.lifecycle import Outcome, Run, abandon, last_word, perform
from fedfuse.train.joint import Joint
from fedfuse.train.trainer import Trainer
from fedfuse.types import RoundRecord
from server.reporters.protocol import Reporter


@dataclass(slots=True)
class InTraining:
    """Which run trains which baseline now."""

    by_name: dict[str, PackedRun] = field(default_factory=dict)

    def busy(self, name: str) -> bool:
        """Tell whether somebody trains it and has not ended without it."""
        return name in self.by_name and not self.by_name[name].ended


@dataclass(frozen=True, slots=True)
class WaitingCache:
    """Baselines that runs share although they begin at the same time.

    The first run that wants one trains it, and the others wait for that.

    Args:
        cache: Where baselines are.
        member: The run that asks.
        in_training: Common to all runs.
    """

    cache: Baselines
    member: PackedRun
    in_training: InTraining

    def find(self, name: str) -> tuple[RoundRecord, ...] | None:
        """Return a baseline, or None if this run is to train it."""
        while (found := self.cache.find(name)) is None and self.in_training.busy(name):
            self.member.wait(lambda: not self.in_training.busy(name))
        if found is None:
            self.in_training.by_name[name] = self.member
        return found

    def keep(self, name: str, records: Sequence[RoundRecord]) -> None:
        """Put down a finished baseline."""
        self.cache.keep(name, records)
        self.in_training.by_name.pop(name, None)


def perform_together(opened: Iterable[Run], display: Display) -> dict[int, Expected]:
    """Perform all runs of a sweep at once, and return what stopped runs, by their number.

    Args:
        opened: The runs, each opened as it is asked for.
        display: Shows them.

    Raises:
        BaseException: What a run raised that is a bug or Ctrl-C, once all have ended.
    """
    errors: dict[int, Expected] = {}
    runs: list[Run] = []
    members: list[PackedRun] = []
    in_training = InTraining()

    def task(run: Run, member: PackedRun) -> None:
        try:
            outcome = perform_in_turns(run, member, in_training, display.reporters())
        except EXPECTED as error:
            errors[run.number] = error
            display.failed(run.number, error)
        else:
            display.finished(run, outcome)

    try:
        for run in opened:
            runs.append(run)
            members.append(PackedRun(run.number, partial(task, run)))
        torch.set_num_threads(max((int(run.cfg.client.threads) for run in runs), default=1))
        for _ in take_turns(members, Joint()):
            pass
        raise_first_error(members)
    except KeyboardInterrupt as error:
        for member in members:
            for note in getattr(member.error, "__notes__", ()):
                error.add_note(note)
        raise
    finally:
        for run, member in zip(runs, members, strict=True):
            if not member.begun:
                abandon(run)
    return errors


def perform_in_turns(
    run: Run, member: PackedRun, in_training: InTraining, reporters: Sequence[Reporter]
) -> Outcome:
    """Perform one of several runs that take turns.

    Args:
        run: The run, with ``engine=serial``.
        member: Its place among the others.
        in_training: Which of them trains which baseline.
        reporters: Who watches.
    """
    assert run.baselines is not None, "a run of a sweep"
    with last_word(run):
        check_sites(run.cfg)
    family = json.dumps(plain(run.cfg.model), sort_keys=True)

    def wrap(own: Trainer) -> Trainer:
        return PackTrainer(member.number, family, own, member.ask)

    return perform(
        run,
        [PlaceReporter(member), *reporters],
        engine=partial(serial.run, wrap=wrap),
        baselines=WaitingCache(BaselineCache(run.baselines), member, in_training),
    )


def raise_first_error(members: Sequence[PackedRun]) -> None:
    """Raise what ended a run that is no message to the user."""
    for member in members:
        if member.error is not None:
            raise member.error
