"""Runs and sweeps from Python: the command's own way, without its terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from experiments.api.overrides import lines_of
from experiments.api.run import Run
from experiments.api.surroundings import as_found
from experiments.api.sweeps import Sweep
from experiments.config import compose
from experiments.config.contracts import CONTRACTS
from experiments.config.plain import plain
from experiments.config.process_objects import Objects, is_process_object
from experiments.config.untrusted import targets
from experiments.config.words import text
from experiments.runs import sweep as sweeps
from experiments.runs.display import Silent
from experiments.runs.lifecycle import Run as Begun
from experiments.runs.lifecycle import open_run, perform
from experiments.runs.prepare import prepare
from experiments.runs.reserve import reserve_for
from experiments.runs.resume import reopen_run
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files.paths import expand
from fedfuse.safe_text import visible
from server.reporters.folder import CHECKPOINTS
from server.reporters.lines import Lines
from server.reporters.protocol import Reporter
from server.transport.answer import ClientFailedError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

Place = str | Path
"""Where something lies."""

Override = str | Mapping[str, Any]
"""``"KEY=VALUE"``, or a mapping of dotted keys to values."""


def simulate(
    *overrides: Override,
    out: Place | None = None,
    resume: Place | None = None,
    config_dir: Place | None = None,
    progress: bool | Reporter = True,
    **keys: Any,
) -> Run:
    """Run one simulation and return what it left; the same as ``fedfuse KEY=VALUE ...``.

    Args:
        overrides: ``"KEY=VALUE"`` as on the command line, or ``{"partitioner.alpha": 0.1}``.
        out: The run folder; ``outputs/DATE/TIME-METHOD`` if None.
        resume: The folder of a run that was broken off, to go on with. Objects that it began with
            are passed again.
        config_dir: A folder with options of your own, ``config_dir/method/mine.yaml``.
        progress: True prints a line per round, False nothing; or a reporter that watches
            (:class:`server.reporters.protocol.Reporter`).
        keys: The same as ``overrides``, by name. A value is a number, text, True, None, a list, a
            mapping of what is below the key (``client=dict(batch_size=64)``; its word ``option``
            chooses, ``partitioner=dict(option="dirichlet", alpha=0.1)``), or a part itself: a
            function, a class, an instance, and for ``dataset`` arrays ``(x, y)`` or ``(x, y,
            x_test, y_test)``.

    Raises:
        ConfigError: If the configuration asks for what there is not; nothing has run then.
        FedfuseError: For any other mistake of the user's: in data, a model or a part.

    Ctrl-C leaves a folder that ``resume`` goes on with.
    """
    if resume is not None:
        _check_alone(out, "simulate")
    with Objects() as objects, as_found():
        watching = watchers(progress)
        lines = lines_of(overrides, keys, objects)
        hydra = hydra_of(config_dir)
        if resume is not None:
            return _perform(reopen_run(expand(resume), lines, hydra), objects, watching)
        lines += [] if out is None else [f"hydra.run.dir={literal(out)}"]
        lines, (whole,) = prepare(hydra, lines)
        cfg = compose.own_keys(whole)
        check_engine(cfg)
        with reserve_for(whole, lines) as path:
            run = open_run(cfg, path, list(whole.hydra.overrides.task))
            return _perform(run, objects, watching)


def sweep(
    *overrides: Override,
    out: Place | None = None,
    resume: Place | None = None,
    config_dir: Place | None = None,
    progress: bool = True,
    **keys: Any,
) -> Sweep:
    """Run a sweep and return what it left; the same as ``fedfuse -m KEY=VALUE,VALUE ...``.

    A run that fails does not stop the others: ``errors`` of the result says what stopped it, by the
    number of the run.

    Args:
        overrides: ``"KEY=VALUE"`` or ``"KEY=VALUE,VALUE"`` as on the command line, or mappings
            of dotted keys, ``{"partitioner.alpha": [0.1, 1]}``.
        out: The folder; ``multirun/DATE/TIME`` if None.
        resume: The folder of a sweep that was broken off, to go on with.
        config_dir: A folder with options of your own.
        progress: Whether to print a line per round, and which run begins.
        keys: The same as ``overrides``, by name, as for :func:`simulate`; a list is an axis:
            ``seed=[0, 1, 2]``, as is an array. A key whose value is a list takes a list of lists.

    Raises:
        FedfuseError: For a mistake in any of the configurations, before the first run; or if all
            runs failed.
    """
    if resume is not None:
        _check_alone(out, "sweep")
    with Objects() as objects, as_found():
        lines = lines_of(overrides, keys, objects, who="sweep", sweeps=resume is None)
        hydra = hydra_of(config_dir)
        if resume is not None:
            return _perform_all(
                sweeps.reopen_sweep(expand(resume), lines, hydra), objects, progress
            )
        lines += [] if out is None else [f"hydra.sweep.dir={literal(out)}"]
        lines, configs = prepare(hydra, lines, multirun=True)
        for cfg in configs:
            check_engine(compose.own_keys(cfg))
        with reserve_for(configs[0], lines, sweep=True) as path:
            return _perform_all(sweeps.new_sweep(path, configs), objects, progress)


def load_config(*overrides: Override, config_dir: Place | None = None, **keys: Any) -> DictConfig:
    """Return the configuration that :func:`simulate` would run with, checked and resolved.

    Args:
        overrides: As for :func:`simulate`.
        config_dir: A folder with options of your own.
        keys: As for :func:`simulate`.

    Raises:
        FedfuseError: For the first mistake found.
    """
    with Objects() as objects, as_found():
        lines = lines_of(overrides, keys, objects, who="load_config")
        _, (whole,) = prepare(hydra_of(config_dir), lines)
        cfg = compose.own_keys(whole)
        check_engine(cfg)
        OmegaConf.resolve(cfg)
        return cfg


def check_engine(cfg: DictConfig) -> None:
    """Refuse objects of this process where other processes have to build them.

    Raises:
        ConfigError: Naming the first.
    """
    if cfg.engine.name == "serial":
        return
    for where, target in targets(plain(cfg)):
        if is_process_object(target):
            raise ConfigError(
                f"engine={cfg.engine.name} starts other processes, and they cannot import what "
                f"was given as '{where}'",
                got=f"'{target.rsplit('.', 1)[-1]}', an object of this process",
                allowed="a function or class of a module that Python can import; data in a file "
                "(dataset=npz)",
                next_step="Put it into a module and pass it from there, or use engine=serial.",
            )


def watchers(progress: bool | Reporter) -> list[Reporter]:
    """Return who watches a run.

    Raises:
        ConfigError: If it is no reporter.
    """
    if isinstance(progress, bool):
        return [Lines()] if progress else []
    if not all(hasattr(progress, method) for method in CONTRACTS["reporter"].takes):
        raise ConfigError(
            "progress is not valid",
            got=repr(progress),
            allowed="True, False, or a reporter (server.reporters.protocol.Reporter)",
        )
    return [progress]


@contextmanager
def told_from_python(run: Begun) -> Iterator[None]:
    """Let what stops a run say how to go on from here, and be of one kind."""
    path = run.folder.path
    try:
        yield
    except BaseException as error:
        if (path / CHECKPOINTS).is_dir():
            named = targets(plain(run.cfg))
            own = [where for where, target in named if is_process_object(target)]
            given = "".join(f", {where}=..." for where in own)
            error.add_note(f"from Python: fedfuse.simulate(resume={str(path)!r}{given})")
        if isinstance(error, ClientFailedError):
            told = FedfuseError(str(error))
            told.frames, told.whole = error.failure.own, error.failure.traceback
            for note in getattr(error, "__notes__", ()):
                told.add_note(note)
            raise told from error
        raise


def own_targets(configs: Sequence[DictConfig]) -> set[str]:
    """Return the code that configurations of the user's own name."""
    return {target for cfg in configs for _, target in targets(plain(cfg))}


def literal(out: Place) -> str:
    """Return a folder as the command line has it, in which no ${...} is replaced."""
    return text(str(expand(out)).replace("${", r"\${"))


def _perform(run: Begun, objects: Objects, watching: Sequence[Reporter]) -> Run:
    with told_from_python(run):
        check_engine(run.cfg)
        perform(run, watching)
    return Run(run.folder.path.absolute(), objects, own_targets([run.cfg]))


def _perform_all(begun: sweeps.Sweep, objects: Objects, progress: bool) -> Sweep:
    display = _Brief(lambda: [Lines()]) if progress else Silent()
    errors = sweeps.perform_sweep(begun, display)
    if len(errors) == len(begun.planned):
        raise next(iter(errors.values()))
    return Sweep(begun.path.absolute(), objects, own_targets(begun.configs), errors)


class _Brief(Silent):
    """Print which run begins, where rounds are printed too."""

    def say(self, line: str) -> None:
        """Print a line."""
        sys.stdout.write(f"{visible(line, None)}\n")
        sys.stdout.flush()


def hydra_of(config_dir: Place | None) -> Hydra:
    """Return fedfuse's configuration, with the options of a folder of the user's own."""
    return compose.open_hydra(None if config_dir is None else expand(config_dir))


def _check_alone(out: object, who: str) -> None:
    if out is not None:
        raise ConfigError(
            f"fedfuse.{who} goes on in the folder that resume names",
            got=f"out={out!r}",
            next_step="Leave out away.",
        )
