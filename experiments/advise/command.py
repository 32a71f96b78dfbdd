"""The ``fedfuse-advise`` command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.runs.config_file import CONFIG_FILE, with_file
from experiments.terminal.console import Parser, exit_code, say_version
from fedfuse.errors import ConfigError

if TYPE_CHECKING:
    from experiments.runs.study import Study

USAGE = """\
fedfuse-advise: will fusing help this federation, or harm it?

  fedfuse-advise RUN                  advice from a run's first rounds
  fedfuse-advise [GROUP=OPTION ...] [KEY=VALUE ...]
                                      run these rounds now (keys as for fedfuse)
  fedfuse-advise fit MAP... -o FILE   learn anew from maps of fedfuse-map
  fedfuse-advise evaluate MAP...      how good was advice on these maps?

It compares fusing with training alone, for the federation and for each client,
on each client's own distribution and on the balanced one. It reads sizes,
validation results and what the shared predictions showed; no test set, and no
later round. What it is worth is printed beside it; docs/advise.md has more.

  --fitted FILE             another advisor than the one that comes with fedfuse
  --json                    print the advice as JSON
  --rounds N                with fit: rounds of the probes to learn from (2)
  -o, --output FILE         with fit: where to; with evaluate: keep the advisor
                            there together with how it did
  --config-file FILE        run these rounds of what a YAML file says
  --config-dir DIR          also look for options in DIR/GROUP/OPTION.yaml
  --traceback               with an error show every frame that led to it
  --version                 print the version, and stop

examples:
  fedfuse-advise partitioner.alpha=0.1 method=knfu
  fedfuse-advise outputs/2026-01-31/12-00-00-knfu
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done; 1: a client of the probe failed; 2: a mistake, told in one message; 130: interrupted.
    """
    return exit_code(lambda words: with_file(words, _run), argv)


def _run(argv: list[str], _: Study | None) -> int:
    parser = Parser("fedfuse-advise")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fitted", type=Path)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--output", "-o", type=Path)
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument(CONFIG_FILE)  # read before; here for what was nearly written
    args = parser.parse_intermixed_args(argv)
    if args.help:
        sys.stdout.write(USAGE)
        return 0
    if args.version:
        say_version("fedfuse-advise")
        return 0
    asked = args.words[0] if args.words and args.words[0] in ("fit", "evaluate") else None
    if args.rounds is not None and asked != "fit":
        raise ConfigError("--rounds goes with fit; an advisor knows the rounds it was fitted on.")
    if args.output is not None and asked is None:
        raise ConfigError("-o goes with fit and evaluate.")
    if asked is not None:
        return _study(asked, args)
    return _advise(args)


def _study(asked: str, args: argparse.Namespace) -> int:
    from experiments.advise import studying
    from fedfuse.advise.advisor import SHIPPED, load_advisor

    maps = [Path(word) for word in args.words[1:]]
    if not maps:
        raise ConfigError(
            f"fedfuse-advise {asked} needs the folder of a map.",
            next_step="Make one with fedfuse-map.",
        )
    if asked == "fit":
        if args.output is None:
            raise ConfigError("fedfuse-advise fit needs a file for what it learns: -o FILE.")
        studying.fit(maps, 2 if args.rounds is None else args.rounds, args.output)
    else:
        advisor = load_advisor(args.fitted or SHIPPED)
        studying.evaluate(maps, advisor, args.output)
    return 0


def _advise(args: argparse.Namespace) -> int:
    from experiments.advise.format import as_json, render
    from experiments.advise.reading import read_probe
    from experiments.results import read_run
    from fedfuse.advise.advisor import SHIPPED, load_advisor

    advisor = load_advisor(args.fitted or SHIPPED)
    folders = [word for word in args.words if "=" not in word]
    if folders and len(args.words) > 1:
        raise ConfigError(
            "advice is on one run folder, or on the probe that overrides describe",
            got=" ".join(args.words),
        )
    if folders:
        path = Path(folders[0])
        _check_one_run(path)
    else:
        from experiments.advise.probing import probe

        code, path = probe(args.words, advisor.rounds, args.config_dir, quiet=args.json)
        if code:
            return code
    run = read_run(path)
    seen = read_probe(run, advisor.rounds)
    if args.json:
        sys.stdout.write(as_json(run, seen, advisor))
    else:
        render(run, seen, advisor)
    return 0


def _check_one_run(path: Path) -> None:
    """Refuse what is no run folder, in words that say what it is."""
    if not path.is_dir():
        raise ConfigError(f"'{path}' is not a folder.", next_step="Name a run's folder.")
    if not any(path.iterdir()):
        raise ConfigError(f"the folder '{path}' is empty.", next_step="Name a run's folder.")
    if not (path / "run.json").is_file():
        below = sorted(file.parent for file in path.glob("*/run.json"))
        below = below or sorted(file.parent for file in path.glob("*/*/run.json"))
        if below:
            raise ConfigError(
                f"'{path}' holds {len(below)} runs",
                allowed=f"one of them, such as {below[0]}",
                next_step="How good advice was on all: fedfuse-advise evaluate FOLDER.",
            )
