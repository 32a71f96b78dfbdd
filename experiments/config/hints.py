"""The words of fedfuse for a misspelt option, group, key or parameter."""

from __future__ import annotations

from collections.abc import Iterable

from fedfuse.errors import ConfigError, did_you_mean, nearest

MANY = 20
"""A group with more options than these names the nearest, and the command that lists them all."""


def hint(word: str, known: Iterable[str], label: str = "Options") -> str:
    """Return what to say after an unknown ``word``: the nearest known one, then all of them.

    >>> hint("dirichelt", ["iid", "dirichlet"])
    "Did you mean 'dirichlet'? Options: dirichlet, iid."
    >>> hint("zzz", ["iid"])
    'Options: iid.'
    >>> hint("zzz", [])
    ''
    """
    names = sorted(known)
    near = did_you_mean(word, names)
    said = [f"Did you mean '{near}'?"] if near else []
    if names:
        said.append(f"{label}: {', '.join(names)}.")
    return " ".join(said)


def unknown_option(group: str, word: object, options: Iterable[str]) -> ConfigError:
    """Return the error for an option that a group does not have.

    >>> print(unknown_option("method", "fedmx", ["fedmd", "fedma", *map(str, range(99))]))
    no 'fedmx' in group 'method'. Did you mean 'fedmd' or 'fedma'? All 101: fedfuse list method
    """
    names = sorted(options)
    told = hint(str(word), names)
    if len(names) > MANY:
        near = [f"'{name}'" for name in nearest(str(word), names)]
        either = " or ".join(filter(None, [", ".join(near[:-1]), *near[-1:]]))
        asked = f"Did you mean {either}? " if near else ""
        told = f"{asked}All {len(names)}: fedfuse list {group}"
    return ConfigError(f"no '{word}' in group '{group}'.", next_step=told)


def unknown_key(key: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a word that names neither a key nor a group.

    Args:
        key: What the user wrote left of the ``=``.
        known: Every dotted key, and every group. A key that ends in the word wins over one that
            merely looks like it, so that ``alpha`` leads to ``partitioner.alpha``.
    """
    names = sorted(known)
    tail = key.rsplit(".", 1)[-1]
    ending = [name for name in names if name.endswith(f".{tail}")]
    near = ending[0] if len(ending) == 1 else did_you_mean(key, names)
    after = (
        f"Did you mean '{near}'?"
        if near
        else "'fedfuse --help' lists the groups, 'fedfuse --cfg job' every key."
    )
    return ConfigError(f"there is no key or group '{key}'.", next_step=after)


def unknown_parameter(owner: str, word: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a parameter that a part does not have."""
    names = list(known)
    return ConfigError(
        f"{owner} has no parameter '{word}'.",
        next_step=hint(word, names, "Parameters") or "It has no parameters.",
    )
