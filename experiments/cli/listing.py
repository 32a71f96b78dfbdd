"""``fedfuse list``: every group, or every option of one, a line each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from experiments.config.folder import check_own
from experiments.config.pages import Page, groups, homes, main_keys, option_files, options
from experiments.terminal.columns import aligned, folded, terminal
from experiments.terminal.console import Parser, tell
from fedfuse.errors import ConfigError, did_you_mean

USAGE = """\
fedfuse list: what there is to choose from.

  fedfuse list                 every group, its default, and what it is about
  fedfuse list GROUP           every option of a group; * is the default,
                               + one of your own

  --config-dir DIR   also look for options in DIR/GROUP/OPTION.yaml

Into a pipe it writes one line for each, whole, without heading:
fedfuse list method | grep -i fedavg

examples:
  fedfuse list method
  fedfuse list partitioner --config-dir my_options
"""

_PUBLISHED = re.compile(r"\d{4}")


def run(words: list[str]) -> int:
    """Print the list and return the exit code."""
    parser = Parser("fedfuse list")
    parser.add_argument("groups", nargs="*")
    parser.add_argument("--config-dir", "-cd", type=Path)
    args = parser.parse_intermixed_args(words)
    if args.config_dir is not None:
        check_own(args.config_dir)
    if len(args.groups) > 1:
        raise ConfigError(
            "fedfuse list tells of all groups, or of one",
            got=" ".join(args.groups),
            next_step=f"Try: fedfuse list {args.groups[0]}",
        )
    width = terminal()
    lines = of_group(args.groups[0], args.config_dir, width) if args.groups else of_all(width)
    for line in lines:
        tell(line)
    return 0


def of_all(width: int | None) -> Iterator[str]:
    """Yield the groups in the order of a round.

    Args:
        width: Columns of the terminal; None for one line each and nothing else.
    """
    rows = [(name, default, about) for name, (default, about) in groups().items()]
    if width is None:
        yield from aligned(rows, None)
        return
    yield from aligned([("group", "default", "what it decides"), *rows], width)
    yield ""
    yield from folded(
        "GROUP=OPTION chooses. 'fedfuse list GROUP' has its options, 'fedfuse show GROUP=OPTION' "
        "one of them whole, 'fedfuse --cfg job' the keys outside of groups.",
        width,
    )


def of_group(group: str, config_dir: Path | None, width: int | None) -> Iterator[str]:
    """Yield the options of a group in natural order.

    Args:
        group: The group.
        config_dir: The user's own configuration folder.
        width: Columns of the terminal; None for one line each and nothing else.

    Raises:
        ConfigError: If there is no such group.
    """
    known = groups()
    if group not in known:
        raise _unknown(group, config_dir)
    default, about = known[group]
    own = set(option_files(group, config_dir)) - set(option_files(group))
    marks = {default: "*"} | dict.fromkeys(own, "+")
    rows = [
        (f"{name}{marks.get(name, '')}", _about(page))
        for name, page in options(group, config_dir).items()
    ]
    if width is None:
        yield from aligned(rows, None)
        return
    yield from folded(f"{group}: {about}", width)
    yield ""
    yield from aligned(rows, width, indent=2)
    yield ""
    told = f"* is the default{f'; + comes from {config_dir}' if own else ''}. "
    yield from folded(f"{told}One of them whole: fedfuse show {group}={default}", width)


def _about(page: Page) -> str:
    """Return what an option is, with the work that it comes from."""
    source = page.facts.get("source", "")
    published = _PUBLISHED.search(source) and source not in page.about
    return f"{page.about} [{source}]" if published else page.about


def _unknown(word: str, config_dir: Path | None) -> ConfigError:
    """Return what to tell of a word that is no group: often it is something else that exists."""
    known = groups()
    group, _, option = word.partition("=")
    told = f"there is no group '{word}'."
    if option and group in known:
        return ConfigError(told, next_step=f"Try: fedfuse show {word}")
    if word != "none" and (found := homes(word, config_dir)):
        shown = " or ".join(f"fedfuse show {home}={word}" for home in found)
        return ConfigError(told, next_step=f"It is an option; try: {shown}")
    if any(key == word or key.startswith(f"{word}.") for key, _, _ in main_keys()):
        return ConfigError(told, next_step=f"It is a key; try: fedfuse --help {word}")
    near = did_you_mean(word, known)
    return ConfigError(
        told,
        next_step=f"Did you mean '{near}'?" if near else f"There are: {', '.join(known)}.",
    )
