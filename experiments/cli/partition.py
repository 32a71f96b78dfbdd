"""``fedfuse partition``: who would hold what, before anything is trained."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.terminal.columns import page
from experiments.terminal.console import Parser, say, tell
from fedfuse.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from experiments.cli.dealt import Dealt

USAGE = """\
fedfuse partition: the partition alone, before any training.

  fedfuse partition [GROUP=OPTION ...] [KEY=VALUE ...]

The words are those of a run, and so is the partition: the same seed deals the
same samples to the same clients. Nothing is trained and no folder is made. Of
an experiment it is the first run's.

Printed are each client's samples (training, validation, own test), its classes
and how they are mixed, and how different the clients are.

  -o, --output FILE  also write a picture (.png, .svg, .pdf) or the numbers
                     (.csv, .json)
  --csv              print the numbers instead: client, split, class, samples
  --json             print everything as JSON
  --config-dir DIR   also look for options in DIR/GROUP/OPTION.yaml

examples:
  fedfuse partition partitioner.alpha=0.1 num_clients=10
  fedfuse partition partitioner=shards dataset=npz dataset.path=my.npz -o a.png
  fedfuse partition partitioner._target_=my_module.my_partitioner seed=1
"""

PICTURES = ("png", "svg", "pdf")
FORMATS = (*PICTURES, "csv", "json")


def run(words: list[str]) -> int:
    """Deal the data out, print and write who holds what, and return the exit code."""
    parser = Parser("fedfuse partition")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--output", "-o", type=Path)
    parser.add_argument("--csv", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    args = parser.parse_intermixed_args(words)
    if args.csv and args.json:
        raise ConfigError("--csv and --json are two forms of one output.", next_step="Keep one.")
    kind = None if args.output is None else _kind(args.output)
    dealt = deal(args.words, args.config_dir)
    if args.json or args.csv:
        sys.stdout.write(_text(dealt, "json" if args.json else "csv"))
    else:
        for line in dealt.lines(page()):
            tell(line)
    if kind is not None:
        _write(dealt, kind, args.output)
        say(f"written: {args.output}")
    return 0


def deal(words: list[str], config_dir: Path | None) -> Dealt:
    """Return the federation that a run of these words would begin with.

    Raises:
        FedfuseError: As a run before its training.
    """
    from omegaconf import OmegaConf

    from experiments.assembly.build_all import check_parts
    from experiments.assembly.parts import build_data
    from experiments.cli.composed import composed
    from experiments.cli.dealt import Dealt
    from experiments.config.paths import absolute
    from experiments.config.targets import brief
    from experiments.engines.hosting import check_sites
    from fedfuse.user_code import blamed

    asked = composed(words, config_dir, "fedfuse partition")
    if asked.axes:
        first = [f"{key}={values.split(',')[0]}" for key, values in asked.axes.items()]
        say(f"the first run of the sweep: {' '.join(first)}")
        asked = composed([*first, *words], config_dir, "fedfuse partition")
    check_parts(asked.cfg)
    keys = [key for key in map(str, asked.cfg) if key != "hydra"]
    cfg = absolute(OmegaConf.masked_copy(asked.cfg, keys))
    with blamed():
        check_sites(cfg)
        data = build_data(cfg)
    return Dealt(
        data, brief(cfg.partitioner) if cfg.sites._target_ is None else "own data", cfg.seed
    )


def _kind(file: Path) -> str:
    """Return the format that a file's name asks for."""
    kind = file.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        near = did_you_mean(kind, FORMATS) if kind else None
        raise ConfigError(
            "--output names a file of no known format",
            got=f"'{file}'",
            allowed=", ".join(f".{name}" for name in FORMATS),
            next_step=f"Did you mean '.{near}'?" if near else None,
        )
    return kind


def _text(dealt: Dealt, kind: str) -> str:
    if kind == "json":
        return json.dumps(dealt.as_json(), indent=2, ensure_ascii=False) + "\n"
    from experiments.report.table import to_csv

    return to_csv(dealt.numbers())


def _write(dealt: Dealt, kind: str, file: Path) -> None:
    """Write a picture or the numbers; an older file of that name makes way."""
    from experiments.report import export
    from experiments.report.page import cannot_write
    from fedfuse.files import confined

    if kind in PICTURES:
        export.write([dealt.figure()], kind, file)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with confined.replacing(file) as new:
            new.write_text(_text(dealt, kind), encoding="utf-8")
    except OSError as error:
        raise cannot_write(file, error) from error
