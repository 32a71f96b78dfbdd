"""Reserve the folder of a run or of a sweep before anything is computed."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf.errors import OmegaConfBaseException

from experiments.runs import sweep_plan
from fedfuse.errors import ConfigError
from fedfuse.files.paths import expand
from server.records.durable import sync_folder

if TYPE_CHECKING:
    from omegaconf import DictConfig

SWEEP_FILE = "multirun.yaml"
LEFT = {SWEEP_FILE, sweep_plan.FOLDER}
"""What is in the folder of a sweep even if none of its runs left anything; Hydra's first."""


@contextmanager
def reserve(wanted: Path, *, exact: bool) -> Iterator[Path]:
    """Yield a new or empty folder, and remove it again if nothing was put there.

    Args:
        wanted: The folder.
        exact: Whether the user named it. If not, a number makes the name unique.

    Raises:
        ConfigError: If the folder is not empty or cannot be made.
    """
    made: list[Path] = []
    try:
        yield _make(wanted, made, exact=exact)
    finally:
        for folder in reversed(made):
            with suppress(OSError):
                if {file.name for file in folder.iterdir()} <= LEFT:
                    (folder / SWEEP_FILE).unlink(missing_ok=True)
                    shutil.rmtree(folder / sweep_plan.FOLDER, ignore_errors=True)
                folder.rmdir()


def reserve_for(
    cfg: DictConfig, lines: Sequence[str], *, sweep: bool = False
) -> AbstractContextManager[Path]:
    """Reserve the folder that a composed configuration names for its run or its sweep.

    Args:
        cfg: The configuration, with Hydra's own node.
        lines: Its command line; a folder that it names is taken as it is or refused.
        sweep: Whether it is one of a sweep's.
    """
    kind = "sweep" if sweep else "run"
    named = any(line.lstrip("+").startswith(f"hydra.{kind}.dir=") for line in lines)
    return reserve(shortest(named_folder(cfg, kind)), exact=named)


def named_folder(cfg: DictConfig, kind: str) -> Path:
    """Return the folder that a composed configuration names for its ``run`` or its ``sweep``.

    Raises:
        ConfigError: If it is made of what there is not.
    """
    try:
        named = str(cfg.hydra[kind].dir)
    except OmegaConfBaseException as error:
        said = str(error).splitlines()[0]
        raise ConfigError(
            f"hydra.{kind}.dir cannot be read: {said}.", next_step="Name a folder without it."
        ) from error
    if not named.strip():
        raise ConfigError(
            f"hydra.{kind}.dir names no folder",
            got=repr(named),
            next_step="Name one, or leave the key out: then it is named by date and time.",
        )
    return expand(named)


def shortest(path: Path) -> Path:
    """Return a path as a person names it: relative if it is below the working folder."""
    below = Path(os.path.relpath(path))
    return below.resolve() if below.parts[:1] == ("..",) else below


def _make(wanted: Path, made: list[Path], *, exact: bool) -> Path:
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            for parent in (*reversed(folder.parents), folder):
                if parent == folder or not parent.exists():
                    parent.mkdir()
                    made.append(parent)
                    sync_folder(parent.parent)
        except FileExistsError:
            if not exact:
                continue
            if not folder.is_dir():
                raise ConfigError(
                    f"the run folder '{folder}' is a file.", next_step="Choose another folder."
                ) from None
            if any(folder.iterdir()):
                raise ConfigError(
                    f"the run folder '{folder}' is not empty, and no run is ever overwritten.",
                    next_step="Choose another folder, or move this one away.",
                ) from None
        except OSError as error:
            raise ConfigError(
                f"the run folder '{folder}' cannot be made: {error.strerror}.",
                next_step="Choose another one with hydra.run.dir=FOLDER "
                "(for -m hydra.sweep.dir=FOLDER).",
            ) from error
        return folder
    raise AssertionError("unreachable")
