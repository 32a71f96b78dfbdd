"""What a sweep's folder says of it as a whole: its plan, how far it is, and who is at it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.runs.lifecycle import as_yaml
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files import confined

if TYPE_CHECKING:
    from omegaconf import DictConfig

FOLDER, PLAN = ".sweep", "plan.json"
"""Where a sweep keeps what its runs are: the plan, and each run's configuration."""
TUNING = "tune.json"
"""Where a sweep of trials keeps what they are trials of (:mod:`experiments.tune.study`)."""

FORMAT = 1
LARGEST = 2**24
"""Bytes of a plan; a run takes some 200."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A run of a sweep.

    Args:
        folder: Its folder within that of the sweep.
        overrides: Its command line.
    """

    folder: str
    overrides: tuple[str, ...]


def write(path: Path, runs: Sequence[Planned], configs: Sequence[DictConfig]) -> None:
    """Write down what the runs of a sweep will be, before the first of them begins."""
    folder = path / FOLDER
    folder.mkdir()
    for number, cfg in enumerate(configs):
        (folder / f"{number}.yaml").write_text(as_yaml(cfg), encoding="utf-8")
    plan = {"format": FORMAT, "runs": [asdict(run) for run in runs]}
    # The plan comes last: with it the folder is that of a sweep.
    (folder / PLAN).write_text(json.dumps(plan, ensure_ascii=False), encoding="utf-8")


def is_sweep(path: Path) -> bool:
    """Tell whether a folder is that of a sweep with a plan."""
    return (path / FOLDER / PLAN).is_file() and not (path / "run.json").exists()


def is_tuning(path: Path) -> bool:
    """Tell whether the sweep in a folder holds the trials of ``fedfuse tune``."""
    return (path / FOLDER / TUNING).is_file()


def read(path: Path) -> list[Planned]:
    """Return the runs of a sweep, whoever wrote its plan.

    Raises:
        ConfigError: If it is none that this version can read.
        FedfuseError: If something in it leads elsewhere.
    """
    try:
        plan = json.loads(confined.read(path, FOLDER, PLAN, most=LARGEST))
        if plan["format"] != FORMAT:
            raise ValueError(f"format {plan['format']}")
        runs = [
            Planned(_plain(run["folder"]), tuple(str(line) for line in run["overrides"]))
            for run in plan["runs"]
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"the plan of the sweep in '{path}' cannot be read",
            got=" ".join(str(error).split())[:200] or type(error).__name__,
            next_step="Resume its runs one by one: fedfuse resume=RUN_FOLDER.",
        ) from error
    return runs


def _plain(name: Any) -> str:
    """Return the name of a folder that cannot lead out of the sweep's."""
    if not isinstance(name, str) or any(
        part in ("", ".", "..") or part.startswith(".") for part in name.split("/")
    ):
        raise ValueError(f"{str(name)[:100]!r} as the name of a run's folder")
    return name


def status(path: Path, run: Planned) -> str | None:
    """Return how a run stands: its ``run.json``'s word; None if it has not begun."""
    try:
        record = json.loads(confined.read(path, *run.folder.split("/"), "run.json", most=LARGEST))
        return str(record["status"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return "damaged"


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a sweep as long as the block runs, so that no second process goes on with it.

    Raises:
        FedfuseError: If another one holds it.
    """
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FedfuseError(
                f"the sweep in '{path}' is still running.", next_step="Wait for it, or end it."
            ) from None
        yield
    finally:
        os.close(handle)
