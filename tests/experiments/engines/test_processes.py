"""Processes that others started: found, told from the dead, and ended however they resist."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from experiments.benchmarks.family import cpu_seconds, family, pss
from experiments.engines.processes import alive, descendants, end

STUBBORN = (
    "import signal, subprocess, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "child = subprocess.Popen([sys.executable, '-c', "
    "'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); "
    "signal.pause()'], start_new_session=True); signal.pause()"
)
"""A process that ignores SIGTERM with a child, in a session of its own, that does so too."""


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"  # the grandchild is there and ignores as well
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        yield process
        for each in family:
            with suppress(psutil.NoSuchProcess):
                each.kill()


def test_who_ignores_to_be_asked_is_ended(stubborn, monkeypatch) -> None:
    monkeypatch.setattr("experiments.engines.processes.GRACE", 0.1)
    (child,) = descendants([stubborn.pid])
    assert {stubborn.pid, child} <= descendants([os.getpid()])
    end({stubborn.pid, child}, (signal.SIGTERM,))
    assert alive(stubborn.pid)
    assert alive(child)
    monkeypatch.setattr("experiments.engines.processes.GRACE", 30)
    end({stubborn.pid, child}, (signal.SIGKILL,))
    # Its parent has not asked for its exit code yet, and it counts as ended all the same.
    assert psutil.Process(stubborn.pid).status() == psutil.STATUS_ZOMBIE
    assert not alive(stubborn.pid)
    assert not alive(child)


def test_who_is_gone_has_no_children_no_memory_and_no_time() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert not alive(process.pid)
    assert descendants([process.pid]) == set()
    assert cpu_seconds([process.pid]) == pss(process.pid) == 0
    end({process.pid}, (signal.SIGTERM, signal.SIGKILL))


def test_one_that_ends_between_listing_and_reading_is_left_out(stubborn, monkeypatch) -> None:
    listed, vanished = psutil.pids(), 2**30  # more than any system gives out
    assert not psutil.pid_exists(vanished)
    monkeypatch.setattr(psutil, "pids", lambda: [*listed, vanished])
    assert stubborn.pid in descendants([os.getpid()])


def test_a_family_uses_time_and_memory() -> None:
    assert os.getpid() in family()
    assert cpu_seconds([os.getpid()]) == pytest.approx(sum(os.times()[:2]), abs=1)
    assert 2**20 < pss(os.getpid()) <= psutil.Process().memory_info().rss * 1.5
