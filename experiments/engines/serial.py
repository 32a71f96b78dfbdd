"""``engine=serial``: both halves of the app in this process, where breakpoints work."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic

from flwr.app import Context, RecordDict

from clients.app import forget_run, make_client_app
from clients.state.state_store import StatePlan
from experiments.assembly.parts import Parts
from experiments.engines.hosting import check_num_nodes, place
from fedfuse.train.trainer import LoopTrainer, Trainer
from server.app import ServerSetup, make_server_app
from server.reporters.folder import RunFolder
from server.reporters.protocol import Reporter, WatchesSteps
from server.transport.serial_grid import SerialGrid

SELDOM = 0.25
"""Seconds between two looks at the steps of a client; a step itself may take a millisecond."""


def run(
    parts: Parts,
    setup: ServerSetup,
    folder: RunFolder,  # noqa: ARG001
    wrap: Callable[[Trainer], Trainer] | None = None,
) -> None:
    """Run all rounds.

    Args:
        parts: The run's parts.
        setup: What the server needs.
        folder: The run folder.
        wrap: Puts a trainer of its own around the one that the clients would have.
    """
    num_nodes = parts.cfg.engine.num_nodes
    check_num_nodes(num_nodes, parts.cfg.num_clients)
    chosen = parts.cfg.client.state
    with tempfile.TemporaryDirectory(prefix="fedfuse-") as scratch:
        states = StatePlan("live" if chosen == "auto" else chosen, scratch)
        if states.where == "disk":
            setup = replace(setup, states=Path(scratch))
        grid = SerialGrid(
            make_client_app(
                place(parts, setup.reporter.client_done, wrap or _watched(setup.reporter)), states
            ),
            [{"partition-id": i, "num-partitions": num_nodes} for i in range(num_nodes)],
        )
        context = Context(grid.run_id, 0, {}, RecordDict(), {})
        try:
            make_server_app(lambda _: setup)(grid, context)
        finally:
            forget_run(grid.run_id)


def _watched(reporter: Reporter) -> Callable[[Trainer], Trainer] | None:
    """Return what lets a trainer tell how far the client at work is, if anybody wants to know."""
    return partial(_telling, reporter) if isinstance(reporter, WatchesSteps) else None


def _telling(reporter: WatchesSteps, trainer: Trainer) -> Trainer:
    told = 0.0

    def on_step(done: int, total: int) -> None:
        nonlocal told
        if (now := monotonic()) - told > SELDOM:
            told = now
            reporter.step(done, total)

    return replace(trainer, on_step=on_step) if isinstance(trainer, LoopTrainer) else trainer
