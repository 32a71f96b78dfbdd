"""What ``fedfuse --help WORD`` prints: a group's options, their keys and what they mean.

Everything is read from the comments of the configuration itself, so that the help cannot say
something else than what runs. Neither Hydra nor torch is imported.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from experiments.config.folder import check_own
from experiments.config.pages import Page, dotted, groups, homes, main_keys, options
from fedfuse.errors import ConfigError, did_you_mean

WIDTH, BESIDE = 80, 40
"""Columns of the page, and where the meaning of a key begins."""


def group_help(words: Sequence[str], config_dir: Path | None = None) -> str:
    """Return the help on groups, options and keys.

    Args:
        words: ``scorer``, ``scorer=knfu``, ``scorer.beta``, ``knfu``, ``client`` or ``num_rounds``.
        config_dir: The user's own configuration folder.

    Raises:
        ConfigError: If a word is none of these, or the folder cannot be read.
    """
    if config_dir is not None:
        check_own(config_dir)
    return "\n".join(_about(word, config_dir) for word in words)


def _about(word: str, config_dir: Path | None) -> str:
    known = groups()
    name, _, option = word.lstrip("+").partition("=")
    if name in known:
        pages = options(name, config_dir)
        if option and option not in pages:
            near = did_you_mean(option, list(pages))
            raise ConfigError(
                f"no '{option}' in group '{name}'.",
                next_step=f"Did you mean '{near}'?" if near else f"See fedfuse --help {name}.",
            )
        default, about = known[name]
        title = f"{name}={option or 'OPTION'}"
        head = textwrap.wrap(f"{title}: {about} (default: {default})", WIDTH)
        shown = {option: pages[option]} if option else pages
        return "\n".join([*head, "", *_pages(name, shown)])
    if (group := name.partition(".")[0]) in known:
        shown = {
            option: Page(page.about, None, keys=kept)
            for option, page in options(group, config_dir).items()
            if (kept := [row for row in page.keys if dotted(group, row[0]) == name])
        }
        if shown:
            return "\n".join(_pages(group, shown))
    keys = main_keys()
    owned = [row for row in keys if row[0] == name or row[0].startswith(f"{name}.")]
    if owned:
        return "\n".join(rows(owned)) + "\n"
    if name != "none" and (found := homes(name, config_dir)):
        return "\n".join(_about(f"{group}={name}", config_dir) for group in found)
    sections = dict.fromkeys(row[0].split(".")[0] for row in keys)
    words = [option for group in known for option in options(group, config_dir)]
    near = did_you_mean(name, [*known, *sections, *words])
    raise ConfigError(
        f"there is no group, option or key '{name}' to tell of",
        allowed=f"a group such as scorer, an option such as scorer=knfu, {', '.join(sections)}",
        next_step=f"Did you mean '{near}'?" if near else "See fedfuse --help.",
    )


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
        yield from rows([(dotted(group, key), value, told) for key, value, told in page.keys])
        yield ""


def _folded(words: str) -> list[str]:
    return textwrap.wrap(
        words, WIDTH, initial_indent="      ", subsequent_indent="        ", break_long_words=False
    )


def rows(keys: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    """Yield ``key: default`` and, beside or below it, what it means."""
    for key, value, told in keys:
        shown = f"      {key}: {value}".rstrip()
        beside = len(shown) < BESIDE - 1
        indent = BESIDE if beside else 10
        lines = textwrap.wrap(told, WIDTH - indent)
        if beside and lines:
            shown = f"{shown:<{BESIDE}}{lines.pop(0)}"
        yield shown
        yield from (" " * indent + line for line in lines)
