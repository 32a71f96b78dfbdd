"""From a command line to configurations that can be run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedfuse.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
READ = ("hydra.run", "hydra.sweep", "hydra.searchpath", "hydra/launcher", "hydra.launcher")
"""What fedfuse reads of Hydra's own keys; the others tell Hydra how to start a function."""


def prepare(
    hydra: Hydra, lines: list[str], *, multirun: bool = False
) -> tuple[list[str], list[DictConfig]]:
    """Compose what a command line asks for, and check all of it before any run begins.

    Returns:
        The command line as Hydra takes it, with what its ``experiment`` sweeps over, and one
        configuration per run, each with its ``hydra`` node.

    Raises:
        FedfuseError: For the first mistake found.
    """
    from experiments.config import compose

    asked = compose.expand(hydra, lines, multirun=multirun)
    lines, configs = compose.check(hydra, asked, multirun=multirun)
    if not launched_elsewhere(configs[0]):
        check_hydra_keys(lines, many=multirun)
    elif multirun and any(line.startswith("protocol=") and "paper" in line for line in lines):
        raise ConfigError(
            "a launcher composes runs by itself, and protocol=paper is said by fedfuse",
            next_step="Leave out hydra/launcher, or start the runs one by one.",
        )
    # Only now: it takes torch, and a slip of the pen is found without.
    from experiments.assembly.build_all import check_parts
    from experiments.pack.preflight import packed

    for cfg in configs:
        check_parts(cfg)
    packed(configs, many=multirun)
    return lines, configs


def launched_elsewhere(cfg: DictConfig) -> bool:
    """Tell whether a launcher plug-in of Hydra is to start the runs of a sweep."""
    return bool(cfg.hydra.launcher._target_ != BASIC)


def check_hydra_keys(lines: Sequence[str], *, many: bool) -> None:
    """Refuse keys of Hydra's that nobody would read; ``many`` runs lie in the folder of all.

    Raises:
        ConfigError: For the first of them.
    """
    idle = "hydra.run" if many else "hydra.sweep"
    for line in lines:
        key = line.lstrip("+~").partition("=")[0]
        if key == idle or key.startswith(f"{idle}."):
            raise ConfigError(
                f"{key} would not be read, because "
                + ("many runs lie in one folder" if many else "this is one run and no sweep"),
                next_step="Name that with hydra.sweep.dir=FOLDER."
                if many
                else "Name its folder with hydra.run.dir=FOLDER, or add -m.",
            )
        of_hydra = key.startswith(("hydra.", "hydra/"))
        if of_hydra and not any(key == name or key.startswith(f"{name}.") for name in READ):
            raise ConfigError(
                f"{key} would not be read, because fedfuse starts its runs itself",
                allowed="hydra.run.dir, hydra.sweep.dir, hydra.sweep.subdir, hydra.searchpath, "
                "hydra/launcher",
                next_step="Leave it out.",
            )
