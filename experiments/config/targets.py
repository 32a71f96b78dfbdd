"""What a group's option is called where a person reads it."""

from __future__ import annotations

from typing import cast

from omegaconf import DictConfig


def target_name(node: DictConfig) -> str:
    """Return the last part of a group's ``_target_``, in lower case."""
    return str(node._target_).rsplit(".", 1)[-1].lower()


def brief(node: DictConfig) -> str:
    """Return a group's target and its numbers, as in ``dirichlet(alpha=0.5)``."""
    numbers = {
        name: value
        for name, value in cast("dict[str, object]", node).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    inside = ", ".join(f"{name}={value:g}" for name, value in numbers.items())
    return f"{target_name(node)}({inside})" if inside else target_name(node)
