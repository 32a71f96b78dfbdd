"""What several kinds of whole runs are tested with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.engines.processes import alive, descendants

ROOT = Path(__file__).parents[2]
PATIENCE = 300
"""Seconds: a test that works never waits for them, however busy the machine is."""


@pytest.fixture
def interrupt(tmp_path: Path) -> Callable[..., str]:
    """Run a command, press Ctrl-C at a line of its output, and see every process end."""

    def press(lines: list[str], at: str) -> str:
        command = [sys.executable, "-m", "experiments.run", *lines]
        with subprocess.Popen(
            [*command, f"hydra.run.dir={tmp_path / 'run'}"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Where tests run in the background SIGINT comes ignored, and so it would be inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout is not None
            while at not in (line := process.stdout.readline()):
                assert line, f"it ended before '{at}': {process.communicate()[1]}"
            family = descendants([process.pid])
            assert family
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=PATIENCE)
            assert process.returncode == 130
            assert "interrupted" in said
        # One that was about to become another program ends a bit later.
        deadline = time.monotonic() + PATIENCE
        while any(alive(pid) for pid in family) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not [pid for pid in family if alive(pid)]
        return line

    return press
