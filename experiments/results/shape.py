"""Whether what a run folder says about its run has the form that a run writes, whoever wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.config.damaged import RESTORE
from fedfuse.errors import ConfigError

MOST_CLIENTS, MOST = 2**20, 1e15
"""Clients and numbers that are believed; tables are as large as clients are many."""

_KEYS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    "run.json": {"seed": int, "overrides": list, "test_samples": int, "seconds": (int, float)},
    "config.yaml": {
        "num_clients": int,
        "num_rounds": int,
        "warmup_rounds": int,
        "method": dict,
        **dict.fromkeys(("dataset", "partitioner", "exchange", "evaluation"), dict),
        **dict.fromkeys(("neighbours", "scorer", "model", "client", "prior"), dict),
    },
    "summary.json": {
        "num_clients": int,
        "num_rounds": int,
        "dataset": str,
        "model": str,
        "clients": list,
        "guard": dict,
    },
}
_NEEDED = {"run.json": ("seed",), "config.yaml": ("method",), "summary.json": ("num_clients",)}


class Content(dict[str, Any]):
    """What a file of a run folder says; asked for what it does not say, it names the file.

    Args:
        file: The file.
        values: Its content.
    """

    def __init__(self, file: Path, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._file = file

    def __missing__(self, key: str) -> Any:
        raise ConfigError(
            f"'{self._file}' does not say everything", got=f"no '{key}' in it", next_step=RESTORE
        )


def check_shape(
    record: Mapping[str, Any], config: Mapping[str, Any], summary: Mapping[str, Any]
) -> None:
    """Raise unless the values that readers rely on are of their types.

    Args:
        record: ``run.json``.
        config: ``config.yaml``.
        summary: ``summary.json``; empty for a run that has not finished.

    Raises:
        ValueError: Naming the first value that is something else.
    """
    files = {"run.json": record, "config.yaml": config, "summary.json": summary}
    for name, content in files.items():
        for key, kind in _KEYS[name].items():
            value = content.get(key)
            needed = key in _NEEDED[name] and content
            if (value is not None or needed) and (
                not isinstance(value, kind) or isinstance(value, bool)
            ):
                raise ValueError(f"{name} holds {type(value).__name__} as {key}")
    if not isinstance(config["method"].get("name"), str):
        raise ValueError("config.yaml names no method")
    if summary:
        clients = summary["num_clients"]
        each = summary.get("clients") or []
        if not 1 <= clients <= MOST_CLIENTS or len(each) not in (0, clients):
            raise ValueError(f"summary.json tells of {clients} clients")
        _check_clients(each)
        _check_parts(summary, clients)


def _check_clients(each: list[Any]) -> None:
    if not all(isinstance(client, dict) for client in each):
        raise ValueError("summary.json holds something else than clients")
    counts = [client.get("class_counts") or [] for client in each]
    if len({len(row) if isinstance(row, list) else -1 for row in counts}) > 1 or not all(
        type(count) is int and 0 <= count < 2**53 for row in counts for count in row
    ):
        raise ValueError("summary.json holds class_counts that are none")


def _check_parts(summary: Mapping[str, Any], clients: int) -> None:
    """Check what single parts of a run left in its summary."""
    attack = summary.get("attack") or {}
    liars = attack.get("adversaries") or []
    if not all(type(liar) is int and 0 <= liar < clients for liar in liars):
        raise ValueError("summary.json names adversaries that are no clients")
    membership = summary.get("membership") or {}
    figures = {
        "seconds": summary.get("seconds") or {},
        "guard": summary.get("guard") or {},
        "attack": {"weight": attack.get("weight")},
        **{key: membership[key] for key in ("auc", "auc_worst", "tpr") if membership},
    }
    for name, values in figures.items():
        for key, value in values.items():
            number = type(value) in (int, float) and abs(value) < MOST
            if value is not None and not number:
                raise ValueError(f"summary.json holds no number as {name}.{key}")
