"""``fedfuse show``: one option whole, or what several words change of the defaults."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.cli.source import docstring, papers
from experiments.config.folder import CONF, check_own
from experiments.config.hints import unknown_option
from experiments.config.pages import (
    WHOLE,
    Page,
    dotted,
    groups,
    homes,
    main_keys,
    option_files,
    options,
)
from experiments.terminal.columns import aligned, folded, page
from experiments.terminal.console import Parser, tell
from fedfuse.errors import ConfigError

USAGE = """\
fedfuse show: what an option is, what it sets, and what words come to.

  fedfuse show GROUP=OPTION    what it is and where it comes from; what it sets,
                               with the defaults that it replaces; the class or
                               function behind it; its keys and what they mean;
                               of a method also the evidence
  fedfuse show WORD WORD ...   what the words change of the defaults, key by key

  --config-dir DIR   also look for options in DIR/GROUP/OPTION.yaml

examples:
  fedfuse show method=knfu
  fedfuse show experiment=k4
  fedfuse show method=fedmd partitioner.alpha=0.1
"""

LABELS = {
    "up": "goes up",
    "server": "on the server",
    "down": "comes down",
    "personal": "personal",
    "measured": "measured",
    "source": "source",
    "verified": "verified",
}
"""How the facts at the head of a method's file are called."""
UNITS = (
    "Bytes per client and round of m public samples, C classes, P parameters, d features; "
    "kB up / down as measured with m=500, C=10 and LeNet-5."
)


def run(words: list[str]) -> int:
    """Print what the words are and return the exit code."""
    parser = Parser("fedfuse show")
    parser.add_argument("words", nargs="*")
    parser.add_argument("--config-dir", "-cd", type=Path)
    args = parser.parse_intermixed_args(words)
    if not args.words:
        raise ConfigError(
            "fedfuse show needs something to show",
            allowed="GROUP=OPTION, or several words as for a run",
            next_step="Try: fedfuse show method=knfu",
        )
    if args.config_dir is not None:
        check_own(args.config_dir)
    for word in args.words:
        _check_word(word, args.config_dir)
    group, _, name = args.words[0].partition("=")
    if len(args.words) > 1 or group not in groups():
        from experiments.cli.changes import changes

        lines = changes(args.words, args.config_dir, page())
    else:
        lines = of_option(group, name, args.config_dir, page())
    for line in lines:
        tell(line)
    return 0


def _check_word(word: str, config_dir: Path | None) -> None:
    """Refuse a word without a value, and say which words with one it may stand for."""
    if "=" in word:
        return
    if word in groups():
        step = f"See what there is with: fedfuse list {word}"
    elif word != "none" and (found := homes(word, config_dir)):
        step = "Try: " + " or ".join(f"fedfuse show {home}={word}" for home in found)
    else:
        step = f"See: fedfuse --help {word}"
    raise ConfigError(f"'{word}' has no value", allowed="GROUP=OPTION or KEY=VALUE", next_step=step)


def of_option(group: str, name: str, config_dir: Path | None, width: int) -> Iterator[str]:
    """Yield the lines about one option.

    Args:
        group: The group.
        name: The option.
        config_dir: The user's own configuration folder.
        width: Columns.

    Raises:
        ConfigError: If the group has no such option.
    """
    files = option_files(group, config_dir)
    if name not in files:
        raise unknown_option(group, name, files)
    shown = options(group, config_dir)[name]
    default = groups()[group][0]
    yield f"{group}={name}"
    if shown.about:
        yield from folded(shown.about, width)
    yield ""
    rows = [(LABELS[fact], shown.facts[fact]) for fact in LABELS if fact in shown.facts]
    rows.append(("default", "yes" if name == default else f"no, {group}={default} is"))
    rows.append(("file", _place(files[name], config_dir)))
    yield from aligned(rows, width, indent=2)
    if "measured" in shown.facts:
        yield ""
        yield from (f"  {line}" for line in folded(UNITS, width - 2))
    if shown.sweeps:
        yield ""
        yield from _sweep(name, shown, width)
    if group in WHOLE:
        yield from _parts(shown, config_dir, width)
        return
    yield ""
    yield from _code(shown, width)
    keys = [(dotted(group, key), value, told) for key, value, told in shown.keys]
    yield from _key_lines(keys, {}, width)


def _sweep(name: str, shown: Page, width: int) -> Iterator[str]:
    """Yield what an experiment sweeps over, and how many runs that is."""
    runs = 1
    for values in shown.sweeps.values():
        runs *= values.count(",") + 1
    yield f"sweeps over {runs} runs: fedfuse -m experiment={name}"
    rows = [(key, values.replace(",", ", ")) for key, values in shown.sweeps.items()]
    yield from aligned(rows, width, indent=2)


def _parts(shown: Page, config_dir: Path | None, width: int) -> Iterator[str]:
    """Yield the options that a method or an experiment chooses, and the keys that it sets."""
    known = groups()
    chosen = {group: name for group, name in shown.choices.items() if group in known}
    before = {key: value for key, value, _ in main_keys()}
    told = {key: about for key, _, about in main_keys()}
    values = {key: value for key, value, _ in shown.keys}
    # Of a group whose keys are set and whose option is not, that is the default.
    for group in {key.split(".")[0]: None for key in values}:
        if group in known:
            chosen.setdefault(group, known[group][0])
    pages = {group: options(group, config_dir).get(name) for group, name in chosen.items()}
    for group, part in pages.items():
        before |= {dotted(group, key): value for key, value, _ in (part.keys if part else ())}
    rows = [
        (f"{group}={name}", _instead(name, known[group][0]), "") for group, name in chosen.items()
    ]
    rows += [
        (f"{key}={value}", _instead(value, before.get(key, "")), told.get(key, ""))
        for key, value in values.items()
    ]
    yield ""
    yield from aligned([("sets", "in place of", ""), *rows], width, indent=2)
    for group, part in pages.items():
        if part is None:
            continue
        yield ""
        yield from folded(f"{group}={chosen[group]}: {part.about}", width)
        yield from _code(part, width)
        keys = [(dotted(group, key), value, about) for key, value, about in part.keys]
        yield from _key_lines(keys, values, width)


def _instead(value: str, default: str) -> str:
    return "(the default)" if value == default else default


def _key_lines(
    keys: list[tuple[str, str, str]], values: Mapping[str, str], width: int
) -> Iterator[str]:
    """Yield ``key=value  meaning``.

    Args:
        keys: Dotted key, value in the option's own file, meaning.
        values: What is set in place of them.
        width: Columns.
    """
    rows = []
    for key, value, about in keys:
        given = values.get(key, value)
        told = [about] if given == value else [f"default {value}", about]
        rows.append((f"{key}={given}", "; ".join(filter(None, told))))
    yield from aligned(rows, width, indent=4)


def _place(file: Path, config_dir: Path | None) -> str:
    """Return a file as it is found: below the installed configuration, or the user's folder."""
    if file.is_relative_to(CONF):
        return f"experiments/conf/{file.relative_to(CONF)}"
    return f"{file} (yours, from --config-dir {config_dir})"


def _code(shown: Page, width: int) -> Iterator[str]:
    """Yield the class or function behind an option, what it says of itself, and its papers."""
    if shown.target in (None, "null", "???"):
        return
    yield f"  {shown.target}"
    doc = docstring(str(shown.target))
    if doc is None:
        yield "    not found from here; it is looked for where fedfuse is started"
        return
    first = " ".join(doc.split("\n\n")[0].split())
    said = [] if first.rstrip(".") in shown.about else [first]
    if found := papers(doc):
        said.append(f"[{', '.join(found)}]")
    yield from (f"    {line}" for line in folded(" ".join(said), width - 4))
