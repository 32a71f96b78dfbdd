"""``fedfuse tune``: choose a method's settings on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.config.workers import count, taken
from experiments.terminal.console import Parser
from fedfuse.errors import ConfigError, did_you_mean
from fedfuse.files.paths import expand

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from experiments.runs.sweep import Sweep
    from experiments.tune.study import Study

USAGE = """\
fedfuse tune: a method's settings, chosen on its clients' validation data.

  fedfuse tune method=A[,B...] [trials=N] [search=random|halving]
               [GROUP=OPTION ...] [KEY=VALUE ...] [KEY=RANGE ...]
  fedfuse tune resume=FOLDER

Every method gets the same number of trials, the same rounds and the same
federations, whose seeds (from 10000) no table uses. The first trial is the
method as it is; the others draw each key that the method reads from its range.
The highest mean validation accuracy in the last round wins (of equals the
smallest loss); test data are not looked at.

  trials=N           of each method (default: 8)
  search=random      all trials run all rounds; with halving all begin with few
                     rounds, and the best third goes on to three times as many
  KEY=RANGE          a range of your own, also in place of the declared one:
                     a,b,c or 'interval(a,b)' or 'tag(log,interval(a,b))'
  KEY=VALUE          sets a key, which is then not searched over
  seed=A,B           one federation or more for each trial (default: 10000)
  workers=N          trials side by side, each in a process (default: 1)
  hydra.sweep.dir=DIR  the folder (default: tune/DATE/TIME); resume=DIR goes on,
                     also after a failed trial was mended

The folder holds, for each METHOD, METHOD.yaml (for --config-file), METHOD.csv
(every trial) and method/METHOD_tuned.yaml, so that all winners can be named:
fedfuse -m --config-dir FOLDER method=A_tuned,B_tuned seed=0,1,2

  --config-file FILE  run what a YAML file says; words beside it win
  --config-dir DIR   also look for options in DIR/GROUP/OPTION.yaml

examples:
  fedfuse tune method=fedmd trials=8 partitioner.alpha=0.1
  fedfuse tune method=dsfl,ktpfl,selective_fd trials=27 search=halving workers=4
  fedfuse tune method=mean 'optimizer.lr=tag(log,interval(0.0001,0.01))'
"""

TRIALS = 8
DIR = "hydra.sweep.dir"


def run(words: list[str]) -> int:
    """Do a tuning, or go on with one, and return the exit code."""
    parser = Parser("fedfuse tune")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--config-dir", "-cd", type=Path)
    args = parser.parse_intermixed_args(words)
    workers, rest = taken(args.words)
    own, rest = _own(rest)
    trials = count("trials", own.get("trials", str(TRIALS)), 2)
    search = own.get("search", "random")
    from experiments.tune.study import SEARCHES

    if search not in SEARCHES:
        near = did_you_mean(search, SEARCHES)
        raise ConfigError(
            "search is not valid",
            got=repr(search),
            allowed=" or ".join(SEARCHES),
            next_step=f"Did you mean '{near}'?" if near else None,
        )
    from experiments.config import compose

    hydra = compose.open_hydra(args.config_dir)
    if "resume" in own:
        if {"trials", "search"} & set(own):
            raise ConfigError(
                "resume goes on with what was begun, so trials and search cannot be set",
                next_step="Start a new tuning for more trials.",
            )
        path = expand(own["resume"])
        return go_on(path, [f"resume={path}", *rest], hydra, workers)
    return _begin(rest, hydra, trials, search, workers)


def _own(words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return the words that are the tuning's own, and the others."""
    own: dict[str, str] = {}
    rest = []
    for word in words:
        key, equals, value = word.partition("=")
        if key not in ("trials", "search", "resume") or not equals:
            rest.append(word)
        elif key in own:
            raise ConfigError(f"'{key}' is given twice: {own[key]} and {value}.")
        else:
            own[key] = value
    return own, rest


def _begin(words: list[str], hydra: Hydra, trials: int, search: str, workers: int) -> int:
    from datetime import datetime

    from experiments.runs.reserve import named_folder, reserve, shortest
    from experiments.runs.sweep import new_sweep
    from experiments.tune.study import plan

    named = [word for word in words if word.lstrip("+").startswith(f"{DIR}=")]
    study, configs = plan(hydra, words, trials, search)
    wanted = Path("tune") / datetime.now().astimezone().strftime("%Y-%m-%d/%H-%M-%S")
    if named:
        wanted = named_folder(configs[0], "sweep")
    with reserve(shortest(wanted), exact=bool(named)) as path:
        sweep = new_sweep(path, configs)
        study.write(path)
        return _perform(study, sweep, workers)


def go_on(path: Path, lines: list[str], hydra: Hydra, workers: int = 1) -> int:
    """Go on with a tuning that was broken off, or show again what it came to.

    Args:
        path: Its folder.
        lines: The command line, ``resume=FOLDER`` and what it may change of a run that goes on.
        hydra: Composes what it changes.
        workers: Trials side by side.
    """
    from experiments.runs.sweep import reopen_sweep
    from experiments.tune.study import read

    study, sweep = read(path), reopen_sweep(path, lines, hydra)
    runs = len(list(study.places()))
    if runs != len(sweep.planned):
        raise ConfigError(
            f"'{path}' holds a tuning and a sweep that do not fit together",
            got=f"{runs} runs and {len(sweep.planned)}",
            next_step="Begin a new one.",
        )
    return _perform(study, sweep, workers)


def _perform(study: Study, sweep: Sweep, workers: int) -> int:
    from experiments.runs.side_by_side import side_by_side
    from experiments.tune.trials import perform

    return 1 if perform(study, sweep, side_by_side(workers, sweep.configs)) else 0
