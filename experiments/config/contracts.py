"""What a part of the user's own must be able to do in each slot, checked before anything is built.

The contracts themselves are the protocols that are named here; this is only what can be seen by
looking: which methods a part has and how many arguments they take.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fedfuse.declarations import declared, wrong_declaration
from fedfuse.user_code import PartError, check_call, is_foreign

CALL = "__call__"


@dataclass(frozen=True, slots=True)
class Contract:
    """One slot's contract.

    Args:
        protocol: Where it is written down, as a dotted path.
        takes: Method to the names of what it is given by position.
        holds: Attributes that it must have.
        keywords: Method to the names of what it is given by keyword.
        facts: What a loss may want to know beside logits and targets.
    """

    protocol: str
    takes: Mapping[str, tuple[str, ...]]
    holds: tuple[str, ...] = ()
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    facts: frozenset[str] = frozenset()

    def describe(self) -> str:
        """Return what a part must have."""
        if set(self.takes) == {CALL} and not self.holds:
            return f"a function of ({', '.join(self.takes[CALL])})"
        methods = [f"{name}({', '.join(given)})" for name, given in self.takes.items()]
        return f"an object with {', '.join([*methods, *self.holds])}"


def _function(protocol: str, *given: str) -> Contract:
    return Contract(protocol, {CALL: given})


CONTRACTS = {
    "dataset": _function("fedfuse.data.raw.RawDataset"),
    "public": _function("fedfuse.data.public.PublicSource", "raw", "available", "rng"),
    "partitioner": _function("fedfuse.protocols.Partitioner", "labels", "num_clients", "rng"),
    "participation": _function("fedfuse.protocols.Participation", "round", "sizes", "generator"),
    "select": _function("fedfuse.select.Select", "round", "num_public", "labels", "generator"),
    "augment": _function("fedfuse.augment.Augment", "inputs", "generator"),
    "private_augment": Contract(
        "fedfuse.train.views.PrivateAugment",
        {"draw": ("num", "generator"), CALL: ("inputs", "draws", "empty")},
    ),
    "optimizer": _function("torch.optim.Optimizer", "parameters"),
    "lr_schedule": _function("fedfuse.train.learning_rate.LearningRate", "done", "num_rounds"),
    "local_loss": Contract(
        "fedfuse.protocols.LocalLoss", {CALL: ("logits", "labels")}, facts=frozenset({"prior"})
    ),
    "scorer": _function("fedfuse.protocols.Scorer", "bank", "labels"),
    "neighbours": _function("fedfuse.protocols.Neighbours", "scores"),
    "rule": _function("fedfuse.protocols.Rule", "bank", "weights"),
    "sharpen": _function("fedfuse.protocols.Sharpen", "probs"),
    "filter": _function("fedfuse.protocols.TargetFilter", "probs"),
    "distill": Contract(
        "fedfuse.protocols.DistillLoss",
        {CALL: ("student_logits", "targets")},
        facts=frozenset({"labels", "own", "prior", "clock"}),
    ),
    "merge": _function("fedfuse.merge.Merge", "models", "receivers"),
    "uptake": _function("fedfuse.protocols.Uptake", "teachers", "at"),
    "probe": _function("fedfuse.probes.Probe", "model", "inputs", "labels", "generator"),
    "privacy": _function("fedfuse.privacy.Privacy", "logits", "generator"),
    "familiarity": _function(
        "fedfuse.familiarity.Familiarity", "private", "labels", "public", "generator"
    ),
    "request": Contract(
        "fedfuse.protocols.Requester",
        {
            CALL: ("round", "index", "client_ids"),
            "note": ("bank", "teachers", "labels", "round", "index"),
        },
    ),
    "answer": _function("fedfuse.protocols.Answering", "own", "last", "class_counts", "generator"),
    "wish": _function("fedfuse.protocols.Wishing", "own", "last", "class_counts", "generator"),
    "extract": Contract(
        "fedfuse.protocols.Extract", {"shared": ("logits",), "read": ("shared",)}, ("space",)
    ),
    "attack": Contract(
        "fedfuse.attack.Attack",
        {"labels": ("labels", "num_classes"), "predictions": ("logits", "scene")},
        ("fraction",),
    ),
    "faults": Contract(
        "fedfuse.faults.Faults",
        {"fate": ("client_id", "round_", "num_rounds", "streams")},
        ("max_age",),
    ),
    "codec": Contract(
        "fedfuse.codec.Codec",
        {"encode": ("values", "space", "state", "mask"), "decode": ("encoded", "state")},
    ),
    "exchange": Contract(
        "clients.exchange.Exchange",
        {
            "kind": ("models", "data"),
            "combine": ("models", "data"),
            "hold": ("client_id", "model", "tools"),
            "train": ("held", "tools", "round_"),
            "share": ("held", "tools", "round_"),
            "learn": ("held", "tools", "round_", "received"),
            "evaluation_models": ("held", "tools", "phase"),
        },
        ("batchable",),
        {"train": ("exchanging",)},
    ),
    "sites": Contract("fedfuse.data.sites.OwnData", {"open": ("num_clients",)}),
    "pretrain": Contract(
        "clients.training.pretrain.Pretraining",
        {},
        ("epochs", "patience", "batch_size", "val_fraction", "private_epochs", "baseline"),
    ),
    "reporter": Contract(
        "server.reporters.protocol.Reporter",
        {
            "start": ("info",),
            "phase": ("arm", "round_", "phase"),
            "client_done": ("client_id",),
            "round_done": ("arm", "record"),
            "close": (),
        },
    ),
}
"""Slots whose parts are used as they are; models are asked which arguments they want."""


def look(slot: str, part: object, target: object) -> None:
    """Raise unless a part of the user's own can be used as its slot uses it.

    Args:
        slot: The slot.
        part: The part; parts of fedfuse's own and None are what they should be.
        target: Its ``_target_``, for messages.

    Raises:
        PartError: Naming what it must have or take, and what it has or takes.
    """
    contract = CONTRACTS.get(slot)
    if contract is None or part is None or not is_foreign(part):
        return
    if slot == "codec" and isinstance(part, functools.partial):
        return  # a function that returns the codec
    what = named(slot, target)
    see = f"{contract.protocol} says what it gets and returns."
    for name in (*contract.takes, *contract.holds):
        if callable(part) if name == CALL else hasattr(part, name):
            continue
        lacks = "cannot be called" if name == CALL else f"has no '{name}'"
        is_function = isinstance(part, functools.partial)
        raise PartError(
            f"{what} {lacks}",
            got="a function" if is_function else f"an instance of {type(part).__name__}",
            allowed=contract.describe(),
            next_step=see,
        )
    if wrong := wrong_declaration(part, slot):
        raise PartError(f"{what} {wrong}", next_step=see)
    wanted: frozenset[str] = declared(part, "wants", frozenset()) if contract.facts else frozenset()
    if unknown := sorted(set(wanted) - contract.facts):
        raise PartError(
            f"{what} wants to know what nobody tells it",
            got=", ".join(map(str, unknown)),
            allowed=", ".join(sorted(contract.facts)),
            next_step=see,
        )
    for name, given in contract.takes.items():
        if wanted and name == CALL:
            given = (*given, "facts")
        if slot == "augment" and declared(part, "needs_student", False):
            given = (*given, "sent")
        if slot == "privacy" and declared(part, "needs_class_counts", False):
            given = (*given, "class_counts")
        method: Any = part if name == CALL else getattr(part, name)
        try:
            check_call(what, method, given, contract.keywords.get(name, ()))
        except PartError as error:
            error.next_step = see
            raise


def named(slot: str, target: object) -> str:
    """Return a part in words.

    >>> named("scorer", "my_parts.score")
    'The scorer my_parts.score'
    """
    return f"The {slot} {target}"
