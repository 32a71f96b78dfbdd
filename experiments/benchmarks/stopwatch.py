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
    """Take the wall time and the processor time that all processes need for every round.

    Args:
        look: Called after every round; what it takes is nobody's time.
    """

    def __init__(self, look: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self._look = look
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._begun = self._now()

    def round_done(self, arm: str, record: RoundRecord) -> None:
        """Take the time."""
        super().round_done(arm, record)
        wall, cpu = self._now()
        self.wall.append(wall - self._begun[0])
        self.cpu.append(cpu - self._begun[1])
        self._look()
        self._begun = self._now()

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), cpu_seconds(family())


def run(cfg: Any, watch: Stopwatch) -> None:
    """Run a configuration on its engine, without writing a run folder."""
    parts = build_parts(cfg)
    setup = build_server(parts, watch)
    engine = importlib.import_module(f"experiments.engines.{cfg.engine.name}")
    with tempfile.TemporaryDirectory() as folder:
        engine.run(parts, setup, SimpleNamespace(path=Path(folder)))
