"""What shipped parts were once called, so that configurations of older runs still mean them."""

from __future__ import annotations

from typing import Any

FORMER = {
    "clients.pretrain": "clients.training.pretrain",
    "fedfuse.density": "fedfuse.familiarity",
    "fedfuse.codec.TopK": "fedfuse.codec.TopKCodes",
    "fedfuse.codec.top_k.TopK": "fedfuse.codec.TopKCodes",
    "fedfuse.privacy.TopK": "fedfuse.privacy.TopKOnly",
    "fedfuse.privacy.blunt.TopK": "fedfuse.privacy.TopKOnly",
}
"""Former packages, modules and parts to today's; what lies in them kept its name."""


NEWER: dict[str, Any] = {"models": "none", "continue_from": None}
"""Keys that older runs do not have, and what those did."""


def today(target: str) -> str:
    """Return the name that a target has today.

    >>> today("fedfuse.density.KuLSIFSelector")
    'fedfuse.familiarity.KuLSIFSelector'
    >>> today("fedfuse.density_of_mine.Score")
    'fedfuse.density_of_mine.Score'
    """
    for former, now in FORMER.items():
        if f"{target}.".startswith(f"{former}."):
            return now + target.removeprefix(former)
    return target


def renamed(node: Any) -> Any:
    """Return a configuration, as plain values, with today's names as its targets."""
    if isinstance(node, dict):
        return {
            key: today(value) if key == "_target_" and isinstance(value, str) else renamed(value)
            for key, value in node.items()
        }
    return [renamed(item) for item in node] if isinstance(node, list) else node
