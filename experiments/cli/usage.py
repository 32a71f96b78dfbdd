"""What ``fedfuse --help`` prints; it imports neither Hydra nor torch, so that it is instant."""

from __future__ import annotations

import textwrap
from pathlib import Path

from experiments.config.folder import check_own
from experiments.config.pages import groups, option_files

HEAD = """\
fedfuse: does fusing knowledge beat local training? Clients share predictions on
a public set; a server fuses them into one personal teacher per client.

  fedfuse [GROUP=OPTION ...] [KEY=VALUE ...] [-m] [--config-dir DIR] [--cfg job]
  fedfuse list [GROUP]         the groups, or a group's options, a line each
  fedfuse show GROUP=OPTION    what it sets, where it is from, what is verified
  fedfuse partition [WORDS]    who would hold what, without training
  fedfuse tune [WORDS]         a method's settings, chosen on validation data
  fedfuse completion SHELL     TAB completes it all: bash, zsh or fish

groups, each with its options (* is the default):
"""

TAIL = """
  -m, --multirun     run every combination of values written as a,b,c;
                     workers=N runs N at a time, each in a process
  --config-file FILE  run what a YAML file says (keys, a sweep), and print the
                     command it equals; words beside it win
  --config-dir DIR   also look for options in DIR/GROUP/OPTION.yaml
  --cfg job          print the configuration with all its keys, and stop
  --help WORD        print what a group, option or key means: --help scorer,
                     --help method=knfu, --help client, --help experiment
  --traceback        with an error show every frame that led to it
  --version          print the version, and stop

examples:
  fedfuse
  fedfuse show method=fedmd
  fedfuse partition partitioner.alpha=0.1 -o who.png
  fedfuse tune method=fedmd trials=8
  fedfuse method=fedmd partitioner=dirichlet partitioner.alpha=0.1
  fedfuse -m method=local,mean,knfu seed=0,1,2
  fedfuse method=knfu neighbours=top_k sharpen=era
  fedfuse -m experiment=k4
  fedfuse --config-file study.yaml
  fedfuse partitioner._target_=my_module.my_partitioner
  fedfuse scorer._target_=my_module.score name=mine
  fedfuse resume=FOLDER              (of a run, or of a sweep)
"""


def usage(config_dir: Path | None = None) -> str:
    """Return the help text, at most 80 columns wide.

    Raises:
        ConfigError: If the user's own configuration folder cannot be read.
    """
    if config_dir is not None:
        check_own(config_dir)
    lines: list[str] = []
    column = max(map(len, groups())) + 3
    for group, (default, _) in groups().items():
        names = option_files(group, config_dir)
        shown = (f"{word}*" if word == default else word for word in names)
        lines += textwrap.wrap(
            ", ".join(shown),
            width=80,
            initial_indent=f"  {group}".ljust(column),
            subsequent_indent=" " * column,
            break_long_words=False,
        )
    return HEAD + "\n".join(lines) + "\n" + TAIL
