"""A simulation whose loop over rounds is the user's own: knowledge in, teachers out.

The run works in a thread of its own, of which only one ever works: it stops where the server has
fused, and goes on with what the loop decided. Everything else is the same run, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from experiments.api.overrides import lines_of
from experiments.api.round import Round, Watcher, handing
from experiments.api.run import Run
from experiments.api.simulate import (
    Override,
    Place,
    hydra_of,
    literal,
    own_targets,
    told_from_python,
    watchers,
)
from experiments.api.surroundings import as_found
from experiments.assembly.parts import Parts
from experiments.config import compose
from experiments.config.process_objects import Objects
from experiments.config.words import text
from experiments.engines import serial
from experiments.pack.turns import PackedRun as Turn
from experiments.runs.lifecycle import Run as Begun
from experiments.runs.lifecycle import abandon, open_run, perform
from experiments.runs.prepare import prepare
from experiments.runs.reserve import reserve_for
from fedfuse.errors import ConfigError
from fedfuse.train.joint import Outcome
from server.app import ServerSetup
from server.reporters.folder import RunFolder
from server.reporters.protocol import Reporter

SUFFIX = "+own"
"""What the name of a method gets whose rounds a loop of the user's own decides."""


class Rounds:
    """The rounds of a run, for one loop over them; made by :func:`rounds`.

    Leaving the loop early ends the run: its folder keeps what was measured and is marked as broken
    off, so that no comparison takes it for a whole run.
    """

    def __init__(self, begun: Begun, watching: Sequence[Reporter], objects: Objects) -> None:
        self._begun, self._objects = begun, objects
        self._turn = Turn(0, lambda turn: _work(begun, turn, watching))
        self._now: Round | None = None

    def __iter__(self) -> Iterator[Round]:
        """Go on to where each round has been fused, and end the run with the loop.

        Raises:
            FedfuseError: What stops the run.
        """
        try:
            while not self._turn.ended:
                self._go_on()
                if self._turn.error is not None:
                    raise self._turn.error
                if isinstance(self._turn.asks, Round) and not self._turn.ended:
                    self._now = self._turn.asks
                    yield self._now
        finally:
            self.close()

    @property
    def run(self) -> Run:
        """The run, once the loop has ended.

        Raises:
            ConfigError: If it has not, or had not begun.
        """
        if not self._turn.ended or not self._turn.begun:
            raise ConfigError(
                "the loop over rounds has not ended",
                got="no round yet" if self._now is None else f"round {self._now.number}",
                next_step="Let it end, or end it with close().",
            )
        path = self._begun.folder.path.absolute()
        return Run(path, self._objects, own_targets([self._begun.cfg]))

    def close(self) -> None:
        """End the run where it is; nothing if it has ended."""
        if self._turn.ended:
            return
        with self._objects, as_found():
            if not self._turn.begun:
                abandon(self._begun)
            self._turn.stop()

    def _go_on(self) -> None:
        with self._objects, as_found():
            torch.set_num_threads(self._begun.cfg.client.threads)
            self._turn.go_on(Outcome(self._now))


def _work(begun: Begun, turn: Turn, watching: Sequence[Reporter]) -> None:
    """Do the run, in the thread of its turn."""
    watcher = Watcher(turn)

    def engine(parts: Parts, setup: ServerSetup, folder: RunFolder) -> None:
        serial.run(parts, handing(setup, watcher), folder)

    with told_from_python(begun):
        perform(begun, [watcher, *watching], engine=engine)


def rounds(
    *overrides: Override,
    out: Place | None = None,
    config_dir: Place | None = None,
    progress: bool | Reporter = False,
    **keys: Any,
) -> Rounds:
    """Return the rounds of a simulation, for a loop of your own.

    Each state holds what the clients shared and what the configured method made of it;
    ``state.teach`` replaces that, and leaving the loop ends the run. A loop that changes nothing
    gives, to the bit, what :func:`fedfuse.simulate` does. The controls run before the first
    round. The run's folder is like any other, with two differences: the method's name ends in
    ``+own`` (or is ``name=...``), because its configuration does not say what the loop did, and
    for the same reason it cannot be resumed.

    Args:
        overrides: As for :func:`fedfuse.simulate`.
        out: The run folder.
        config_dir: A folder with options of your own.
        progress: As for :func:`fedfuse.simulate`, but nothing by default.
        keys: As for :func:`fedfuse.simulate`.

    Raises:
        FedfuseError: As :func:`fedfuse.simulate` does.
    """
    objects = Objects()
    with objects, as_found():
        watching = watchers(progress)
        lines = lines_of(overrides, keys, objects, who="rounds")
        hydra = hydra_of(config_dir)
        lines += [] if out is None else [f"hydra.run.dir={literal(out)}"]
        given = {line.partition("=")[0].lstrip("+") for line in lines}
        if "checkpoint.every" not in given:
            lines.append("checkpoint.every=0")
        if not {"name", "method.name"} & given:
            _, (whole,) = prepare(hydra, lines)
            lines.append(f"method.name={text(whole.method.name + SUFFIX)}")
        lines, (whole,) = prepare(hydra, lines)
        cfg = compose.own_keys(whole)
        for key, got, wanted in (
            ("engine", cfg.engine.name, "serial"),
            ("checkpoint.every", cfg.checkpoint.every, 0),
        ):
            if got != wanted:
                raise ConfigError(
                    "a loop of your own over the rounds runs in this process and is not resumed",
                    got=f"{key}={got}",
                    allowed=f"{key}={wanted}",
                )
        with reserve_for(whole, lines) as path:
            begun = open_run(cfg, path, list(whole.hydra.overrides.task))
    return Rounds(begun, watching, objects)
