"""Run fedfuse and take the time of each round."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.assembly.parts import build_parts
from experiments.assembly.server import build_server
from experiments.benchmarks.family import cpu_seconds, family
from fedfuse.types import RoundRecord
from server.reporters.in_memory import InMemory


class Stopwatch(InMemory):
    """Take the wall time and the processor time of all processes at the end of every round.

    Args:
        look: Called then as well.
    """

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._look = look
        self.times = [time.perf_counter()]
        self.cpu_times = [cpu_seconds(family())]

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Take the time."""
        super().round_done(arm, record)
        self.times.append(time.perf_counter())
        self.cpu_times.append(cpu_seconds(family()))
        self._look()


def run(cfg: Any, watch: Stopwatch) -> None:
    """Run a configuration on its engine, without writing a run folder."""
    parts = build_parts(cfg)
    setup = build_server(parts, watch)
    engine = importlib.import_module(f"experiments.engines.{cfg.engine.name}")
    with tempfile.TemporaryDirectory() as folder:
        engine.run(parts, setup, SimpleNamespace(path=Path(folder)))
