"""Plain values as the words of a command line: what Python and study files say in nested form."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString

from fedfuse.errors import ConfigError

OPTION = "option"
"""The word in a mapping that chooses a group's option: ``dict(option="dirichlet", alpha=0.1)``."""

TARGET = "_target_"
_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_SPECIAL = frozenset({"null", "true", "false", "nan", "inf"})


def assignments(key: str, node: Any, mark: str = "") -> Iterator[str]:
    """Yield the overrides that set a key, or everything below it.

    Args:
        key: The dotted key.
        node: Its plain value; a mapping sets what is below the key.
        mark: What stands before keys that the configuration may not know: ``++``.

    >>> list(assignments("partitioner", {"option": "dirichlet", "alpha": 0.1}))
    ['partitioner=dirichlet', 'partitioner.alpha=0.1']
    """
    if not isinstance(node, dict) or not node:
        yield f"{mark}{key}={text(node)}"
        return
    # What stands beside a target of one's own is new to the configuration.
    inner = "++" if TARGET in node else mark
    for name, value in node.items():
        if name == OPTION:
            yield f"{key}={text(value)}"
        else:
            yield from assignments(
                f"{key}.{name}", value, "" if name == TARGET and not mark else inner
            )


def axis(key: str, nodes: Sequence[Any]) -> str:
    """Return the override that sweeps over several plain values.

    Raises:
        ConfigError: If there are none, or one stands for several keys.

    >>> axis("seed", [0, 1])
    'seed=0,1'
    """
    if not nodes:
        raise ConfigError(f"{key} is swept over no values", got="[]")
    if all(isinstance(node, dict) and set(node) == {TARGET} for node in nodes):
        key, nodes = f"{key}.{TARGET}", [node[TARGET] for node in nodes]
    if any(isinstance(node, dict) for node in nodes):
        raise ConfigError(
            f"{key} is swept over objects with parameters, which are several keys each",
            allowed="options by their names, or functions and objects without parameters",
            next_step="Sweep over the parameter: {'" + key + ".NAME': [1, 2]}.",
        )
    return f"{key}={','.join(map(text, nodes))}"


def text(value: Any) -> str:
    """Return a plain value as the command line has it.

    >>> [text(value) for value in (None, True, 0.1, "knfu", "a, b", ["x", 1], "1")]
    ['null', 'true', '0.1', 'knfu', "'a, b'", '[x,1]', "'1'"]
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, list):
        return f"[{','.join(map(text, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{text(key)}:{text(item)}' for key, item in value.items())}}}"
    plain = _WORD.fullmatch(value) and value.lower() not in _SPECIAL
    return value if plain else str(QuotedString(value, Quote.single).with_quotes())
