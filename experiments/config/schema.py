"""The scalar keys of a run: their types, and the values each of them may take.

The defaults live in ``conf/config.yaml``; the parameters of a part (a partitioner, a scorer, ...)
belong to that part and are checked where it is built. Nothing here imports torch, so that
``fedfuse --help`` and ``fedfuse --cfg job`` stay quick.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

from fedfuse.errors import ConfigError

MISSING = "???"

TYPE_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
"""What the value of a key must be, in words."""


def _rule(allowed: str, ok: Callable[[Any], bool]) -> Any:
    """Return a field without a default whose values must satisfy ``ok``."""
    return field(default=MISSING, metadata={"allowed": allowed, "ok": ok})


def _at_least(low: int) -> Any:
    return _rule(f"an integer of at least {low}", lambda value: value >= low)


def _one_of(*words: str) -> Any:
    return _rule(" or ".join(words), lambda value: value in words)


def _fraction(*, zero: bool) -> Any:
    words = f"a number from 0 {'(included)' if zero else '(excluded)'} to 1 (excluded)"
    return _rule(words, lambda value: (value >= 0 if zero else value > 0) and value < 1)


def is_list_of_probes(value: Any) -> bool:
    """Tell whether a value is a name, or lists names and mappings that name a part.

    >>> is_list_of_probes(["fgsm", {"_target_": "mine.probe"}]), is_list_of_probes({"epsilon": 1})
    (True, False)
    """
    return isinstance(value, str | Sequence) and all(
        isinstance(item, str) or (isinstance(item, Mapping) and bool(item.get("_target_")))
        for item in ([value] if isinstance(value, str) else value)
    )


@dataclass
class ClientConfig:
    """What every client does in a round."""

    batch_size: int = _at_least(1)
    local_epochs: int = _at_least(1)
    local_steps: int | None = _rule(
        "null or an integer of at least 1", lambda value: value is None or value >= 1
    )
    distill_epochs: int = _at_least(1)
    distill_batch_size: int = _at_least(1)
    private_weight: float = _rule(
        "a finite number of at least 0", lambda value: 0 <= value < math.inf
    )
    init: str = _one_of("shared", "per_client")
    optimizer_state: str = _one_of("keep", "reset", "separate")
    distill_lr: float | None = _rule(
        "null or a finite number above 0", lambda value: value is None or 0 < value < math.inf
    )
    threads: int = _at_least(1)
    device: str = _rule(
        "auto, cpu, cuda or cuda:N",
        lambda value: re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
    )
    precision: str = _one_of("fp32", "bf16")
    state: str = _one_of("auto", "context", "disk")
    share_class_distribution: bool = field(default=MISSING)  # type: ignore[assignment]
    left_out: str = _one_of("skip", "visit")
    clip_norm: float | None = _rule(
        "null, or a finite number above 0", lambda value: value is None or 0 < value < math.inf
    )


@dataclass
class ServerConfig:
    """Where fusion runs, and what a failing client does to the run."""

    device: str = _rule(
        "auto, cpu, mps, cuda or cuda:N",
        lambda value: re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value) is not None,
    )
    fail_fast: bool = field(default=MISSING)  # type: ignore[assignment]
    student_epochs: int = _at_least(1)
    student_teaches: bool = field(default=MISSING)  # type: ignore[assignment]
    student_selects: bool = field(default=MISSING)  # type: ignore[assignment]
    persuasion: bool = field(default=MISSING)  # type: ignore[assignment]


@dataclass
class PriorConfig:
    """How a client's label prior is counted, wherever it is used."""

    tau: float = _rule("a finite number of at least 0", lambda value: 0 <= value < math.inf)
    floor: float = _rule("a finite number above 0", lambda value: 0 < value < math.inf)


@dataclass
class CheckpointConfig:
    """When a run is saved, so that it can go on after a crash."""

    every: int = _at_least(0)
    keep: int = _at_least(1)


@dataclass
class EvaluationConfig:
    """When and how models are tested."""

    every: int = _at_least(1)
    resting: str = _one_of("all", "sample", "none")
    resting_every: int = _at_least(1)
    resting_sample: int = _at_least(1)
    batch_size: int = _at_least(1)
    test_samples: int = _at_least(1)
    own_test_samples: int = _at_least(1)
    own_test_shift: float = _rule("a number from 0 to 1", lambda value: 0 <= value <= 1)
    prior: str = _one_of("none", "add", "subtract")
    membership: bool = field(default=MISSING)  # type: ignore[assignment]
    shadow_models: int = _at_least(0)
    probes: Any = field(
        default=MISSING,
        metadata={
            "allowed": "options of the group probe, as [blur,fgsm], or mappings with a _target_",
            "ok": is_list_of_probes,
        },
    )
    probe_every: int = _at_least(0)
    probe_samples: int = _at_least(1)


@dataclass
class MethodConfig:
    """What tables, folders and the arm of the federation are called."""

    # Folders and the wire's headers bear it: what is allowed there (fedfuse.wire.messages) is here.
    name: str = _rule(
        "a plain word of letters, digits, spaces and . _ ( ) + = , - (folders are named after it)",
        lambda value: re.fullmatch(r"\w[\w .()+=,-]{0,99}", value) is not None,
    )


@dataclass
class ExperimentConfig:
    """Everything ``fedfuse`` can be told."""

    seed: int = _rule("an integer from 0 to 2**63 - 1", lambda value: 0 <= value < 2**63)
    num_clients: int = _at_least(1)
    num_rounds: int = _at_least(1)
    warmup_rounds: int = _at_least(0)
    temperature: float = _rule("a number from 1e-6 to 1e6", lambda value: 1e-6 <= value <= 1e6)
    baseline: str = _one_of("local", "none")
    budget: str = _one_of("optimiser_steps", "samples", "bytes", "rounds")
    budget_bytes: int = _at_least(0)
    val_fraction: float = _fraction(zero=True)
    test_fraction: float = _fraction(zero=False)
    trainer: str = _one_of("auto", "loop", "batched")
    models: str = _one_of("auto", "save", "none")
    continue_from: str | None = field(default=MISSING)
    merge_base: str = _one_of("last", "first", "last_or_mean")
    prior: PriorConfig = field(default_factory=PriorConfig)
    client: ClientConfig = field(default_factory=ClientConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    dataset: Any = MISSING
    features: Any = MISSING
    sites: Any = MISSING
    public: Any = MISSING
    select: Any = MISSING
    augment: Any = MISSING
    private_augment: Any = MISSING
    partitioner: Any = MISSING
    participation: Any = MISSING
    faults: Any = MISSING
    model: Any = MISSING
    pretrain: Any = MISSING
    optimizer: Any = MISSING
    lr_schedule: Any = MISSING
    local_loss: Any = MISSING
    scorer: Any = MISSING
    neighbours: Any = MISSING
    rule: Any = MISSING
    sharpen: Any = MISSING
    distill: Any = MISSING
    exchange: Any = MISSING
    merge: Any = MISSING
    attack: Any = MISSING
    extract: Any = MISSING
    student: Any = MISSING
    privacy: Any = MISSING
    familiarity: Any = MISSING
    request: Any = MISSING
    answer: Any = MISSING
    wish: Any = MISSING
    filter: Any = MISSING
    cache: Any = MISSING
    guard: Any = MISSING
    codec: Any = MISSING
    uptake: Any = MISSING
    engine: Any = MISSING
    reporter: Any = MISSING
    method: MethodConfig = field(default_factory=MethodConfig)


hints: Callable[[Any], dict[str, Any]] = functools.cache(
    get_type_hints
)  # of the classes above, which do not change


def key_type(key: str) -> type | None:
    """Return the type of the scalar key ``key``, or None where the schema does not say.

    >>> key_type("client.batch_size")
    <class 'int'>
    >>> key_type("partitioner.alpha") is None
    True
    """
    owner: Any = ExperimentConfig
    for part in key.split("."):
        owner = hints(owner).get(part) if is_dataclass(owner) else None
    kinds = get_args(owner)
    owner = kinds[0] if NoneType in kinds else owner
    return owner if owner in TYPE_WORDS else None


def _is_of(kind: Any, value: Any) -> bool:
    """Tell whether a value is of a key's type; interpolations bring any."""
    kinds = get_args(kind) or (kind,)
    if kinds[0] not in TYPE_WORDS or (value is None and NoneType in kinds):
        return True
    return isinstance(value, bool) == (kinds[0] is bool) and isinstance(
        value, (int, float) if kinds[0] is float else kinds[0]
    )


def validate(cfg: Mapping[str, Any]) -> None:
    """Check the range of every scalar key.

    Args:
        cfg: The composed configuration, its types already checked by Hydra.

    Raises:
        ConfigError: Naming the first key whose value is not allowed.
    """
    _validate(ExperimentConfig, cfg, "")
    if (cfg["budget"] == "bytes") != (cfg["budget_bytes"] > 0):
        raise ConfigError(
            "budget=bytes and budget_bytes go together",
            got=f"budget={cfg['budget']} with budget_bytes={cfg['budget_bytes']}",
            next_step="Set budget=bytes budget_bytes=N, what all clients may exchange in a run.",
        )
    client = cfg["client"]
    if client["distill_lr"] is not None and client["optimizer_state"] != "separate":
        raise ConfigError(
            "client.distill_lr is the learning rate of distillation's own optimiser",
            got=f"client.optimizer_state={client['optimizer_state']}, one for all steps",
            allowed="client.optimizer_state=separate",
            next_step="Set it, or leave client.distill_lr out.",
        )
    tests, clients = cfg["evaluation"], cfg["num_clients"]
    if tests["resting"] == "sample" and tests["resting_sample"] > clients:
        raise ConfigError(
            "evaluation.resting_sample asks for more clients than there are",
            got=f"evaluation.resting_sample={tests['resting_sample']} with num_clients={clients}",
            allowed=f"1 to {clients}",
            next_step="Set evaluation.resting=all to test every client.",
        )
    exchange, predictions = cfg["exchange"], "clients.exchange.Predictions"
    by_rule = cfg["rule"] and cfg["rule"].get("_target_") is not None
    if by_rule or (exchange and exchange.get("_target_") != predictions):
        warmup, rounds = cfg["warmup_rounds"], cfg["num_rounds"]
        if warmup >= rounds:
            raise ConfigError(
                "warmup_rounds leaves no round for fusion",
                got=f"warmup_rounds={warmup} with num_rounds={rounds}",
                allowed="warmup_rounds below num_rounds",
                next_step=f"Set warmup_rounds=0 or num_rounds={warmup + 1}.",
            )


def _validate(schema: Any, cfg: Mapping[str, Any], prefix: str) -> None:
    types = hints(schema)
    for entry in fields(schema):
        value = cfg[entry.name]
        if is_dataclass(types[entry.name]):
            _validate(types[entry.name], value, f"{prefix}{entry.name}.")
        elif not _is_of(types[entry.name], value):
            wanted = TYPE_WORDS[(get_args(types[entry.name]) or (types[entry.name],))[0]]
            raise ConfigError(f"{prefix}{entry.name} must be {wanted}, got {value!r}.")
        elif "ok" in entry.metadata and not entry.metadata["ok"](value):
            raise ConfigError(
                f"{prefix}{entry.name} is not valid",
                got=repr(value),
                allowed=entry.metadata["allowed"],
            )
