"""The subcommands of ``fedfuse``: words that come before groups and keys."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from experiments.runs.config_file import first_word
from experiments.terminal.console import say_version
from fedfuse.errors import ConfigError, did_you_mean

COMMANDS = {
    "list": "experiments.cli.listing",
    "show": "experiments.cli.show",
    "partition": "experiments.cli.partition",
    "tune": "experiments.tune.command",
    "completion": "experiments.cli.completion",
}
"""The module of each. It has the text ``USAGE`` and ``run(words) -> exit code``."""

PROGRAMS = ("advise", "map", "report")
"""What stands alone: ``fedfuse-report`` and the like."""

CLOSED = 141
"""What a shell reports of a program whose reader has gone."""


def subcommand(words: Sequence[str]) -> int | None:
    """Do what a command line asks for whose first word is a subcommand.

    Options may come before it (``fedfuse --config-dir DIR list``). A value is no word of its own,
    so a folder or an option that is called ``list`` stays what it is: ``partitioner=list``.

    Returns:
        The exit code; None if the first word is no subcommand.

    Raises:
        ConfigError: If it is almost one, or a program of its own.
    """
    at = first_word(words)
    options = set(words[: words.index("--")] if "--" in words else words)
    helps = bool({"--help", "-h"} & options)
    if at is None or words[at] not in COMMANDS:
        # Whoever asks for help names what it is about: client is nearly list, and a section.
        if at is not None and "=" not in words[at] and not (helps and words[at] not in PROGRAMS):
            _check_meant(words[at])
        return None
    module = importlib.import_module(COMMANDS[words[at]])
    rest = [*words[:at], *words[at + 1 :]]
    if helps:
        sys.stdout.write(module.USAGE)
        return 0
    if "--version" in options:
        say_version("fedfuse")
        return 0
    try:
        code = int(module.run(rest))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return code


def _check_meant(word: str) -> None:
    near = did_you_mean(word, [*COMMANDS, *PROGRAMS])
    if near is not None:
        program = f"fedfuse{'-' if near in PROGRAMS else ' '}{near}"
        raise ConfigError(f"there is no command '{word}'", next_step=f"Did you mean '{program}'?")
