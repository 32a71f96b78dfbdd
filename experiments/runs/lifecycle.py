"""The life of one run: do it, tell of what stops it, leave a folder that can be gone on with."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs.job import Job
from experiments.terminal.console import complain, say
from fedfuse.errors import FedfuseError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from server.reporters.folder import RunFolder

INTERRUPTED = "interrupted"


def watched(job: Job, perform: Callable[[Job], None]) -> int:
    """Run all rounds, tell what stops them, and return the exit code."""
    folder = job.folder
    try:
        perform(job)
    except FedfuseError as error:
        _give_up(folder, str(error))
        complain(error)
        return 2
    except KeyboardInterrupt:
        _give_up(folder, INTERRUPTED)
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            folder.fail(f"{type(error).__name__}: {error}")
            raise
        with suppress(OSError):
            folder.fail("no space left on the disk")
        saved = (folder.path / "checkpoint").is_dir()
        then = f"go on with: {again(folder.path)}" if saved else "start the run anew."
        say(f"error: the disk is full. Make room; then {then}")
        return 2
    except Exception as error:
        from experiments.runs.failures import told
        from server.reporters.files import absence
        from server.transport.answer import ClientFailedError

        if isinstance(error, ClientFailedError):
            kind, words = absence(error.failure)
            folder.event(kind, **words)
        # A bug, if no client's: what was written may help to find it, so the folder stays.
        folder.fail(f"{type(error).__name__}: {error}")
        if isinstance(error, ClientFailedError):
            saved = (folder.path / "checkpoint").is_dir()
            where = folder.path if saved else None
            say(told(error, job.overrides, where, serial=job.cfg.engine.name == "serial"))
            return 1
        raise
    return 0


def perform(job: Job, sweep: Callable[[float], str] = lambda _: "") -> None:
    """Train, write everything down, and print the tables.

    Args:
        job: The run.
        sweep: The run's own seconds to what the panel shows of the sweep that it belongs to.
    """
    from rich.console import Console

    from experiments.runs import launch
    from experiments.runs.baselines import Shelf
    from experiments.runs.failures import Absences
    from experiments.runs.watchers import build_watchers
    from experiments.summary import closing, table
    from server.reporters.files import Files
    from server.reporters.lines import Lines
    from server.reporters.many import Many
    from server.reporters.panel import Panel

    cfg, folder = job.cfg, job.folder
    console = Console(highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    absences = Absences()
    screen = Panel(console, sweep) if live else Lines()
    reporter = Many([Files(folder), absences, *build_watchers(cfg), screen])
    shared = None if job.shared is None else Shelf(job.shared)
    try:
        summary = launch.run(cfg, folder, reporter, shared)
    finally:
        reporter.close()
    if absences.rows:
        folder.record(failures=absences.as_list())
    folder.finish(summary.as_dict())
    absences.render(console)
    table.render(summary, console, folder.path)
    closing.verdicts(folder.path, console)


def again(folder: Path) -> str:
    """Return the command that goes on with what lies in a folder: a run, or a sweep.

    Code of the user's own is named in it, because a folder alone is not believed.
    """
    from experiments.config.untrusted import own_code

    return shlex.join(["fedfuse", f"resume={folder}", *own_code(folder)])


def written(cfg: DictConfig) -> str:
    """Return a run's configuration as it is written down."""
    from omegaconf import OmegaConf, open_dict

    with open_dict(cfg.privacy):  # an option of one's own may not know the key; a resumed run must
        cfg.privacy.setdefault("seed", "secret")
    return OmegaConf.to_yaml(cfg, resolve=True)


def _give_up(folder: RunFolder, reason: str) -> None:
    """Keep what a broken run measured; leave nothing of one that measured nothing."""
    log = folder.path / "engine.log"
    if not (folder.rounds or folder.resumed):
        if log.name not in reason or not log.exists():
            folder.discard()
            return
        say(f"the log is {log}")
    with suppress(OSError):  # the disk may be full
        folder.fail(reason)
    if folder.rounds or reason == INTERRUPTED:  # a run that was refused stands where it stood
        say(f"what was done is in {folder.path}")
        if (folder.path / "checkpoint").is_dir():
            say(f"go on with: {again(folder.path)}")
