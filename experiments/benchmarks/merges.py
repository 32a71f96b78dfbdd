"""``merges``: what the server takes to make one model of twenty LeNet-5, by each ``merge=``.

On one thread: singular values of matrices this small gain nothing from more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from hydra._internal.hydra import Hydra

from experiments.benchmarks.batched import CLASSES, SHAPE
from experiments.benchmarks.rows import Arguments, Row, in_turns, row
from experiments.config import compose
from experiments.config.instantiate import instantiate
from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.merge import Base
from fedfuse.models.lenet import lenet5

CLIENTS = 20
BAR = 2.0


def measure(args: Arguments) -> list[Row]:
    """Return the seconds that each merge takes."""
    hydra, before = compose.open_hydra(), torch.get_num_threads()
    names = sorted(set(hydra.config_loader.get_group_options("merge")) - {"custom"})
    sides = {name: partial(_timed, round_of(hydra, name)) for name in names}
    try:
        torch.set_num_threads(1)
        in_turns(sides, 1)
        taken = in_turns(sides, 1 if args.quick else max(3, args.repeats))
    finally:
        torch.set_num_threads(before)
    note = f"{CLIENTS} LeNet-5 of {len(_models()[1][0]):,} numbers, one thread"
    return [
        row("merges", name, f"merge={name}", min(taken[name]), "s", bar=BAR, note=note)
        for name in names
    ]


def round_of(hydra: Hydra, name: str) -> Callable[[], object]:
    """Return what the server computes in a round with a merge, as the command line names it."""
    merge = instantiate(compose.configure([f"merge={name}"], hydra).merge, "merge")
    layout, models = _models()
    average = AverageModels(
        ("lenet5",) * CLIENTS,
        {"lenet5": layout},
        merge=merge,
        base=Base("first", {"lenet5": models[-1]}),
    )
    bank = ModelBank.of(range(CLIENTS), [100] * CLIENTS, models[:CLIENTS])
    return partial(average, bank, 1)


def _models() -> tuple[Layout, list[torch.Tensor]]:
    """Return models a little away from a common start, and that start."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = lenet5(SHAPE, CLASSES)
    layout, draw = Layout.of(net), torch.Generator().manual_seed(0)
    start = layout.flatten(net)
    moved = [start + 0.01 * torch.randn(len(start), generator=draw) for _ in range(CLIENTS)]
    return layout, [*moved, start]


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
