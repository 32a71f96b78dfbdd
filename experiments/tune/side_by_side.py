"""Runs of a sweep side by side, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from experiments.config import compose
from experiments.engines.processes import descendants, end, terminable, uninterrupted
from experiments.runs.lifecycle import perform
from experiments.runs.sweep import Each, Sweep, headline
from experiments.runs.sweep_plan import FOLDER, Planned
from experiments.terminal.console import exit_code
from fedfuse.errors import FedfuseError

if TYPE_CHECKING:
    from experiments.runs.display import Display
    from experiments.runs.failures import Expected

CODE = "import sys; from experiments.tune.side_by_side import main; sys.exit(main())"
"""What a process runs; -m would put the working folder before everything installed."""
PAUSE = 0.05
"""Seconds between two looks at who has ended."""


def side_by_side(workers: int) -> Each:
    """Return what performs the runs of a sweep in processes, some at a time.

    Args:
        workers: How many at a time.
    """

    def each(sweep: Sweep, todo: Sequence[int], display: Display) -> dict[int, Expected]:
        waiting, total = list(todo), len(sweep.planned)
        running: dict[int, subprocess.Popen[bytes]] = {}
        errors: dict[int, Expected] = {}
        try:
            with terminable():
                while waiting or running:
                    while waiting and len(running) < workers:
                        number = waiting.pop(0)
                        display.say(headline(number, total, sweep.planned[number].overrides))
                        running[number] = _start(sweep, number)
                    ended = [n for n, process in running.items() if process.poll() is not None]
                    for number in ended:
                        if running.pop(number).returncode:
                            errors[number] = FedfuseError(_last_words(_log(sweep, number)))
                            display.failed(number, errors[number])
                    if not ended:
                        time.sleep(PAUSE)
        finally:
            with uninterrupted():
                pids = {process.pid for process in running.values()}
                end(descendants(pids) | pids, (SIGTERM, SIGKILL))
                for process in running.values():
                    process.wait()
        return errors

    return each


def _log(sweep: Sweep, number: int) -> Path:
    return sweep.path / FOLDER / f"{sweep.planned[number].folder.replace('/', '-')}.log"


def _start(sweep: Sweep, number: int) -> subprocess.Popen[bytes]:
    """Start the process of one run; what it prints goes beside the sweep's plan."""
    planned = sweep.planned[number]
    job = {
        "path": str(sweep.path.absolute()),
        "folder": planned.folder,
        "overrides": list(planned.overrides),
        "config": OmegaConf.to_yaml(sweep.configs[number]),
        "lines": list(sweep.lines),
        "goes_on": sweep.hydra is not None,
    }
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    env.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    with _log(sweep, number).open("wb") as log, uninterrupted():
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-P", "-c", CODE],
            env=env,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone
        )
    assert process.stdin is not None
    with process.stdin as told:
        told.write(json.dumps(job).encode())
    return process


def _last_words(log: Path) -> str:
    """Return what a process said of its end."""
    said = log.read_text(encoding="utf-8", errors="replace").rstrip("\n")
    at = said.rfind("error: ")
    return said[at + len("error: ") :] if at >= 0 else f"its process ended; see {log}"


def main() -> int:
    """Perform the run that comes in, of a sweep that is held by who started this process."""

    def one(_: list[str]) -> int:
        job = json.load(sys.stdin)
        cfg = OmegaConf.create(job["config"])
        assert isinstance(cfg, DictConfig)
        sweep = Sweep(
            Path(job["path"]),
            [Planned(job["folder"], tuple(job["overrides"]))],
            [cfg],
            job["lines"],
            compose.open_hydra() if job["goes_on"] else None,
        )
        perform(sweep.open(0))
        return 0

    return exit_code(one, [])
