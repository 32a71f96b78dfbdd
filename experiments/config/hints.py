"""The words of fedfuse for a misspelt option, group, key or parameter."""

from __future__ import annotations

from collections.abc import Iterable

from fedfuse.errors import ConfigError, did_you_mean


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
    nearest = did_you_mean(word, names)
    said = [f"Did you mean '{nearest}'?"] if nearest else []
    if names:
        said.append(f"{label}: {', '.join(names)}.")
    return " ".join(said)


def unknown_option(group: str, word: object, options: Iterable[str]) -> ConfigError:
    """Return the error for an option that a group does not have."""
    return ConfigError(f"no '{word}' in group '{group}'.", next_step=hint(str(word), options))


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
    nearest = ending[0] if len(ending) == 1 else did_you_mean(key, names)
    after = (
        f"Did you mean '{nearest}'?"
        if nearest
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
