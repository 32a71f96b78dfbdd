"""A sweep whose runs a launcher plug-in of Hydra starts, such as submitit on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config.choices import CONFIG
from experiments.runs.display import Display, Terminal, show
from experiments.runs.failures import EXPECTED, Expected
from experiments.runs.lifecycle import SHARED, open_run
from experiments.runs.reserve import shortest
from experiments.runs.sweep import Each, Sweep, headline
from fedfuse.errors import ConfigError, FedfuseError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


def through_launcher(hydra: Hydra, lines: Sequence[str], terminal: Terminal, workers: int) -> Each:
    """Return what lets the launcher start the runs of a sweep that has not begun.

    Args:
        hydra: Knows the launcher.
        lines: The command line as Hydra takes it.
        terminal: Is told the exit codes; what stopped a run was printed where it ran.
        workers: How many runs at a time were asked for.

    Raises:
        ConfigError: If several: how many is the launcher's to say.
    """
    if workers > 1:
        raise ConfigError(
            "workers= and hydra/launcher= both start the runs of a sweep",
            got=f"workers={workers}",
            next_step="Leave out one of them; a launcher has keys of its own for how many.",
        )

    def each(sweep: Sweep, todo: Sequence[int], _: Display) -> dict[int, Expected]:
        quoted = str(sweep.path).replace("\\", "\\\\").replace("'", "\\'")
        given = [line for line in lines if not line.lstrip("+").startswith("hydra.sweep.dir=")]
        given += [
            f"hydra.sweep.dir='{quoted}'",
            "hydra.sweeper.params=null",  # they are among the lines already
            "hydra.mode=MULTIRUN",
        ]
        task = partial(_run, total=len(sweep.planned))
        batches = hydra.multirun(CONFIG, task, given)
        codes = [int(done.return_value) for batch in batches for done in batch]
        terminal.exit_code = max(codes)
        return {
            number: FedfuseError(f"run {number + 1} ended with exit code {code}")
            for number, code in zip(todo, codes, strict=True)
            if code
        }

    return each


def _run(cfg: DictConfig, total: int) -> int:
    """Do one run, in whatever process the launcher chose, and return its exit code."""
    from hydra.core.hydra_config import HydraConfig

    hydra, terminal = HydraConfig.get(), Terminal()
    number, overrides = int(hydra.job.num), list(hydra.overrides.task)
    terminal.say("")
    terminal.say(headline(number, total, overrides))
    path = shortest(Path(hydra.runtime.output_dir))
    shared = path.parent / SHARED
    try:
        show(open_run(cfg, path, overrides, baselines=shared, number=number), terminal)
    except EXPECTED as error:
        terminal.failed(number, error)
    return terminal.exit_code
