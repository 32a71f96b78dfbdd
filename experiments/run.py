"""The ``fedfuse`` command."""

from __future__ import annotations

import argparse
import errno
import functools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.console import Parser, complain, exit_code, say, say_version
from experiments.job import Job
from experiments.siblings import check_siblings
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.paths import expand
from fedfuse.visible import visible

if TYPE_CHECKING:
    from omegaconf import DictConfig


INTERRUPTED = "interrupted"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (:func:`experiments.console.exit_code`)."""

    def command(words: list[str]) -> int:
        check_siblings()
        return _dispatch(_parse(words))

    return exit_code(command, argv)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("fedfuse")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    args = parser.parse_intermixed_args(argv)
    if args.cfg and args.multirun:
        raise ConfigError("--cfg shows one configuration and cannot be combined with -m.")
    if (args.resolve or args.package) and not args.cfg:
        raise ConfigError("--resolve and --package go with --cfg job.")
    return args


def _dispatch(args: argparse.Namespace) -> int:
    if args.help:
        from experiments.group_help import group_help
        from experiments.usage import usage

        words = [word for word in args.overrides if not word.startswith("resume=")]
        sys.stdout.write(group_help(words, args.config_dir) if words else usage(args.config_dir))
        return 0
    if args.version:
        say_version("fedfuse")
        return 0

    from experiments import compose

    hydra = compose.open_hydra(args.config_dir)
    if (broken := _asked(args.overrides)) is not None:
        if args.multirun or args.cfg:
            raise ConfigError("resume=FOLDER goes on with what was begun, without -m or --cfg.")
        return go_on(broken, args.overrides, hydra)
    asked = args.overrides
    if not args.cfg:
        asked = compose.expand(hydra, asked, multirun=args.multirun)
    lines, configs = compose.check(hydra, asked, multirun=args.multirun)
    if args.cfg:
        hydra.show_cfg(compose.CONFIG, lines, args.cfg, args.package, args.resolve)
        return 0
    for cfg in configs:
        compose.check_parts(cfg)

    from experiments.claim import claim
    from experiments.pack.preflight import packed

    together = packed(configs, many=args.multirun)
    kind = "sweep" if args.multirun else "run"
    key = f"hydra.{kind}.dir"
    named = any(line.lstrip("+").startswith(f"{key}=") for line in lines)
    with claim(Path(configs[0].hydra[kind].dir), exact=named) as path:
        kept = [line for line in lines if not line.lstrip("+").startswith(f"{key}=")]
        quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
        kept.append(f"{key}='{quoted}'")
        codes: list[int]
        if together:
            from experiments.pack import sweep

            trees = (compose.as_job(cfg, number, path) for number, cfg in enumerate(configs))
            jobs = [_open(tree, len(configs)) for tree in trees]
            codes = sweep.train(jobs, _watched)
            _close_sweep(path)
        elif args.multirun:
            task = functools.partial(job, total=len(configs))
            kept.append("hydra.sweeper.params=null")  # they are among the lines already
            batches = hydra.multirun(compose.CONFIG, task, [*kept, "hydra.mode=MULTIRUN"])
            codes = [done.return_value for batch in batches for done in batch]
            _close_sweep(path)
        else:
            codes = [hydra.run(compose.CONFIG, job, [*kept, "hydra.mode=RUN"]).return_value]
    return max(codes)


def job(cfg: DictConfig, total: int | None = None) -> int:
    """Run one configuration and return its exit code.

    Args:
        cfg: The configuration, without Hydra's own node.
        total: The number of runs of the sweep; None for a single run.
    """
    try:
        opened = _open(cfg, total)
    except FedfuseError as error:
        complain(error)
        return 2
    return _watched(opened, _perform)


def _open(cfg: DictConfig, total: int | None) -> Job:
    """Open the folder that Hydra has named for a run."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf, open_dict

    from experiments.facts import facts
    from experiments.places import absolute
    from server.reporters.folder import RunFolder

    cfg, hydra = absolute(cfg), HydraConfig.get()
    if total is not None:
        chosen = " ".join(hydra.overrides.task)
        sys.stdout.write(f"\nrun {hydra.job.num + 1} of {total}: {visible(chosen, None)}\n")
        sys.stdout.flush()
    path = Path(os.path.relpath(hydra.runtime.output_dir))
    folder = RunFolder(path.resolve() if path.parts[0] == ".." else path)
    with open_dict(cfg.privacy):  # an option of one's own may not know the key; a resumed run must
        cfg.privacy.setdefault("seed", "secret")
    folder.open(overrides=list(hydra.overrides.task), seed=cfg.seed, **facts())
    folder.write_config(OmegaConf.to_yaml(cfg, resolve=True))
    shared = None if total is None else folder.path.parent / ".baselines"
    number = 0 if total is None else hydra.job.num
    return Job(cfg, folder, shared, list(hydra.overrides.task), number)


def _asked(lines: list[str]) -> Path | None:
    """Return the folder that ``resume=FOLDER`` names, if the command line does."""
    named = [line for line in lines if line.startswith("resume=")]
    return expand(named[0].split("=", 1)[1]) if named else None


def go_on(path: Path, lines: list[str], hydra: Any) -> int:
    """Go on with the run in the folder ``path`` and return its exit code."""
    from experiments.places import absolute
    from experiments.resume import configuration
    from server.reporters.folder import RunFolder

    folder = RunFolder(path)
    record = folder.take()
    try:
        cfg = absolute(configuration(path, record, lines, hydra))
        folder.reopen()
    except BaseException:
        folder.release()
        raise
    shared = path.resolve().parent / ".baselines"
    here = shared.is_dir() and not shared.is_symlink()
    begun = Job(cfg, folder, shared if here else None, folder.overrides())
    return _watched(begun, _perform)


def _watched(job: Job, perform: Callable[[Job], None]) -> int:
    """Run all rounds, and tell what stops them."""
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
        say(f"error: the disk is full. Make room; then go on with {_again(folder)}")
        return 2
    except Exception as error:
        from experiments.failures import told
        from server.answer import ClientFailedError
        from server.reporters.files import absence

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


def _perform(job: Job) -> None:
    from rich.console import Console

    from experiments import closing, launch, table
    from experiments.baselines import Shelf
    from experiments.failures import Absences
    from experiments.watchers import build_watchers
    from server.reporters.files import Files
    from server.reporters.lines import Lines
    from server.reporters.many import Many
    from server.reporters.panel import Panel

    cfg, folder = job.cfg, job.folder
    console = Console(highlight=False)
    live = console.is_terminal and not console.is_dumb_terminal
    absences = Absences()
    screen = Panel(console) if live else Lines()
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


def _close_sweep(path: Path) -> None:
    """Print what the runs of a sweep say together."""
    from rich.console import Console

    from experiments import closing

    closing.table(path, Console(highlight=False))


def _give_up(folder: Any, reason: str) -> None:
    """Keep what a broken run measured; leave nothing of one that measured nothing."""
    if not (folder.rounds or folder.resumed):
        folder.discard()
        return
    with suppress(OSError):  # the disk may be full
        folder.fail(reason)
    if folder.rounds or reason == INTERRUPTED:  # a run that was refused stands where it stood
        say(f"what was done is in {folder.path}")
        if (folder.path / "checkpoint").is_dir():
            say(f"go on with: {_again(folder)}")


def _again(folder: Any) -> str:
    return shlex.join(["fedfuse", f"resume={folder.path}"])


if __name__ == "__main__":
    sys.exit(main())
