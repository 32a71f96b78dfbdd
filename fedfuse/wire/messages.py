"""What server and clients say to each other, without saying how it travels.

A request carries a small header and, where the phase needs them, arrays (``fedfuse.wire.encode``);
a reply carries arrays and the failures of single clients. Both halves of the app import the names
from here, so neither has to know the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedfuse.errors import KnowledgeError
from fedfuse.failure import Failure
from fedfuse.safe_text import visible

HANDSHAKE = "query"
"""Message type: which clients do you host, and on which public set?"""
TRAIN = "train"
"""Message type: train, then share what was learnt."""
DISTILL = "train.distill"
"""Message type: learn from what came back."""
PREPARE = "query.prepare"
"""Message type: begin, so that your clients can be saved before they share anything."""
SAVE = "query.save"
"""Message type: hand over all that your clients remember."""
LOCATE = "query.locate"
"""Message type: say which versions of your clients' state files count."""
LOAD = "query.load"
"""Message type: let your clients remember this."""
MODELS = "query.models"
"""Message type: hand over your clients' models, and nothing else that they remember."""
TEST = "evaluate"
"""Message type: evaluate as you are; for clients that rest in a round."""
PHASES = {TRAIN: "train", DISTILL: "distill", TEST: "test"}
"""What happens in answer to a message type, in words."""

HEADER, CLIENTS, RESTARTED, STATES, TOKENS, TEACHERS, KNOWLEDGE, METRICS, FAILURES = (
    "header",
    "clients",
    "restarted",
    "states",
    "tokens",
    "teachers",
    "knowledge",
    "metrics",
    "failures",
)
"""Names of the records in a message."""
ACKNOWLEDGED = "acknowledged"
"""Array beside the client ids: how many of a client's messages the server remembers, where the
codec builds one message on the one before."""
REQUEST = "request"
"""Array beside the client ids: which of the round's samples are asked for, one bit each, where some
targets are cached."""
AUGMENT = "augment"
"""Array beside the client ids: what the server says of each of the round's samples, uint8 [m, a],
where it chooses what becomes of them."""


SPENT = ("samples", "steps")
"""Metrics that clients always tell: the samples that a phase's optimiser steps have seen, and how
many steps they were."""
TWIN = "twin_"
"""Before the name of one of these: what the client's local twin has spent, where it has one."""
ALL_SPENT = (*SPENT, *(f"{TWIN}{name}" for name in SPENT))
"""All that a client may tell that it has spent."""


def answers(header: Header, message_type: str) -> dict[str, str | int]:
    """Return what a reply says of the request that it answers."""
    return {"arm": header.arm, "round": header.round, "to": message_type}


def check_answers(told: Mapping[str, object], header: Header, message_type: str) -> None:
    """Refuse a reply to another request, such as that of an earlier round.

    Whoever lies can lie here as well; an honest reply that came late or went astray cannot be taken
    for one to this request.

    Args:
        told: What the reply says; what it does not say is not held against it.
        header: Of the request.
        message_type: Its type.

    Raises:
        KnowledgeError: If it answers another one.
    """
    for name, value in answers(header, message_type).items():
        if told.get(name, value) != value:
            raise KnowledgeError(
                "The reply answers another request",
                got=f"{name} {visible(str(told[name]), 100)}",
                allowed=f"{name} {value}",
            )


_ARM = re.compile(r"\w[\w .()+=,-]{0,99}")


@dataclass(frozen=True, slots=True)
class Header:
    """What a request asks for.

    Args:
        arm: The federation the clients play in: the method, or its local baseline.
        round: From 1.
        share: Whether the clients' knowledge is wanted.
        evaluate: Whether metrics are wanted.
        exchange: Whether the arm's clients exchange knowledge at all; False for an arm that
            learns alone.
        answers: Whether, with the metrics, it is wanted which test samples clients get right.
        taught: The clients that are taught in this round and take distillation's steps, or those
            in their place; the others that are asked take in what came, and no steps. None for
            all that are asked.
        present: The clients that train in this round, where one of them takes all their steps
            (``centralised``); None for all.
        probe: Whether, of those that are tested as they are, the probes' answers are wanted in
            the tests' place.
    """

    arm: str
    round: int
    share: bool
    evaluate: bool
    exchange: bool = True
    answers: bool = False
    taught: tuple[int, ...] | None = None
    present: tuple[int, ...] | None = None
    probe: bool = False

    def teaches(self, client_id: int) -> bool:
        """Tell whether a client that is asked is taught in this round."""
        return self.taught is None or client_id in self.taught

    def fields(self) -> dict[str, str | int | bool | list[int]]:
        """Return the header as plain values; lists that are None are left out."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
            if value is not None
        }

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Header:
        """Return the header that :meth:`fields` wrote.

        Raises:
            KnowledgeError: If a field is missing, unknown or of another type.
        """
        flags = dict.fromkeys(("share", "evaluate", "exchange", "answers", "probe"), bool)
        expected: dict[str, type] = {"arm": str, "round": int, **flags}
        lists = {name: list for name in ("taught", "present") if name in values}
        expected |= lists
        if set(values) != set(expected):
            raise KnowledgeError(
                "A request's header has other fields than it should",
                got=sorted(values),
                allowed=sorted(expected),
            )
        for name, kind in expected.items():
            if type(values[name]) is not kind:
                raise KnowledgeError(
                    f"A request's header field '{name}' has another type than it should",
                    got=type(values[name]).__name__,
                    allowed=kind.__name__,
                )
        ids = {name: tuple(values[name]) for name in lists}  # type: ignore[arg-type, var-annotated]
        if any(type(i) is not int or i < 0 for listed in ids.values() for i in listed):
            raise KnowledgeError("A request's header lists what cannot be clients")
        header = cls(**{**values, **ids})  # type: ignore[arg-type]
        # Files are named after the arm.
        if not _ARM.fullmatch(header.arm) or header.round < 1:
            raise KnowledgeError(
                "A request's header holds impossible values",
                got=f"arm {header.arm[:100]!r}, round {header.round}",
                allowed="a plain word and a round from 1",
            )
        return header


def dump_failures(failures: Sequence[Failure]) -> str:
    """Return the failures as JSON."""
    return json.dumps([{name: getattr(item, name) for name in _FAILURE} for item in failures])


def load_failures(
    text: object,
    client_ids: Collection[int] | None = None,
    round_: int | None = None,
    phase: str | None = None,
) -> list[Failure]:
    """Return the failures that :func:`dump_failures` wrote.

    Args:
        text: What arrived.
        client_ids: The clients that were asked, of which alone it may speak; None for any.
        round_: The round they were asked in; None for any.
        phase: The phase they were asked in; None for any.

    Raises:
        KnowledgeError: If the text is something else, or speaks of others.
    """
    try:
        if not isinstance(text, str) or len(text) > LONGEST_REPORT:
            raise ValueError(f"{type(text).__name__}, or more than {LONGEST_REPORT} characters")
        items = json.loads(text)
        if not isinstance(items, list):
            raise ValueError("no list")
        failures = [_failure(item) for item in items]
        ids = [failure.client_id for failure in failures]
        if len(set(ids)) != len(ids):
            raise ValueError("a client twice")
        if client_ids is not None and not set(ids) <= set(client_ids):
            raise ValueError("clients that were not asked")
        if round_ is not None and any(failure.round != round_ for failure in failures):
            raise ValueError("another round")
        if phase is not None and any(failure.phase != phase for failure in failures):
            raise ValueError("another phase")
    except (TypeError, ValueError, RecursionError) as error:
        raise KnowledgeError(
            "A reply's list of failures cannot be read", got=str(error)[:200]
        ) from error
    return failures


def _failure(item: object) -> Failure:
    """Return one failure, its texts no longer than anybody would read."""
    if not isinstance(item, dict) or {"own", *item} != set(_FAILURE):
        raise ValueError("an entry with other fields")
    item = {"own": "", **item}  # nodes of an older version do not tell
    for name, kind in _FAILURE.items():
        if type(item[name]) is not kind:
            raise ValueError(f"'{name}' of another type")
    told: dict[str, Any] = {
        name: _printable(value[-LONGEST_TEXT:]) if isinstance(value, str) else value
        for name, value in item.items()
    }
    # One line, so that it cannot look like several of ours.
    told["error"] = _printable(" ".join(item["error"][:LONGEST_ERROR].split()))
    # Frames are indented, which nothing of ours is.
    told["own"] = "\n".join(f"  {line[2:]}" for line in told["own"].splitlines())
    return Failure(**told)


def one_line(text: str) -> str:
    """Return the beginning of a stranger's text as one visible line."""
    return visible(" ".join(text[:LONGEST_ERROR].split()), None)[:LONGEST_ERROR]


def _printable(text: str) -> str:
    """Return the text without what could move a terminal's cursor."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


LONGEST_REPORT = 16 * 2**20
"""Characters of all failures of a reply; a node may host thousands of clients."""
LONGEST_TEXT = 20_000
"""Characters of a traceback that are kept, the last ones."""
LONGEST_ERROR = 1_000
"""Characters of an error that are kept, the first ones."""
_FAILURE = {
    "client_id": int,
    "round": int,
    "phase": str,
    "error": str,
    "traceback": str,
    "is_mistake": bool,
    "own": str,
}
