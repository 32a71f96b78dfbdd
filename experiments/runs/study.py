"""``--config-file``: a study file and the command line beside it, as one command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.config.overrides import ALIASES
from experiments.config.study import Said, located, plain_key, read_study
from experiments.config.words import TARGET
from experiments.runs.config_file import CONFIG_FILE, first_word
from experiments.terminal.columns import PAGE, folded
from fedfuse.errors import ConfigError, FedfuseError
from fedfuse.files.paths import expand

_HANDED_OVER = frozenset({"--help", "-h", "--version"})


@dataclass(frozen=True, slots=True)
class Study:
    """A study file, and the command that it and the command line come to.

    Args:
        file: The file.
        words: The command, without the word ``fedfuse``.
        kept: What of the file stands in it.
        replaced: What of the file the command line replaces.
    """

    file: Path
    words: list[str]
    kept: Sequence[Said]
    replaced: Sequence[Said]

    def lines(self) -> Iterator[str]:
        """Yield what to print before the first run: the command, to copy."""
        if self.replaced:
            gone = ", ".join(one.override for one in self.replaced)
            yield from folded(f"the command line replaces of {self.file}: {gone}", PAGE)
        yield f"{self.file} equals"
        yield ""
        yield from command_lines(["fedfuse", *self.words])
        yield ""

    def locate(self, error: FedfuseError) -> None:
        """Make an error say where its cause stands, if that is in the file."""
        for one in sorted(self.kept, key=lambda one: -len(one.key)):
            inner = one.key.split(".")[1:] or [one.key]
            inner += [alias for alias, key in ALIASES.items() if key == one.key]
            named = rf"(?<![\w.]){re.escape(one.key)}(?![\w.])"
            if re.search(named, error.what) or any(f"'{word}'" in error.what for word in inner):
                located(error, self.file, one.line)
                return


def with_study(
    words: list[str], commands: Container[str] = (), *, sweeps: bool = True
) -> tuple[list[str], Study | None]:
    """Return a command line in which what a study file says stands in place of its name.

    Args:
        words: The words after ``fedfuse`` or another program's name.
        commands: The first words that are no overrides.
        sweeps: Whether the program takes ``-m``, which is added for a file that sweeps.

    Raises:
        ConfigError: If the file cannot be read, or is named twice or beside ``resume``, or it
            sweeps where the program cannot.
    """
    rest, files = _taken_out(words)
    if not files or _HANDED_OVER & set(rest):
        return rest, None
    if len(files) > 1:
        raise ConfigError(
            f"{CONFIG_FILE} is given twice", got=" and ".join(files), next_step="Keep one."
        )
    if any(word.startswith("resume=") for word in rest):
        raise ConfigError(
            f"resume goes on with what was begun, and {CONFIG_FILE} begins anew",
            next_step=f"Leave {CONFIG_FILE} {files[0]} away.",
        )
    file = expand(files[0])
    said = read_study(file)
    given = [plain_key(word) for word in rest if "=" in word or word.startswith("~")]
    owners = {key.removesuffix(f".{TARGET}") for key in given}
    replaced = [one for one in said if any(_is_below(one.key, owner) for owner in owners)]
    kept = [one for one in said if one not in replaced]
    at = first_word(rest)
    command = rest[at] if at is not None and rest[at] in commands else None
    if command is not None:
        rest.remove(command)
    merged = [*(one.override for one in kept), *rest]
    swept = [plain_key(one.override) for one in kept if one.swept]
    if swept and not sweeps:
        raise ConfigError(
            f"{file} sweeps over {', '.join(swept)}, and only fedfuse itself sweeps",
            next_step="Name these keys with one value each, or a map's axes as map.seeds: [0, 1].",
        )
    if swept and command is None and not {"-m", "--multirun"} & set(rest):
        if any(word.partition("=")[0] in ("--cfg", "-c") for word in rest):
            raise ConfigError(
                f"--cfg shows one configuration, and {file} sweeps over {', '.join(swept)}",
                next_step=f"Give each one value: {' '.join(f'{key}=...' for key in swept)}.",
            )
        merged = ["-m", *merged]
    return [command, *merged] if command else merged, Study(file, merged, kept, replaced)


def command_lines(words: Sequence[str], width: int = PAGE) -> Iterator[str]:
    r"""Yield a command as a shell takes it, on several lines; a word stays on one.

    >>> print(*command_lines(["fedfuse", "seed=0", "name=a b"], 24), sep="\n")
      fedfuse seed=0 \
          'name=a b'
    """
    line = " "
    for word in map(quoted, words):
        if line.strip() and len(line) + len(word) + 3 > width:
            yield f"{line} \\"
            line = " " * 5
        line += f" {word}"
    yield line


def quoted(word: str) -> str:
    r"""Return a word as a shell takes it.

    >>> quoted("dataset.path='my data'"), quoted("name=$x"), quoted("seed=0,1")
    ('"dataset.path=\'my data\'"', "'name=$x'", 'seed=0,1')
    """
    if "'" in word and not re.search(r'["$`\\!]', word):
        return f'"{word}"'
    return shlex.quote(word)


def _taken_out(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words without the flag, and the files that it names."""
    rest: list[str] = []
    files: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if name != CONFIG_FILE:
            rest.append(word)
            continue
        file = value if equals else next(left, "")
        if not file or file.startswith("-"):
            raise ConfigError(
                f"{CONFIG_FILE} needs a file", next_step=f"Write {CONFIG_FILE} study.yaml."
            )
        files.append(file)
    return rest, files


def _is_below(key: str, owner: str) -> bool:
    return key == owner or key.startswith(f"{owner}.")
