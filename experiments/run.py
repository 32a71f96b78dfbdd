"""The ``fedfuse`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.cli.commands import COMMANDS, subcommand
from experiments.cli.package_guard import check_packages
from experiments.config.workers import check_several, taken
from experiments.runs.config_file import CONFIG_FILE, with_file
from experiments.terminal.console import Parser, exit_code, say_version, tell
from fedfuse.errors import ConfigError
from fedfuse.files.paths import expand

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from experiments.runs.lifecycle import Run
    from experiments.runs.study import Study


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""

    def command(words: list[str]) -> int:
        check_packages()
        return with_file(words, _command, commands=COMMANDS, sweeps=True)

    return exit_code(command, argv)


def _command(words: list[str], study: Study | None) -> int:
    done = subcommand(words)
    return _dispatch(_parse(words), study) if done is None else done


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = Parser("fedfuse")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--multirun", "-m", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument(CONFIG_FILE)  # read before; here for what was nearly written
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"])
    parser.add_argument("--resolve", action="store_true")
    parser.add_argument("--package", "-p")
    args = parser.parse_intermixed_args(argv)
    if args.cfg and args.multirun:
        raise ConfigError("--cfg shows one configuration and cannot be combined with -m.")
    if (args.resolve or args.package) and not args.cfg:
        raise ConfigError("--resolve and --package go with --cfg job.")
    return args


def _dispatch(args: argparse.Namespace, study: Study | None) -> int:
    if args.help:
        from experiments.cli.group_help import group_help
        from experiments.cli.usage import usage

        words = [word for word in args.overrides if not word.startswith("resume=")]
        sys.stdout.write(group_help(words, args.config_dir) if words else usage(args.config_dir))
        return 0
    if args.version:
        say_version("fedfuse")
        return 0
    from experiments.config import choices, compose

    hydra = compose.open_hydra(args.config_dir)
    workers, words = taken(args.overrides)
    if broken := [word for word in words if word.startswith("resume=")]:
        if args.multirun or args.cfg:
            raise ConfigError("resume=FOLDER goes on with what was begun, without -m or --cfg.")
        return _go_on(expand(broken[0].partition("=")[2]), words, hydra, workers)
    if args.cfg:
        lines, _ = compose.check(hydra, words, multirun=False)
        hydra.show_cfg(choices.CONFIG, lines, args.cfg, args.package, args.resolve)
        return 0
    return _begin(words, hydra, study, workers, multirun=args.multirun)


def _begin(
    lines: list[str], hydra: Hydra, study: Study | None, workers: int, *, multirun: bool
) -> int:
    """Do the run or the sweep that a command line describes, and return the exit code."""
    from experiments.config.compose import own_keys
    from experiments.runs.prepare import launched_elsewhere, prepare
    from experiments.runs.reserve import reserve_for

    check_several(workers, multirun)
    lines, configs = prepare(hydra, lines, multirun=multirun)
    with reserve_for(configs[0], lines, sweep=multirun) as path:
        for line in study.lines() if study else ():
            tell(line)
        if not multirun:
            from experiments.runs.lifecycle import open_run

            given = list(configs[0].hydra.overrides.task)
            return _perform(lambda: open_run(own_keys(configs[0]), path, given))
        from experiments.runs.display import Terminal
        from experiments.runs.hydra_launcher import through_launcher
        from experiments.runs.side_by_side import side_by_side
        from experiments.runs.sweep import new_sweep, perform_sweep

        terminal, each = Terminal(), side_by_side(workers, configs)
        if launched_elsewhere(configs[0]):
            each = through_launcher(hydra, lines, terminal, workers)
        perform_sweep(new_sweep(path, configs), terminal, each)
        return terminal.exit_code


def _go_on(path: Path, lines: list[str], hydra: Hydra, workers: int) -> int:
    """Go on with the run or the sweep in the folder ``path`` and return the exit code."""
    from experiments.runs.sweep_plan import is_sweep, is_tuning
    from experiments.tune.command import go_on

    if is_tuning(path):
        return go_on(path, lines, hydra, workers)
    check_several(workers, sweep := is_sweep(path))
    if not sweep:
        from experiments.runs.resume import reopen_run

        return _perform(lambda: reopen_run(path, lines, hydra))
    from experiments.runs.display import Terminal
    from experiments.runs.side_by_side import side_by_side
    from experiments.runs.sweep import perform_sweep, reopen_sweep

    terminal, plan = Terminal(), reopen_sweep(path, lines, hydra)
    perform_sweep(plan, terminal, side_by_side(workers, plan.configs))
    return terminal.exit_code


def _perform(opened: Callable[[], Run]) -> int:
    """Open a run and perform it in the terminal."""
    from experiments.runs.display import Terminal, show
    from experiments.runs.failures import EXPECTED

    terminal = Terminal()
    try:
        show(opened(), terminal)
    except EXPECTED as error:
        terminal.failed(0, error)
    return terminal.exit_code


if __name__ == "__main__":
    sys.exit(main())
