"""The ``fedfuse-map`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from experiments.runs.config_file import with_file
from experiments.terminal.console import exit_code, say_version
from experiments.terminal.literal import literal
from fedfuse.compare import LOCAL
from fedfuse.errors import ConfigError
from fedfuse.files import confined

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.map.grid import Axes, Cell
    from experiments.runs.study import Study

USAGE = """\
fedfuse-map: where does fusion beat local training, and where does it not?

  fedfuse-map [map.KEY=[A,B,...] ...] [GROUP=OPTION ...] [KEY=VALUE ...]

Runs every method on every federation of a grid, next to local training with the
same data, initial weights and random numbers, and draws the gain.

  map.samples=[50,200]      private samples of every client
  map.alpha=[0.1,1]         Dirichlet alpha of the classes; small is skewed
  map.methods=[local,knfu]  local is always there
  map.seeds=[0,1]           with one seed there is no interval
  map.dir=DIR               the map's folder; name it again to go on with a map
                            (default: maps/DATE/TIME)
  map.workers=auto          processes side by side; auto takes one per core
  engine.pack=true          instead: all cells in one process, their clients one
                            batch in each round (for a GPU)

Every other key and group is as for fedfuse (fedfuse --help). A map that was
interrupted goes on where it stopped: start the same command with the same
map.dir. New samples, alphas, methods and seeds may be added to it.

  --config-file FILE        run what a YAML file says, map.KEY among it; words
                            beside it win
  --config-dir DIR          also look for options in DIR/GROUP/OPTION.yaml
  --traceback               with an error show every frame that led to it
  --version                 print the version, and stop

example:
  fedfuse-map map.samples=[60,240] map.alpha=[0.1,0.5,5] map.seeds=[0,1,2] \\
      map.methods=[mean,knfu] map.dir=mymap num_rounds=5
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done; 1: a cell failed; 2: a mistake of the user's, told in one message; 130: interrupted.
    """
    return exit_code(lambda words: with_file(words, _run), argv)


def _run(argv: list[str], _: Study | None) -> int:
    if {"--help", "-h"} & set(argv):
        sys.stdout.write(USAGE)
        return 0
    if "--version" in argv:
        say_version("fedfuse-map")
        return 0
    lines, config_dir = _options(argv)
    from experiments.config import compose
    from experiments.map.grid import configure, parse

    axes, rest = parse(lines)
    configs = configure(compose.open_hydra(config_dir), axes, rest)
    with _folder(axes.dir) as folder:
        return _draw(folder, axes, configs, rest)


def _options(argv: list[str]) -> tuple[list[str], Path | None]:
    lines, config_dir = [], None
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            given = value if equals else next(words, None)
            if given is None:
                raise ConfigError("--config-dir names no folder.")
            config_dir = Path(given)
        elif word.startswith("-"):
            _unknown(word)
        else:
            lines.append(word)
    return lines, config_dir


def _unknown(word: str) -> NoReturn:
    many = word in ("-m", "--multirun")
    raise ConfigError(
        f"fedfuse-map has no option '{word}'.",
        next_step="Write lists instead: map.seeds=[0,1]." if many else "See fedfuse-map --help.",
    )


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """Yield the map's folder, which nobody else works in meanwhile."""
    new = Path("maps") / datetime.now().astimezone().strftime("%Y-%m-%d/%H-%M-%S")
    folder = wanted or new
    lock = folder / ".lock"
    strange = f"the folder '{folder}' holds something else than a map"
    try:
        if folder.is_dir() and any(folder.iterdir()) and not lock.exists():
            raise ConfigError(f"{strange}.", next_step="Choose another map.dir.")
        folder.mkdir(parents=True, exist_ok=True)
        held = confined.hold(folder, lock.name)
    except BlockingIOError:
        raise ConfigError(
            f"another fedfuse-map is at work in '{folder}'.", next_step="Wait for it."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"the folder '{folder}' cannot be made: {error.strerror}.",
            next_step="Choose another one with map.dir=FOLDER.",
        ) from error
    try:
        confined.check_plain(folder)  # cells are removed and made anew, logs and pictures written
        yield folder
    finally:
        if [entry.name for entry in folder.iterdir()] == [lock.name]:
            lock.unlink()
            folder.rmdir()
        os.close(held)


def _draw(
    folder: Path, axes: Axes, configs: Mapping[Cell, DictConfig], overrides: list[str]
) -> int:
    """Run the cells that are missing, then write the table and the picture."""
    from rich.console import Console

    from experiments.engines.processes import terminable
    from experiments.map import outcome
    from experiments.map.cells import as_sweep, check_data, finished
    from experiments.map.progress import Estimate, Watch
    from experiments.map.together import Together
    from experiments.pack.preflight import packed
    from experiments.runs.pool import Pool

    runs = finished(folder, configs, overrides)
    todo = {cell: cfg for cell, cfg in configs.items() if cell not in runs}
    together = packed(list(configs.values()), many=True)
    check_data(todo)
    wanted = axes.workers or _cores(configs)
    workers = min(len(configs) if together else wanted, len(todo) or 1)
    console = Console(highlight=False)
    how = f"in {workers} process{'es' if workers > 1 else ''}"
    told = (
        f"map of {len(configs)} cells in {folder}: {len(runs)} are done, {len(todo)} to run "
        f"{'together' if together else how}"
    )
    console.print(literal(told), soft_wrap=True)
    log = folder / "map.log"

    def job(cell: Cell) -> dict[str, Any]:
        return as_sweep(folder, cell, configs[cell], overrides).job(0)

    local = {cell: replace(cell, method=LOCAL) for cell in todo if cell.method != LOCAL}
    pool = Together(log, job) if together else Pool(workers, log, job, local)
    failed = 0
    watch = Watch(len(configs), len(runs), Estimate(todo, workers), console)
    try:
        with terminable(), watch:
            for event in pool.run(list(todo)):
                watch.take(event)
                failed += event.kind == "failed"
    except KeyboardInterrupt:
        kept = len(finished(folder, configs, overrides))
        sys.stderr.write(
            f"{kept} of {len(configs)} cells are done. The same command with "
            f"map.dir={folder} goes on.\n"
        )
        raise
    outcome.show_outcome(folder, axes, finished(folder, configs, overrides), console)
    return 1 if failed else 0


def _cores(configs: Mapping[Cell, DictConfig]) -> int:
    from experiments.engines.resources import usable_cpus

    threads = max(int(cfg.client.threads) for cfg in configs.values())
    return max(1, usable_cpus() // threads)
