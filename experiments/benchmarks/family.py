"""What a process and all that it has started use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

import psutil

from experiments.engines.processes import descendants


def family(pid: int | None = None) -> set[int]:
    """Return a process (this one if None) and all that it has started."""
    pid = os.getpid() if pid is None else pid
    return {pid, *descendants([pid])}


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the processes have used so far, in user and system mode."""
    total = 0.0
    for pid in pids:
        with suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            total += times.user + times.system
    return total


def pss(pid: int) -> int:
    """Return a process's memory in bytes; pages shared by several are divided among them.

    Where the system does not count that (macOS), shared pages are left out.
    """
    with suppress(psutil.Error):
        memory = psutil.Process(pid).memory_full_info()
        return int(getattr(memory, "pss", memory.uss))
    return 0
