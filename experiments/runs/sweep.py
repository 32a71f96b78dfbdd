"""A whole sweep, new or gone on with: its runs one after the other, or all of them together."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.config import compose
from experiments.config.paths import absolute
from experiments.config.untrusted import read_config
from experiments.pack.preflight import packed
from experiments.runs import sweep_plan
from experiments.runs.display import Display, show
from experiments.runs.effort import SweepClock
from experiments.runs.failures import EXPECTED, Expected
from experiments.runs.lifecycle import SHARED, Run, again, open_run
from experiments.runs.packed import perform_together
from experiments.runs.resume import reopen_run, resumed_config
from experiments.runs.sweep_plan import FOLDER, Planned
from fedfuse.errors import ConfigError
from fedfuse.files import confined
from server.reporters.folder import CHECKPOINTS, RunFolder

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep whose plan is in its folder.

    Args:
        path: Its folder.
        planned: Its runs.
        configs: One configuration per run, without Hydra's own node.
        lines: The command line that goes on with it.
        hydra: Composes what that command line changes; None for a sweep that has not begun.
    """

    path: Path
    planned: Sequence[Planned]
    configs: Sequence[DictConfig]
    lines: Sequence[str] = ()
    hydra: Hydra | None = None

    def unfinished(self) -> list[int]:
        """Return the numbers of the runs that have not finished."""
        numbers = enumerate(self.planned)
        return [n for n, run in numbers if sweep_plan.status(self.path, run) != "finished"]

    def open(self, number: int) -> Run:
        """Open a run: the one that was broken off goes on, if it was saved, or begins anew."""
        planned, cfg = self.planned[number], self.configs[number]
        path = self.path / planned.folder
        if sweep_plan.status(self.path, planned) is not None:
            saved = cfg.checkpoint.every or (path / CHECKPOINTS).is_dir()
            if self.hydra is not None and saved and (path / "config.yaml").exists():
                return reopen_run(path, list(self.lines), self.hydra, number)
            RunFolder(path).clear()
        with confined.opened(self.path, *planned.folder.split("/"), make=True):
            pass  # it is a folder within the sweep's, whoever wrote the plan
        shared = path.parent / SHARED
        return open_run(cfg, path, planned.overrides, baselines=shared, number=number)

    def job(self, number: int) -> dict[str, Any]:
        """Return a run as a process of ours can be told of it in JSON (:meth:`of_job`)."""
        return {
            "path": str(self.path.absolute()),
            "run": asdict(self.planned[number]),
            "config": pickle.dumps(self.configs[number]).hex(),  # YAML takes ten times as long
            "lines": list(self.lines),
            "goes_on": self.hydra is not None,
            "config_dir": str((self.hydra and compose.own_folder(self.hydra)) or ""),
        }

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> Sweep:
        """Return a sweep of the one run that a :meth:`job` is about."""
        cfg: DictConfig = pickle.loads(bytes.fromhex(job["config"]))  # noqa: S301 - our own
        own = Path(job["config_dir"]) if job["config_dir"] else None
        hydra = compose.open_hydra(own) if job["goes_on"] else None
        return cls(Path(job["path"]), [Planned(**job["run"])], [cfg], job["lines"], hydra)


def new_sweep(path: Path, configs: Sequence[DictConfig]) -> Sweep:
    """Write down what the runs of a sweep will be, before the first of them begins.

    Args:
        path: The folder of the sweep; it exists.
        configs: One configuration per run, each with its ``hydra`` node.
    """
    planned = [
        Planned(compose.subfolder(cfg, number, path), tuple(cfg.hydra.overrides.task))
        for number, cfg in enumerate(configs)
    ]
    plain = [absolute(compose.own_keys(cfg)) for cfg in configs]
    sweep_plan.write(path, planned, plain)
    return Sweep(path, planned, plain)


def reopen_sweep(path: Path, lines: Sequence[str], hydra: Hydra) -> Sweep:
    """Return a sweep that was broken off; all its configurations are checked before one goes on.

    Args:
        path: The folder of the sweep, whoever wrote it.
        lines: The command line: where to run it, and what of a stranger's folder is trusted.
        hydra: Composes what the command line changes.

    Raises:
        FedfuseError: If the plan cannot be read, or the command line changes what the runs are.
    """
    confined.check_plain(path)
    planned = sweep_plan.read(path)
    configs = []
    for name in (f"{number}.yaml" for number in range(len(planned))):
        config = read_config(path, FOLDER, name)
        configs.append(absolute(resumed_config(config, path / FOLDER / name, list(lines), hydra)))
    return Sweep(path, planned, configs, lines, hydra)


Each = Callable[["Sweep", Sequence[int], Display], dict[int, Expected]]
"""Perform runs of a sweep, by their numbers, and return what stopped some of them."""


def perform_sweep(sweep: Sweep, display: Display, each: Each | None = None) -> dict[int, Expected]:
    """Run what of a sweep has not finished, and return what stopped runs, by their number.

    A run that fails does not stop the others; a bug does, and so does Ctrl-C, which leaves a
    sweep that can be gone on with.

    Args:
        sweep: The sweep.
        display: Where it is shown.
        each: Performs its runs; if None one after the other, or together with ``engine.pack``.

    Raises:
        FedfuseError: If another process is at it, or all of its runs have finished.
    """
    with sweep_plan.held(sweep.path):
        todo, total = sweep.unfinished(), len(sweep.planned)
        if not todo:
            raise ConfigError(f"all {total} runs of the sweep in '{sweep.path}' have finished.")
        if sweep.hydra is not None:
            told = f"{total - len(todo)} are done, {len(todo)} to run"
            display.say(f"sweep of {total} runs in {sweep.path}: {told}")
        if each is None:
            together = packed([sweep.configs[number] for number in todo], many=True)
            each = _together if together else _one_by_one
        try:
            errors = each(sweep, todo, display)
        except KeyboardInterrupt as error:
            note_how_to_go_on(sweep, error)
            raise
        display.closed(sweep.path, len(sweep.unfinished()), total)
    return errors


def note_how_to_go_on(sweep: Sweep, error: BaseException) -> None:
    """Note on what broke a sweep off how far it is."""
    done = len(sweep.planned) - len(sweep.unfinished())
    so_far = f"{done} of {len(sweep.planned)} runs are done"
    error.add_note(f"{so_far}. Go on with the sweep: {again(sweep.path)}")


def headline(number: int, total: int, overrides: Sequence[str], left: str = "") -> str:
    """Return which run of a sweep begins, and how long the rest will take."""
    return f"run {number + 1} of {total}: {' '.join(overrides)}{left}"


def _say_headline(sweep: Sweep, number: int, display: Display, left: str = "") -> None:
    display.say("")
    display.say(headline(number, len(sweep.planned), sweep.planned[number].overrides, left))


def _one_by_one(sweep: Sweep, todo: Sequence[int], display: Display) -> dict[int, Expected]:
    clock = SweepClock(sweep.configs, todo)
    errors: dict[int, Expected] = {}
    for number in todo:
        _say_headline(sweep, number, display, clock.begin(number))
        try:
            show(sweep.open(number), display, clock.remaining)
        except EXPECTED as error:
            errors[number] = error
            display.failed(number, error)
        finally:
            clock.end()
    return errors


def _together(sweep: Sweep, todo: Sequence[int], display: Display) -> dict[int, Expected]:
    for number in todo:
        _say_headline(sweep, number, display)
    with display.together() as shown:
        return perform_together((sweep.open(number) for number in todo), shown)
