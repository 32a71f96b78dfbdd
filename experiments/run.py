"""The ``fedfuse`` command."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.commands import subcommand
from experiments.cli.package_guard import check_siblings
from experiments.runs import sweep
from experiments.runs.job import Job
from experiments.runs.lifecycle import again, perform, watched, written
from experiments.terminal.console import Parser, complain, exit_code, say, say_version
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files.paths import expand
from fedfuse.safe_text import visible

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.runs.effort import SweepClock


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""

    def command(words: list[str]) -> int:
        check_siblings()
        done = subcommand(words)
        return _dispatch(_parse(words)) if done is None else done

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
        from experiments.cli.group_help import group_help
        from experiments.cli.usage import usage

        words = [word for word in args.overrides if not word.startswith("resume=")]
        sys.stdout.write(group_help(words, args.config_dir) if words else usage(args.config_dir))
        return 0
    if args.version:
        say_version("fedfuse")
        return 0

    from experiments.config import compose

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
    from experiments.assembly.build_all import check_parts

    for cfg in configs:
        check_parts(cfg)

    from experiments.pack.preflight import packed
    from experiments.runs.effort import SweepClock
    from experiments.runs.reserve import claim

    together = packed(configs, many=args.multirun)
    kind = "sweep" if args.multirun else "run"
    key = f"hydra.{kind}.dir"
    named = any(line.lstrip("+").startswith(f"{key}=") for line in lines)
    with claim(Path(configs[0].hydra[kind].dir), exact=named) as path:
        kept = [line for line in lines if not line.lstrip("+").startswith(f"{key}=")]
        quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
        kept.append(f"{key}='{quoted}'")
        if not args.multirun:
            return int(hydra.run(compose.CONFIG, job, [*kept, "hydra.mode=RUN"]).return_value)
        runs = [
            sweep.Planned(compose.subfolder(cfg, number, path), tuple(cfg.hydra.overrides.task))
            for number, cfg in enumerate(configs)
        ]
        sweep.write(path, runs, configs)
        with _whole(path, runs):
            if together:
                from experiments.pack.sweep import train

                trees = (compose.as_job(cfg, number, path) for number, cfg in enumerate(configs))
                return max(train([_open(tree, len(configs)) for tree in trees], watched))
            clock = SweepClock(configs, range(len(configs)))
            task = functools.partial(job, total=len(configs), clock=clock)
            kept.append("hydra.sweeper.params=null")  # they are among the lines already
            batches = hydra.multirun(compose.CONFIG, task, [*kept, "hydra.mode=MULTIRUN"])
        return max(int(done.return_value) for batch in batches for done in batch)


def job(cfg: DictConfig, total: int | None = None, clock: SweepClock | None = None) -> int:
    """Run one configuration and return its exit code.

    Args:
        cfg: The configuration, without Hydra's own node.
        total: The number of runs of the sweep; None for a single run.
        clock: Knows how long the sweep will take.
    """
    try:
        opened = _open(cfg, total, clock)
    except FedfuseError as error:
        complain(error)
        return 2
    return _timed(opened, clock)


def _timed(begun: Job, clock: SweepClock | None) -> int:
    """Do a run, and let its sweep's clock know when it has ended."""
    if clock is None:
        return watched(begun, perform)
    try:
        return watched(begun, functools.partial(perform, sweep=clock.shown))
    finally:
        clock.end()


def _headline(number: int, total: int, overrides: Sequence[str], clock: SweepClock | None) -> None:
    """Say which run of a sweep begins."""
    left = "" if clock is None else clock.begin(number)
    chosen = visible(" ".join(overrides), None)
    sys.stdout.write(f"\nrun {number + 1} of {total}: {chosen}{left}\n")
    sys.stdout.flush()


def _open(cfg: DictConfig, total: int | None, clock: SweepClock | None = None) -> Job:
    """Open the folder that Hydra has named for a run."""
    from hydra.core.hydra_config import HydraConfig

    from experiments.config.paths import absolute
    from experiments.runs.environment import facts
    from server.reporters.folder import RunFolder

    cfg, hydra = absolute(cfg), HydraConfig.get()
    if total is not None:
        _headline(hydra.job.num, total, hydra.overrides.task, clock)
    path = Path(os.path.relpath(hydra.runtime.output_dir))
    folder = RunFolder(path.resolve() if path.parts[0] == ".." else path)
    folder.open(overrides=list(hydra.overrides.task), seed=cfg.seed, **facts())
    folder.write_config(written(cfg))
    shared = None if total is None else folder.path.parent / ".baselines"
    number = 0 if total is None else hydra.job.num
    return Job(cfg, folder, shared, list(hydra.overrides.task), number)


def _asked(lines: list[str]) -> Path | None:
    """Return the folder that ``resume=FOLDER`` names, if the command line does."""
    named = [line for line in lines if line.startswith("resume=")]
    return expand(named[0].split("=", 1)[1]) if named else None


def go_on(path: Path, lines: list[str], hydra: Any) -> int:
    """Go on with the run or the sweep in the folder ``path`` and return its exit code."""
    if sweep.is_sweep(path):
        return _go_on_with_all(path, lines, hydra)
    return watched(_take(path, lines, hydra), perform)


def _take(path: Path, lines: list[str], hydra: Any) -> Job:
    """Open the folder of a run that was broken off."""
    from experiments.config.paths import absolute
    from experiments.runs.resume import configuration
    from server.reporters.folder import RunFolder

    folder = RunFolder(path)
    record = folder.take()
    try:
        cfg = absolute(configuration(path, record, lines, hydra))
        folder.reopen()
    except BaseException:
        folder.release()
        raise
    return Job(cfg, folder, _baselines(path.resolve().parent), folder.overrides())


def _baselines(path: Path) -> Path | None:
    """Return where the runs of a sweep share baselines; None for a run on its own."""
    shared = path / ".baselines"
    return shared if shared.is_dir() and not shared.is_symlink() else None


def _go_on_with_all(path: Path, lines: list[str], hydra: Any) -> int:
    """Go on with a sweep: the run that was broken off, and those that never began."""
    from experiments.config.paths import absolute
    from experiments.config.untrusted import read_config
    from experiments.pack.preflight import packed
    from experiments.runs.effort import SweepClock
    from experiments.runs.resume import trusted
    from fedfuse.files import confined
    from server.reporters.folder import CHECKPOINTS, RunFolder

    confined.check_plain(path)
    runs = sweep.read(path)
    with _whole(path, runs):
        states = {number: sweep.status(path, run) for number, run in enumerate(runs)}
        todo = [number for number, state in states.items() if state != "finished"]
        if not todo:
            raise ConfigError(f"all {len(runs)} runs of the sweep in '{path}' have finished.")
        plain = [read_config(path, sweep.FOLDER, f"{number}.yaml") for number in range(len(runs))]
        # All are checked before the first goes on, as they were when the sweep began.
        configs = [
            absolute(trusted(config, path / sweep.FOLDER / f"{number}.yaml", lines, hydra))
            for number, config in enumerate(plain)
        ]
        sys.stdout.write(f"sweep of {len(runs)} runs in {visible(str(path), None)}: ")
        sys.stdout.write(f"{len(runs) - len(todo)} are done, {len(todo)} to run\n")
        clock = SweepClock(configs, todo)

        def begin(number: int) -> Job:
            run = runs[number]
            _headline(number, len(runs), run.overrides, clock)
            own = path / run.folder
            if states[number] is not None:
                saved = configs[number].checkpoint.every or (own / CHECKPOINTS).is_dir()
                if saved and (own / "config.yaml").exists():
                    return _take(own, lines, hydra)
                held = RunFolder(own)
                held.take()  # nobody else is at it
                held.release()
                confined.remove(path, *run.folder.split("/"))
            return _begin(configs[number], path, run, number)

        if packed([configs[number] for number in todo], many=True):
            from experiments.pack.sweep import train

            return max(train([begin(number) for number in todo], watched))
        codes = []
        for number in todo:
            try:
                codes.append(_timed(begin(number), clock))
            except FedfuseError as error:
                complain(error)
                codes.append(2)
    return max(codes)


def _begin(cfg: DictConfig, path: Path, run: sweep.Planned, number: int) -> Job:
    """Open the folder of a sweep's run that has not begun."""
    from experiments.runs.environment import facts
    from fedfuse.files import confined
    from server.reporters.folder import RunFolder

    *parents, name = run.folder.split("/")
    with confined.opened(path, *parents, name, make=True):
        folder = RunFolder(path / run.folder)
    folder.open(overrides=list(run.overrides), seed=cfg.seed, **facts())
    folder.write_config(written(cfg))
    shared = folder.path.parent / ".baselines"
    return Job(cfg, folder, shared, list(run.overrides), number)


@contextmanager
def _whole(path: Path, runs: Sequence[sweep.Planned]) -> Iterator[None]:
    """Hold a sweep, print at its end what its runs say together, and how to go on if it breaks."""
    from rich.console import Console

    from experiments.summary import closing

    with sweep.held(path):
        try:
            yield
        except KeyboardInterrupt:
            done = sum(sweep.status(path, run) == "finished" for run in runs)
            say(f"{done} of {len(runs)} runs are done. Go on with the sweep: {again(path)}")
            raise
        closing.table(path, Console(highlight=False))
        shown = visible(str(path), None)
        sys.stdout.write(f"sweep folder: {shown}\n")
        sys.stdout.write(f"as a page: {visible(shlex.join(['fedfuse-report', str(path)]), None)}\n")
        broken = [run for run in runs if sweep.status(path, run) != "finished"]
        if broken:
            sys.stdout.write(f"{len(broken)} of {len(runs)} runs did not finish: {again(path)}\n")


if __name__ == "__main__":
    sys.exit(main())
