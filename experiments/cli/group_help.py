"""What ``fedfuse --help WORD`` prints: a group's options, their keys and what they mean.

Everything is read from the comments of the configuration itself, so that the help cannot say
something else than what runs. Neither Hydra nor torch is imported.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.config.folder import CONF, natural
from fedfuse.errors import ConfigError, did_you_mean

WIDTH, BESIDE = 80, 40
"""Columns of the page, and where the meaning of a key begins."""
KEY = re.compile(r"^( *)([\w.]+):(?: +([^#\s].*?))?(?: +# *(.*))?$")
CHOICE = re.compile(r"^  - (?:override )?/?([\w/]+): (\w+)(?: +# *(.*))?$")
UNTOLD = ("defaults", "hydra", "_target_", "method.name", "name")
"""Keys that nobody sets by hand."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a YAML file says of itself.

    Args:
        about: The comment at its head, in one line.
        target: The class or function that it names; None without one.
        choices: What it chooses of other groups.
        keys: Dotted key, default and meaning of each key.
        sweeps: For an experiment, the key and the values that it sweeps over.
    """

    about: str
    target: str | None
    choices: dict[str, str] = field(default_factory=dict)
    keys: list[tuple[str, str, str]] = field(default_factory=list)
    sweeps: dict[str, str] = field(default_factory=dict)


def read_page(file: Path) -> Page:
    """Read a file of the configuration by its lines, because a YAML parser drops the comments."""
    lines = file.read_text(encoding="utf-8").splitlines()
    head = list(_head(lines))
    target, choices, keys, sweeps = None, {}, [], {}
    section: list[tuple[int, str]] = []
    for line in lines:
        if (found := CHOICE.match(line)) and not (section and section[0][1] != "defaults"):
            choices[found[1]] = found[2]
        if not (found := KEY.match(line)) or line.lstrip().startswith(("- ", "#")):
            continue
        indent, name, value, comment = found.groups()
        section = [(depth, word) for depth, word in section if depth < len(indent)]
        dotted = ".".join([*(word for _, word in section), name])
        section.append((len(indent), name))
        if name == "_target_" and not indent:
            target = value
            head = head or [comment or ""]
        elif name == "name" and not indent and comment:  # engines
            head = head or [comment]
        elif dotted.startswith("hydra.sweeper.params."):
            sweeps[dotted.removeprefix("hydra.sweeper.params.")] = value
        if dotted.split(".")[0] in UNTOLD or dotted in UNTOLD or name == "_target_":
            continue
        keys.append((dotted, value or "", comment or ""))
    parents = {dotted.rpartition(".")[0] for dotted, _, _ in keys}
    keys = [row for row in keys if row[1] or row[2] or row[0] not in parents]
    keys = [row for row in keys if row[0] != "method"]  # of it there is only its name
    return Page(" ".join(head), target, choices, keys, sweeps)


def _head(lines: Iterable[str]) -> Iterator[str]:
    """Yield the comment at the head of a file, without Hydra's directives."""
    for line in lines:
        if not line.startswith("#"):
            return
        if not line.startswith("# @"):
            yield line.removeprefix("#").strip()


def group_help(words: Sequence[str], config_dir: Path | None = None) -> str:
    """Return the help on groups, options and keys.

    Args:
        words: ``scorer``, ``scorer=knfu``, ``knfu``, ``client`` or ``num_rounds``.
        config_dir: The user's own configuration folder.

    Raises:
        ConfigError: If a word is none of these.
    """
    return "\n".join(_about(word, config_dir) for word in words)


def _about(word: str, config_dir: Path | None) -> str:
    main = CONF / "config.yaml"
    text = main.read_text(encoding="utf-8").splitlines()
    groups = {m[1]: (m[2], m[3] or "") for line in text if (m := CHOICE.match(line))}
    groups.pop("hydra", None)
    name, _, option = word.lstrip("+").partition("=")
    if name in groups:
        options = _options(name, config_dir)
        if option and option not in options:
            near = did_you_mean(option, list(options))
            raise ConfigError(
                f"no '{option}' in group '{name}'.",
                next_step=f"Did you mean '{near}'?" if near else f"See fedfuse --help {name}.",
            )
        default, about = groups[name]
        title = f"{name}={option or 'OPTION'}"
        head = textwrap.wrap(f"{title}: {about} (default: {default})", WIDTH)
        shown = {option: options[option]} if option else options
        return "\n".join([*head, "", *_pages(name, shown)])
    keys = [row for row in read_page(main).keys if row[0].split(".")[0] not in groups]
    owned = [row for row in keys if row[0] == name or row[0].startswith(f"{name}.")]
    if owned:
        return "\n".join(_rows(owned)) + "\n"
    homes = [group for group in groups if name in _options(group, config_dir) and name != "none"]
    if homes:
        return "\n".join(_about(f"{group}={name}", config_dir) for group in homes)
    sections = dict.fromkeys(row[0].split(".")[0] for row in keys)
    known = [option for group in groups for option in _options(group, config_dir)]
    near = did_you_mean(name, [*groups, *sections, *known])
    raise ConfigError(
        f"there is no group, option or key '{name}' to tell of",
        allowed=f"a group such as scorer, an option such as scorer=knfu, {', '.join(sections)}",
        next_step=f"Did you mean '{near}'?" if near else "See fedfuse --help.",
    )


def _options(group: str, config_dir: Path | None) -> dict[str, Page]:
    folders = [CONF] if config_dir is None else [CONF, config_dir]
    files = [file for folder in folders for file in folder.glob(f"{group}/*.yaml")]
    return {
        file.stem: read_page(file) for file in sorted(files, key=lambda file: natural(file.stem))
    }


def _pages(group: str, pages: dict[str, Page]) -> Iterator[str]:
    for option, page in pages.items():
        words = f"{option}: {page.about}" if page.about else option
        yield from textwrap.wrap(
            words, WIDTH, initial_indent="  ", subsequent_indent="      ", break_long_words=False
        )
        own = [f"{key}={value}" for key, value in page.choices.items() if "/" not in key]
        if own:
            yield from _folded("sets " + ", ".join(own))
        if page.sweeps:
            yield from _folded(
                "sweeps over "
                + "; ".join(f"{k}={v.replace(',', ', ')}" for k, v in page.sweeps.items())
            )
        prefix = "" if group in ("method", "experiment") else f"{group}."
        yield from _rows([(prefix + key, value, told) for key, value, told in page.keys])
        yield ""


def _folded(words: str) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent="      ", subsequent_indent="        ", break_long_words=False
    )


def _rows(rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield ``key: default`` and, beside or below it, what it means."""
    for key, value, told in rows:
        shown = f"      {key}: {value}".rstrip()
        beside = len(shown) < BESIDE - 1
        indent = BESIDE if beside else 10
        lines = textwrap.wrap(told, WIDTH - indent)
        if beside and lines:
            shown = f"{shown:<{BESIDE}}{lines.pop(0)}"
        yield shown
        yield from (" " * indent + line for line in lines)
