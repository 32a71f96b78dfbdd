"""Runs that take turns: one thread each, of which only one ever works, until all of them ask.

A run is ordinary code, many calls deep, that must stop where it asks its trainer and go on with
the answer. Threads give it a stack of its own to wait on; turns keep what it does in between from
meeting what others do. Results do not depend on time: who is behind goes first, then by number.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedfuse.train.joint import Call, Fit, Outcome, Predict
from fedfuse.types import RoundRecord
from server.reporters.protocol import RunInfo

Answer = Callable[[Sequence[Call]], list[Outcome]]
"""Answer calls of several runs."""

Place = tuple[int, int, int]
"""How far a run is: arm (the method is -1, its controls count from below), round, phase."""

MOST_CONTROLS = 2
"""Arms before the method, at most: all runs are in step with those that have as many."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What a run waits for that is not an answer."""

    over: Callable[[], bool]


class PackedRun:
    """One run in a thread of its own.

    Args:
        number: Its number.
        task: What it does; its result is the run's.
    """

    def __init__(self, number: int, task: Callable[[PackedRun], Any]) -> None:
        self.number = number
        self.place: Place = (-1 - MOST_CONTROLS, 0, 0)
        self.asks: object = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.ended = False
        self._outcome = Outcome()
        self._stopped = False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        # A daemon, so that a second Ctrl-C does not wait for it.
        self._thread = threading.Thread(
            target=self._work, args=(task,), name=f"run {number}", daemon=True
        )

    # -- in the run's own thread ---------------------------------------------------------------

    def ask(self, call: object) -> Any:
        """Return the answer to a call once it has been given, or raise what it raised."""
        outcome = self._pause(call)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def wait(self, over: Callable[[], bool]) -> None:
        """Let others work until ``over``."""
        if not over():
            self._pause(Wait(over))

    def _pause(self, asks: object) -> Outcome:
        if self._stopped:
            raise KeyboardInterrupt
        drawn = _generators()
        self.asks = asks
        self._theirs.release()
        self._mine.acquire()
        self.asks = None
        if self._stopped:
            raise KeyboardInterrupt
        _set_generators(drawn)
        return self._outcome

    def _work(self, task: Callable[[PackedRun], Any]) -> None:
        self._mine.acquire()
        try:
            if not self._stopped:
                self.result = task(self)
        except BaseException as error:
            self.error = error
        self.ended = True
        self._theirs.release()

    # -- in the thread that gives the turns ----------------------------------------------------

    @property
    def begun(self) -> bool:
        """Tell whether it has ever had a turn."""
        return self._thread.ident is not None

    def go_on(self, outcome: Outcome = Outcome()) -> None:  # noqa: B008 - frozen
        """Let the run work until it asks for something or ends."""
        self._outcome = outcome
        if not self.begun:
            self._thread.start()
        self._mine.release()
        self._theirs.acquire()

    def stop(self) -> None:
        """Interrupt the run, where it waits or as soon as it would, and wait for its end."""
        self._stopped = True
        if self._thread.is_alive():
            self._mine.release()
            self._thread.join()
        self.ended = True


class PlaceReporter:
    """The reporter that notes how far a run is.

    Args:
        run: The run.
    """

    def __init__(self, run: PackedRun) -> None:
        self._run = run
        self._arms: tuple[str, ...] = ()

    def start(self, info: RunInfo) -> None:
        """Remember which arms there are."""
        self._arms = info.arms

    def phase(self, arm: str, round_: int, phase: str) -> None:
        """Note the phase."""
        order = ("train", "fuse", "distill")
        control = self._arms.index(arm) - 1 - MOST_CONTROLS
        self._run.place = (-1 if arm == self._arms[-1] else control, round_, order.index(phase))

    def client_done(self, client_id: int) -> None:
        """Note nothing."""

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Note nothing."""

    def close(self) -> None:
        """Hold nothing."""


def take_turns(runs: Sequence[PackedRun], answer: Answer) -> Iterator[None]:
    """Work on all runs until the last has ended, and yield now and then.

    A run's error stays with the run. Leaving early, also by Ctrl-C, interrupts every run.

    Args:
        runs: The runs, none of which has begun.
        answer: Answers their calls.
    """
    drawn = _generators()
    try:
        for run in runs:
            _set_generators(drawn)  # as if it were the only one
            run.go_on()
            yield
        while open_ := [run for run in runs if not run.ended]:
            waits = {run: run.asks for run in open_ if isinstance(run.asks, Wait)}
            free = next((run for run, wait in waits.items() if wait.over()), None)
            if free is not None:
                free.go_on()
                continue
            asking = [(_order(run), run) for run in open_ if run not in waits]
            first = min(order for order, _ in asking)
            chosen = [run for order, run in asking if order == first]
            calls = [run.asks for run in chosen if isinstance(run.asks, Call)]
            for run, outcome in zip(chosen, answer(calls), strict=True):
                run.go_on(outcome)
            yield
    finally:
        for run in runs:
            if not run.ended:
                run.stop()
        _set_generators(drawn)


def _order(run: PackedRun) -> tuple[Place, int]:
    """Return what decides whose turn it is.

    Who is behind catches up first, so that the same phase of the same round finds all runs
    together; within a phase questions come before training for the same reason.
    """
    kind = 2 if isinstance(run.asks, Fit) else 0 if isinstance(run.asks, Predict) else 1
    return run.place, kind


def _generators() -> tuple[Any, ...]:
    """Return the state of the random numbers that all threads share and any part may draw."""
    legacy = np.random.get_state()  # noqa: NPY002 - just that
    return torch.get_rng_state(), legacy, random.getstate()


def _set_generators(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    random.setstate(states[2])
