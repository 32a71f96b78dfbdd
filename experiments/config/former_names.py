"""What shipped parts were once called, so that configurations of older runs still mean them."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from experiments.config.prior_use import PLAIN_LOSS

FORMER = {
    "clients.pretrain": "clients.training.pretrain",
    "fedfuse.density": "fedfuse.familiarity",
    "fedfuse.codec.TopK": "fedfuse.codec.TopKCodes",
    "fedfuse.codec.top_k.TopK": "fedfuse.codec.TopKCodes",
    "fedfuse.privacy.TopK": "fedfuse.privacy.TopKOnly",
    "fedfuse.privacy.blunt.TopK": "fedfuse.privacy.TopKOnly",
}
"""Former packages, modules and parts to today's; what lies in them kept its name."""


NEWER: dict[str, Any] = {
    "models": "none",
    "continue_from": None,
    "guard": {"_target_": None},
    "features": {"_target_": None},
    "prior": {"tau": 1.0, "floor": 0.5},
    "local_loss": {"_target_": PLAIN_LOSS},
    "uptake": {"_target_": None},
    "request": {"_target_": None},
    "answer": {"_target_": None},
    "wish": {"_target_": None},
    "client": {"left_out": "visit", "clip_norm": None, "distill_lr": None, "local_steps": None},
    "private_augment": {"_target_": None},
    "lr_schedule": {
        "_target_": "fedfuse.train.learning_rate.Constant",
        "warmup": 0.0,
        "per": "round",
    },
    "merge": {"_target_": "fedfuse.merge.Mean"},
    "merge_base": "last",
    "augment": {"_target_": None},
    "server": {"persuasion": False, "student_selects": False},
    "evaluation": {
        "prior": "none",
        "own_test_shift": 0.0,
        "resting": "all",
        "resting_every": 1,
        "resting_sample": 100,
        "probes": [],
        "probe_every": 0,
        "probe_samples": 500,
    },
}
"""Keys that older runs do not have, and what those did."""

GUARDS: dict[str, dict[str, Any]] = {
    "none": {"_target_": None},
    "validation": {"_target_": "fedfuse.guard.Validation", "fewest": 4},
}
"""What ``client.guard`` said, when it was no group, to the option that it is today."""


def with_newer(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration with the keys that are newer than it.

    >>> made = with_newer({"evaluation": {"every": 2}})["evaluation"]
    >>> made["every"], made["resting"], made["probes"]
    (2, 'all', [])
    """
    made = {**deepcopy(NEWER), **config}
    for key, newer in NEWER.items():
        if isinstance(newer, dict) and isinstance(made[key], dict) and "_target_" not in newer:
            made[key] = {**newer, **made[key]}
    return made


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


def first(target: str) -> str:
    """Return the first name of what a target names: whatever it is called, that one stays.

    Of what results depend on, checkpoints and shared baselines keep hashes; they are made with
    first names, so that a part that moves is not taken for another one.

    >>> first("fedfuse.familiarity.KuLSIFSelector"), first("mine.Score")
    ('fedfuse.density.KuLSIFSelector', 'mine.Score')
    """
    matches = [now for now in FORMER.values() if f"{target}.".startswith(f"{now}.")]
    if not matches:
        return target
    longest = max(matches, key=len)
    former = next(name for name, now in FORMER.items() if now == longest)
    return former + target.removeprefix(longest)


def renamed(node: Any, name: Callable[[str], str] = today) -> Any:
    """Return a configuration, as plain values, with other names as its targets: today's."""
    if isinstance(node, dict):
        return {
            key: name(value)
            if key == "_target_" and isinstance(value, str)
            else renamed(value, name)
            for key, value in node.items()
        }
    return [renamed(item, name) for item in node] if isinstance(node, list) else node


def as_today(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration, as plain values, with today's names, and with what it leaves unsaid.

    >>> as_today({"client": {"guard": "validation", "threads": 1}})["client"]
    {'left_out': 'visit', 'clip_norm': None, 'distill_lr': None, 'local_steps': None, 'threads': 1}
    """
    found = with_newer(renamed(config))
    client = found.get("client")
    if isinstance(client, dict) and client.get("guard") in tuple(GUARDS):
        found["client"] = {key: value for key, value in client.items() if key != "guard"}
        found["guard"] = dict(GUARDS[client["guard"]])
    return found


def as_first_written(config: Any) -> Any:
    """Return a configuration with first names, as hashes of it are made.

    >>> as_first_written({"client": {}, "guard": {"_target_": None}})
    {'client': {'guard': 'none'}}
    """
    found = renamed(config, first)
    for word, node in GUARDS.items():
        if found.get("guard") == node:
            found["client"] = {**found["client"], "guard": word}
            del found["guard"]
            break
    return found
