"""The run folders of a map's cells: which are done, and the sweep of those to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from experiments.config.paths import settled
from experiments.config.plain import plain
from experiments.map.grid import Cell
from experiments.results import Run, flatten, read_run, text, varying
from experiments.results.folders import says_finished
from experiments.runs.resumable_keys import May, may
from experiments.runs.sweep import Sweep
from experiments.runs.sweep_plan import Planned
from fedfuse.errors import ConfigError, FedfuseError

CELLS = "cells"


def finished(
    folder: Path, configs: Mapping[Cell, DictConfig], lines: Sequence[str] = ()
) -> dict[Cell, Run]:
    """Return the cells that are done; one that was left half done is not.

    Args:
        folder: The map's folder.
        configs: What every cell is to be run with.
        lines: The command line. A key that is newer than a cell had its default there: it counts
            if the command line names it.

    Raises:
        ConfigError: If a finished cell was run with another configuration.
    """
    done = {}
    for cell, cfg in configs.items():
        path = folder / CELLS / cell.name
        if not (path / "run.json").is_file():
            continue
        try:
            run = read_run(path)
        except ConfigError:
            if says_finished(path):
                raise  # a newer format, or damage: not ours to remove
            continue
        if not run.finished:
            continue
        wanted = plain(cfg)
        if "seed" in run.config["privacy"]:  # written down also of an option that has no such key
            wanted["privacy"].setdefault("seed", run.config["privacy"]["seed"])
        both = [flatten(settled(run.config)), flatten(wanted)]
        given = {line.lstrip("+").partition("=")[0] for line in lines}
        keys = [
            key
            for key in varying(both)
            if may(key) is not May.CHANGE and (key in both[0] or key in given)
        ]
        if keys:
            raise ConfigError(
                f"the map in '{folder}' was made with another configuration",
                got=", ".join(f"{k}={text(both[1].get(k))}" for k in keys[:3]),
                allowed=", ".join(f"{k}={text(both[0].get(k))}" for k in keys[:3]),
                next_step="Choose another map.dir, or the values of the map that is there.",
            )
        done[cell] = run
    return done


def check_data(configs: Mapping[Cell, DictConfig]) -> None:
    """Deal out the data of every federation once, so that what cannot be dealt shows before a run.

    Raises:
        FedfuseError: From the first federation that cannot be made, naming it.
    """
    from experiments.assembly.parts import build_data

    federations = {cell.federation: (cell, cfg) for cell, cfg in configs.items()}
    for cell, cfg in federations.values():
        try:
            build_data(cfg)
        except FedfuseError as error:
            error.what = (
                f"map.samples={cell.samples}, map.alpha={cell.alpha:g}, seed {cell.seed}: "
                f"{error.what}"
            )
            raise


def as_sweep(folder: Path, cell: Cell, cfg: DictConfig, overrides: Sequence[str]) -> Sweep:
    """Return the sweep of one run that a cell is."""
    own = [
        "partitioner=dirichlet_inner",
        f"partitioner.sizes={cell.samples}",
        f"partitioner.alpha={cell.alpha:g}",
        "partitioner.min_samples=1",
        f"method={cell.method}",
        f"seed={cell.seed}",
    ]
    planned = Planned(f"{CELLS}/{cell.name}", (*overrides, *own))
    return Sweep(folder.resolve(), [planned], [cfg])
