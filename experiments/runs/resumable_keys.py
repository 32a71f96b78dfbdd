"""Which keys of a run may change when it is resumed, declared one by one; every other is fixed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

import torch
from omegaconf import DictConfig

from experiments.config.comparison_keys import UNSAID
from experiments.config.former_names import NEWER, as_first_written
from experiments.config.plain import plain
from experiments.config.prior_use import uses_prior

FINGERPRINT = "(the data)"
"""Where the hash of the data stands among the keys."""


class May(StrEnum):
    """What may become of a key when a run goes on."""

    CHANGE = "change"
    """Results do not depend on it."""
    MOVE = "move"
    """It says where data lies: free as long as the data there has the same hash."""
    STAY = "stay"
    """Results depend on it."""


DECLARED: Mapping[str, May] = {
    "engine.name": May.CHANGE,
    "engine.num_nodes": May.CHANGE,
    "engine.cpus_per_node": May.CHANGE,
    "engine.gpus_per_node": May.CHANGE,  # the device that clients get by it is compared
    "engine.address": May.CHANGE,
    "engine.port": May.CHANGE,
    "engine.credentials": May.CHANGE,
    "engine.timeout": May.CHANGE,
    "engine.pack": May.STAY,  # with trainer=auto it decides who takes the steps
    "checkpoint.every": May.CHANGE,
    "checkpoint.keep": May.CHANGE,
    "reporter": May.CHANGE,
    "models": May.CHANGE,  # what is left behind, not what comes out
    "server.fail_fast": May.CHANGE,  # whether a run goes on, not what comes of it
    "server.device": May.STAY,
    "server.student_epochs": May.STAY,
    "server.student_teaches": May.STAY,
    "server.student_selects": May.STAY,
    "server.persuasion": May.STAY,
    "client.state": May.CHANGE,
    "dataset.path": May.MOVE,
    "dataset.domains": May.MOVE,  # names, shapes and rows are part of the data's hash
    "public.dataset.path": May.MOVE,
    "sites.paths": May.MOVE,
    "partitioner.path": May.MOVE,
    "features.weights_file": May.MOVE,  # features are part of the data's hash
    "features.module.path": May.MOVE,
    **dict.fromkeys(
        (
            "seed", "num_clients", "num_rounds", "warmup_rounds", "temperature", "baseline",
            "budget", "budget_bytes", "val_fraction", "test_fraction", "trainer",
            "continue_from",
            "client.batch_size", "client.local_epochs", "client.distill_epochs",
            "client.distill_batch_size", "client.private_weight", "client.init",
            "client.optimizer_state", "client.threads", "client.device", "client.precision",
            "client.share_class_distribution", "client.left_out", "client.clip_norm",
            "client.distill_lr", "client.local_steps",
            "evaluation.every", "evaluation.batch_size", "evaluation.test_samples",
            "evaluation.own_test_samples", "evaluation.membership", "evaluation.shadow_models",
            "evaluation.own_test_shift", "evaluation.prior", "local_loss", "prior",
            "evaluation.resting", "evaluation.resting_every", "evaluation.resting_sample",
            "evaluation.probes", "evaluation.probe_every", "evaluation.probe_samples",
            "dataset", "sites", "public", "select", "partitioner", "participation", "faults",
            "model", "pretrain", "optimizer", "lr_schedule", "private_augment",
            "scorer", "neighbours", "rule", "sharpen", "distill",
            "exchange", "attack", "extract", "student", "privacy", "familiarity",
            "filter", "cache", "guard", "codec", "uptake", "augment", "method", "merge",
            "merge_base", "request", "answer", "wish", "features",
        ),
        May.STAY,
    ),
}  # fmt: skip
"""By dotted key, or by group for all keys of its options that are not named themselves."""


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values; a list is one value.

    >>> list(leaves({"a": {"b": 1, "c": {}}, "d": [2]}))
    [('a.b', 1), ('a.c', {}), ('d', [2])]
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_AS_BEFORE = frozenset(
    {
        ("privacy.seed", "simulated"),
        *(leaf for leaf in leaves(NEWER) if not leaf[0].startswith("prior.") and leaf[1] != []),
    }
)
"""What older runs did, whose configurations say nothing of it; the prior's keys count where it is
used, whatever they are."""


def may(key: str) -> May:
    """Return what may become of a dotted key; what nobody declared stays.

    >>> may("scorer.beta"), may("dataset.path"), may("reporter.log_dir")
    (<May.STAY: 'stay'>, <May.MOVE: 'move'>, <May.CHANGE: 'change'>)
    """
    return declared(key) or May.STAY


def declared(key: str) -> May | None:
    """Return what is declared of a key, or of the nearest group that it belongs to."""
    while key:
        if key in DECLARED:
            return DECLARED[key]
        key = key.rpartition(".")[0]
    return None


def identity(cfg: DictConfig, data_fingerprint: str) -> dict[str, str]:
    """Return everything that results depend on, by its dotted key, as JSON."""
    values = as_first_written(plain(cfg))
    kept = {
        key: json.dumps(value, sort_keys=True, default=str)
        for key, value in leaves(values)
        if may(key) is May.STAY and not _is_as_before(key, value)
    }
    if not uses_prior(cfg):
        kept = {key: value for key, value in kept.items() if not key.startswith("prior.")}
    kept["client.device"] = device(cfg.client.device, cfg.engine)
    kept["server.device"] = device(cfg.server.device)
    return {**kept, FINGERPRINT: data_fingerprint}


def _is_as_before(key: str, value: Any) -> bool:
    if value == []:
        return key == "evaluation.probes"
    plain = value is None or isinstance(value, str | int | float)
    return plain and (key, value) in _AS_BEFORE


def device(name: str, engine: Mapping[str, Any] | None = None) -> str:
    """Return the kind of device that a key stands for here; the kind decides the last bits.

    Args:
        name: The key's value; ``auto`` takes a GPU where there is one.
        engine: The engine, for what clients train on: Ray hands out GPUs by ``gpus_per_node``.
    """
    if name != "auto":
        return name.partition(":")[0]
    if engine is not None and engine["name"] == "ray":
        return "cuda" if engine["gpus_per_node"] else "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def legacy_identity(cfg: DictConfig, data_fingerprint: str) -> str:
    """Return the hash that checkpoints held before their keys had names in them."""
    values = as_first_written(plain(cfg))
    without = (
        "engine",
        "checkpoint",
        "server",
        "reporter",
        "models",
        "local_loss",
        "prior",
        "uptake",
        "merge",
        "augment",
        "request",
        "answer",
        "wish",
        *(name for name in UNSAID if values.get(name) in (None, NEWER[name])),
    )
    kept = {
        name: value
        for name, value in values.items()
        if name not in without and not _is_as_before(name, value)
    }
    for name in ("device", "state", *NEWER["client"]):
        kept["client"].pop(name, None)
    for name in NEWER["evaluation"]:
        kept.get("evaluation", {}).pop(name, None)
    if _is_as_before("privacy.seed", kept["privacy"].get("seed")):
        del kept["privacy"]["seed"]
    text = json.dumps([data_fingerprint, kept], sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()
