"""Run the runs of a sweep together."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial

import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from experiments.engines import serial
from experiments.engines.hosting import check_sites
from experiments.pack.screen import Screen, Watcher
from experiments.pack.shelf import Claims, SharedShelf
from experiments.pack.trainer import PackTrainer
from experiments.pack.turns import Run, take_turns
from experiments.runs import launch
from experiments.runs.baselines import Shelf
from experiments.runs.failures import Absences
from experiments.runs.job import Job
from experiments.runs.watchers import build_watchers
from experiments.summary.summary import Summary
from fedfuse.train.joint import Joint
from fedfuse.train.trainer import Trainer
from fedfuse.types import RoundRecord
from server.reporters.files import Files
from server.reporters.folder import RunFolder
from server.reporters.many import Many
from server.reporters.protocol import Reporter, RunInfo

Watched = Callable[[Job, Callable[[Job], None]], int]
"""Do a job and return its exit code, telling of what stops it."""


def train(jobs: Sequence[Job], watched: Watched) -> list[int]:
    """Run all jobs together and return their exit codes.

    Args:
        jobs: The runs of a sweep.
        watched: What surrounds each of them.

    Raises:
        BaseException: What a run raised that is no message to the user, once all have ended.
    """
    screen, claims = Screen(), Claims()

    def task(job: Job, run: Run) -> int:
        return watched(job, partial(_perform, run=run, screen=screen, claims=claims))

    runs = [Run(job.number, partial(task, job)) for job in jobs]
    threads = {int(job.cfg.client.threads) for job in jobs}
    torch.set_num_threads(max(threads, default=1))
    try:
        for _ in take_turns(runs, Joint()):
            pass
    finally:
        screen.flush()
        for job, run in zip(jobs, runs, strict=True):
            if not run.begun:
                job.folder.discard()
    for run in runs:
        if run.error is not None:
            raise run.error
    return [run.result for run in runs]


def _perform(job: Job, run: Run, screen: Screen, claims: Claims) -> None:
    """Do one job: what a run alone does, without a panel and tables of its own."""
    absences = Absences()
    reporter = Many([Files(job.folder), absences, *build_watchers(job.cfg), Watcher(screen)])
    assert job.shared is not None, "a run of a sweep"
    try:
        summary = train_one(job.cfg, job.folder, reporter, run, claims, Shelf(job.shared))
    except Exception:
        screen.flush()
        sys.stderr.write(f"run {run.number + 1} has stopped:\n")
        raise
    finally:
        reporter.close()
    if absences.rows:
        job.folder.record(failures=absences.as_list())
        screen.say(f"run {run.number + 1}:")
        absences.render(Console(highlight=False))
    job.folder.finish(summary.as_dict())


def train_one(
    cfg: DictConfig,
    folder: RunFolder,
    reporter: Reporter,
    run: Run,
    claims: Claims,
    shelf: Shelf,
) -> Summary:
    """Run one experiment among others that take turns.

    Args:
        cfg: Its configuration, with ``engine=serial``.
        folder: Where it is written down.
        reporter: Who watches.
        run: Its place among the others.
        claims: Which of them trains which baseline.
        shelf: Where baselines lie.
    """
    check_sites(cfg)
    family = json.dumps(OmegaConf.to_container(cfg.model, resolve=True), sort_keys=True)

    def wrap(own: Trainer) -> Trainer:
        return PackTrainer(run.number, family, own, run.ask)

    return launch.run(
        cfg,
        folder,
        Many([_Whereabouts(run), reporter]),
        SharedShelf(shelf, run, claims),
        engine=partial(serial.run, wrap=wrap),
    )


class _Whereabouts:
    """The reporter that notes how far a run is."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._arms: tuple[str, ...] = ()

    def start(self, info: RunInfo) -> None:
        """Remember which arms there are."""
        self._arms = info.arms

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Note the phase."""
        order = ("train", "fuse", "distill")
        self._run.place = (self._arms.index(arm) - len(self._arms), round_, order.index(phase))

    def client_done(self, client_id: int) -> None:
        """Note nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Hold nothing."""
