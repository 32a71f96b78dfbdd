"""What a process and all that it has started use, as Linux counts it in ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from experiments.engines.processes import descendants

TICKS = os.sysconf("SC_CLK_TCK")


def family(pid: int | None = None) -> set[int]:
    """Return a process (this one if None) and all that it has started."""
    pid = os.getpid() if pid is None else pid
    return {pid, *descendants([pid])}


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the processes have used so far, in user and system mode."""
    return sum(_ticks(pid) for pid in pids) / TICKS


def pss(pid: int) -> int:
    """Return a process's memory in bytes; pages shared by several are divided among them."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _ticks(pid: int) -> int:
    try:
        # The name may hold anything, so count from behind its closing bracket.
        values = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0
    return int(values[11]) + int(values[12])
