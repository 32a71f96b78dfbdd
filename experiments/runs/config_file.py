"""``--config-file FILE``: every command takes what a study file says in place of words."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import TYPE_CHECKING

from fedfuse.errors import FedfuseError

if TYPE_CHECKING:
    from experiments.runs.study import Study

CONFIG_FILE = "--config-file"
"""The option that names a study file (:mod:`experiments.runs.study`)."""


def with_file(
    words: list[str],
    command: Callable[[list[str], Study | None], int],
    *,
    commands: Container[str] = (),
    sweeps: bool = False,
) -> int:
    """Run a command whose words may name a study file, and return its exit code.

    Args:
        words: The command line.
        command: Takes it with what the file says in the place of its name, and the file.
        commands: The first words that are no overrides.
        sweeps: Whether ``-m`` is added for a file that sweeps.

    Raises:
        FedfuseError: What the command raises, with the line if its cause is in the file.
    """
    if not any(word.partition("=")[0] == CONFIG_FILE for word in words):
        return command(words, None)
    from experiments.runs.study import with_study

    words, study = with_study(words, commands, sweeps=sweeps)
    try:
        return command(words, study)
    except FedfuseError as error:
        if study is not None:
            study.locate(error)
        raise


def first_word(words: Sequence[str]) -> int | None:
    """Return the position of the first word that is neither an option nor an option's value.

    >>> first_word(["--config-dir", "mine", "list"]), first_word(["-m"])
    (2, None)
    """
    value = False
    for at, word in enumerate(words):
        if not value and not word.startswith("-"):
            return at
        value = word in ("--config-dir", "-cd", CONFIG_FILE)
    return None
