"""What the commands have in common: exit codes, and mistakes told in one message."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from experiments.terminal.encoding import any_character
from experiments.terminal.garbage import collect_rarely
from fedfuse.errors import ConfigError, FedfuseError, did_you_mean
from fedfuse.files.limits import FULL
from fedfuse.files.paths import expand
from fedfuse.safe_text import visible

INTERRUPTED = 130
TRACEBACK = "--traceback"


class Parser(argparse.ArgumentParser):
    """An argument parser whose mistakes look like all others, and which leaves help to others.

    Args:
        prog: The command.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog=prog, add_help=False, allow_abbrev=False)
        self.add_argument("--help", "-h", action="store_true")
        self.add_argument("--version", action="store_true")

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has to say, with an option that may have been meant."""
        word = next((w for w in message.split() if w.startswith("-")), "")
        flags = [flag for action in self._actions for flag in action.option_strings]
        nearest = did_you_mean(word, flags) if word else None
        raise ConfigError(
            f"{message}.",
            next_step=f"Did you mean '{nearest}'?" if nearest else f"See {self.prog} --help.",
        )


def exit_code(command: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Run a command and return its exit code.

    0: done; 1: a client or a cell failed; 2: a mistake of the user's, told in one message; 130:
    interrupted. Anything else is a bug and keeps its traceback. Every command takes
    ``--traceback``, with which mistakes are told with all their frames.

    Args:
        command: Words to exit code.
        argv: The words; those that the program was started with if None.
    """
    if argv is None:  # this process is the command's
        collect_rarely()
    any_character()
    warnings.formatwarning = _format_warning
    _tell_notices()
    # Behind everything installed, so that a user's folder called 'server' shadows nothing.
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    words = sys.argv[1:] if argv is None else list(argv)
    _Tracebacks.whole = TRACEBACK in words
    try:
        if cache := os.environ.get("FEDFUSE_CACHE"):
            # For the processes of a run that start in other folders.
            os.environ["FEDFUSE_CACHE"] = str(expand(cache).absolute())
        return command([word for word in words if word != TRACEBACK])
    except FedfuseError as error:
        complain(error)
        return 2
    except OSError as error:
        if error.errno not in FULL:
            raise
        at = f" ({error.filename})" if error.filename else ""
        complain(FedfuseError(f"the disk is full{at}", next_step="Make room, then try again."))
        return 2
    except KeyboardInterrupt as error:
        for note in notes(error):
            say(note)
        say("interrupted")
        return INTERRUPTED


def _format_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Return a warning as it is printed: fedfuse's own without the line that gave it."""
    if category.__module__.partition(".")[0] in ("fedfuse", "experiments"):
        return f"warning: {message}\n"
    return _usual(message, category, filename, lineno, line)


_usual = warnings.formatwarning


def complain(error: FedfuseError) -> None:
    """Tell a mistake: in one message, or with every frame where that is asked for."""
    if _Tracebacks.whole:
        sys.stderr.write(error.whole or "".join(traceback.format_exception(error)))
    say(f"error: {error}")
    if error.frames and not _Tracebacks.whole:
        say(f"{TRACEBACK} shows the rest of the traceback.")
    for note in notes(error):
        say(note)


def notes(error: BaseException) -> list[str]:
    """Return what was noted on an error: where the work is that it broke off, how to go on."""
    return list(getattr(error, "__notes__", ()))


def shows_all() -> bool:
    """Tell whether whole tracebacks are asked for."""
    return _Tracebacks.whole


class _Tracebacks:
    """What the command line says of errors; a process runs one command."""

    whole = False


class _Notices(logging.Handler):
    """Say what a command is about while nothing else can be seen."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        say(record.getMessage())


def _tell_notices() -> None:
    for name in ("fedfuse", "experiments"):
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _Notices) for handler in logger.handlers):
            logger.setLevel(logging.INFO)
            logger.addHandler(_Notices())
            logger.propagate = False


def say_version(prog: str) -> None:
    """Print which version this is."""
    from fedfuse import __version__

    sys.stdout.write(f"{prog} {__version__}\n")


def tell(line: str) -> None:
    """Print a line of the output itself, as safely."""
    sys.stdout.write(f"{visible(line, None, lines=True)}\n")


def say(line: str) -> None:
    """Print a line beside the output; what it quotes from data or configuration cannot act."""
    sys.stderr.write(f"{visible(line, None, lines=True)}\n")
