"""The runs of a sweep in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.config.comparison_keys import baseline_identity
from experiments.config.prior_use import controls
from experiments.engines.processes import terminable
from experiments.runs.pool import Pool
from experiments.runs.sweep import Each, Sweep, headline
from experiments.runs.sweep_plan import FOLDER
from fedfuse.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.runs.display import Display
    from experiments.runs.failures import Expected


def side_by_side(workers: int, configs: Sequence[DictConfig]) -> Each | None:
    """Return what performs the runs of a sweep some at a time; None for one after the other.

    Args:
        workers: How many at a time.
        configs: The runs.

    Raises:
        ConfigError: If one of them brings processes of its own, or all are to train as one batch.
    """
    engines = {str(cfg.engine.name) for cfg in configs} - {"serial"}
    packs = any(cfg.engine.get("pack", False) for cfg in configs)
    if workers > 1 and (engines or packs):
        raise ConfigError(
            f"workers={workers} starts a process for each run, with all its clients",
            got=f"engine={engines.pop()}" if engines else "engine.pack=true",
            allowed="engine=serial",
            next_step="Set workers=1, or leave the engine out.",
        )
    if workers == 1:
        return None

    def each(sweep: Sweep, todo: Sequence[int], display: Display) -> dict[int, Expected]:
        errors: dict[int, Expected] = {}
        total, ended = len(sweep.planned), len(sweep.planned) - len(todo)
        pool = Pool(workers, sweep.path / FOLDER / "log", sweep.job, _after_baseline(sweep, todo))
        with terminable():
            for event in pool.run(todo):
                number = event.task
                told = headline(number, total, sweep.planned[number].overrides)
                if event.kind == "started":
                    display.say(told)
                elif event.kind in ("done", "failed"):
                    ended += 1
                    display.say(f"{event.kind} ({ended} of {total}): {told}")
                if event.error is not None:
                    errors[number] = event.error
                    display.failed(number, event.error)
        return errors

    return each


def _after_baseline(sweep: Sweep, todo: Sequence[int]) -> dict[int, int]:
    """Return after which run each one comes: the first that trains the control they share."""
    first: dict[str, int] = {}
    after = {}
    for number in todo:
        cfg = sweep.configs[number]
        for arm in controls(cfg)[:1]:
            owner = first.setdefault(baseline_identity(cfg, "", arm), number)
            if owner != number:
                after[number] = owner
    return after
