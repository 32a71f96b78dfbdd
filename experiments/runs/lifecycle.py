"""The life of one run: opened, performed, finished or broken off, and how it is gone on with.

Nothing here prints or returns an exit code: what stops a run is raised, after its folder has been
told, and its notes say where the run is and how to go on (PEP 678). Commands print them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedfuse.errors import FedfuseError
from fedfuse.files.limits import FULL

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.runs.baselines import Baselines
    from experiments.runs.failures import Absences
    from experiments.runs.launch import Engine
    from experiments.summary.summary import Summary
    from server.reporters.folder import RunFolder
    from server.reporters.protocol import Reporter

INTERRUPTED = "interrupted"
SHARED = ".baselines"
"""The folder within a sweep's where its runs keep the baselines that they share."""


@dataclass(frozen=True, slots=True)
class Run:
    """A configuration and the folder that is open for it.

    Args:
        cfg: The configuration, without Hydra's own node.
        folder: Where the run is written down.
        overrides: Its command line.
        baselines: Where the runs of its sweep keep the baselines that they share; None for a run
            on its own.
        number: Its number in the sweep, from 0.
    """

    cfg: DictConfig
    folder: RunFolder
    overrides: Sequence[str] = ()
    baselines: Path | None = None
    number: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run that has finished came to.

    Args:
        summary: Its numbers.
        absences: The clients that rounds went on without.
    """

    summary: Summary
    absences: Absences


def open_run(
    cfg: DictConfig,
    path: Path,
    overrides: Sequence[str],
    *,
    baselines: Path | None = None,
    number: int = 0,
) -> Run:
    """Open the folder of a run that has not begun, and write down what it will be.

    Args:
        cfg: Its composed configuration, without Hydra's own node.
        path: The folder; it does not exist yet or is empty.
        overrides: Its command line.
        baselines: Where the runs of its sweep keep the baselines that they share.
        number: Its number in the sweep.

    Raises:
        FedfuseError: If the folder holds anything already, or cannot be written.
    """
    from omegaconf import OmegaConf

    from experiments.config.paths import absolute
    from experiments.runs.environment import environment
    from server.reporters.folder import RunFolder

    run = Run(absolute(cfg), RunFolder(path), list(overrides), baselines, number)
    OmegaConf.resolve(run.cfg)
    text = as_yaml(run.cfg)  # before there is a folder: who is killed leaves one that can be read
    try:
        run.folder.open(overrides=run.overrides, seed=cfg.seed, **environment())
    except OSError as error:
        if error.errno in FULL:
            raise FedfuseError(
                "the disk is full", next_step="Make room; then start the run anew."
            ) from error
        raise
    with last_word(run):
        run.folder.write_config(text)
    return run


def perform(
    run: Run,
    reporters: Sequence[Reporter] = (),
    *,
    engine: Engine | None = None,
    baselines: Baselines | None = None,
) -> Outcome:
    """Train, write everything down and close the folder.

    Args:
        run: An open run.
        reporters: Who watches besides the folder and the reporter that the configuration names.
        engine: What runs the rounds; the configuration's ``engine`` if None.
        baselines: Where shared baselines are; the folder ``run.baselines`` if None.

    Raises:
        FedfuseError: For a mistake of the user's, or a full disk.
        ClientFailedError: If a client fails and ``server.fail_fast`` is set.
    """
    from experiments.config.instantiate import instantiate
    from experiments.runs import launch
    from experiments.runs.baselines import BaselineCache
    from experiments.runs.failures import Absences
    from fedfuse.user_code import blamed
    from server.reporters.files import Files
    from server.reporters.many import Many

    if baselines is None and run.baselines is not None:
        baselines = BaselineCache(run.baselines)
    absences = Absences()
    with last_word(run):
        named: Reporter | None = instantiate(run.cfg.reporter, "reporter")
        extra = [] if named is None else [named]
        reporter = Many([Files(run.folder), absences, *extra, *reporters])
        try:
            summary = launch.run(run.cfg, run.folder, reporter, baselines, engine)
        finally:
            with blamed():  # a reporter of the user's own
                reporter.close()
        if absences.rows:
            run.folder.record(failures=absences.as_list())
        run.folder.finish(summary.as_dict())
    return Outcome(summary, absences)


@contextmanager
def last_word(run: Run) -> Iterator[None]:
    """Whatever stops the block, leave a folder that says so and an error that says how to go on."""
    folder = run.folder
    try:
        yield
    except FedfuseError as error:
        _give_up(folder, str(error), error)
        raise
    except OSError as error:
        if error.errno not in FULL:
            folder.fail(f"{type(error).__name__}: {error}")
            raise
        with suppress(OSError):
            folder.fail("no space left on the disk")
        then = f"go on with: {again(folder.path)}" if _saved(folder) else "start the run anew."
        raise FedfuseError("the disk is full", next_step=f"Make room; then {then}") from error
    except Exception as error:
        _note_failed_client(run, error)
        # A bug, if no client's: what was written may help to find it, so the folder stays.
        folder.fail(f"{type(error).__name__}: {error}")
        raise
    except BaseException as error:  # Ctrl-C, or whoever performs the run wants no more of it
        _give_up(folder, INTERRUPTED, error)
        raise


def abandon(run: Run) -> None:
    """Close a run that was opened and is not performed after all."""
    _give_up(run.folder, INTERRUPTED, KeyboardInterrupt())


def again(folder: Path) -> str:
    """Return the command that goes on with what lies in a folder: a run, or a sweep.

    Code of the user's own is named in it, because a folder alone is not believed.
    """
    from experiments.config.untrusted import own_code

    return shlex.join(["fedfuse", f"resume={folder}", *own_code(folder)])


def as_yaml(cfg: DictConfig) -> str:
    """Return a run's configuration as it is written down."""
    from omegaconf import open_dict

    from experiments.config.plain import as_yaml as written

    with open_dict(cfg.privacy):  # an option of one's own may not know the key; a resumed run must
        cfg.privacy.setdefault("seed", "secret")
    return written(cfg)


def _give_up(folder: RunFolder, reason: str, error: BaseException) -> None:
    """Keep what a broken run measured; leave nothing of one that measured nothing."""
    log = folder.path / "engine.log"
    if not (folder.rounds or folder.resumed):
        if log.name not in reason or not log.exists():
            folder.discard()
            return
        error.add_note(f"the log is {log}")
    with suppress(OSError):  # the disk may be full
        folder.fail(reason)
    if folder.rounds or reason == INTERRUPTED:  # a run that was refused stands where it stood
        error.add_note(f"what was done is in {folder.path}")
        if _saved(folder):
            error.add_note(f"go on with: {again(folder.path)}")


def _note_failed_client(run: Run, error: Exception) -> None:
    """If it is a client that failed, write down which, and how to see it happen alone."""
    from experiments.runs.failures import how_to_repeat
    from server.reporters.files import absence
    from server.transport.answer import ClientFailedError

    if isinstance(error, ClientFailedError):
        kind, words = absence(error.failure)
        run.folder.event(kind, **words)
        where = run.folder.path if _saved(run.folder) else None
        serial = run.cfg.engine.name == "serial"
        for line in how_to_repeat(error.failure, run.overrides, where, serial=serial):
            error.add_note(line)


def _saved(folder: RunFolder) -> bool:
    """Tell whether the run can be gone on with."""
    from server.reporters.folder import CHECKPOINTS

    return (folder.path / CHECKPOINTS).is_dir()
