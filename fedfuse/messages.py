"""What server and clients say to each other, without saying how it travels.

A request carries a small header and, where the phase needs them, arrays (``fedfuse.wire``); a
reply carries arrays and the failures of single clients. Both halves of the app import the names
from here, so neither has to know the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from fedfuse.errors import KnowledgeError

HELLO = "query"
"""Message type: which clients do you host, and on which public set?"""
TRAIN = "train"
"""Message type: train, then share what was learnt."""
DISTILL = "train.distill"
"""Message type: learn from what came back."""

HEADER, CLIENTS, TEACHERS, KNOWLEDGE, METRICS, FAILURES = (
    "header",
    "clients",
    "teachers",
    "knowledge",
    "metrics",
    "failures",
)
"""Names of the records in a message."""
ACKNOWLEDGED = "acknowledged"
"""Array beside the client ids: how many of a client's messages the server remembers, where the
codec builds one message on the one before."""


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
    """

    arm: str
    round: int
    share: bool
    evaluate: bool
    exchange: bool = True

    def fields(self) -> dict[str, str | int | bool]:
        """Return the header as plain values."""
        return asdict(self)

    @classmethod
    def parse(cls, values: Mapping[str, object]) -> Header:
        """Return the header that :meth:`fields` wrote.

        Raises:
            KnowledgeError: If a field is missing, unknown or of another type.
        """
        flags = dict.fromkeys(("share", "evaluate", "exchange"), bool)
        expected: dict[str, type] = {"arm": str, "round": int, **flags}
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
        return cls(**values)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Failure:
    """One client that could not finish a phase.

    Args:
        client_id: Which client.
        round: In which round.
        phase: ``train`` or ``distill``.
        error: The error in one line.
        traceback: Where it happened, as Python prints it.
        is_mistake: True for a :class:`~fedfuse.errors.FedfuseError`, whose message tells a
            person what to mend.
    """

    client_id: int
    round: int
    phase: str
    error: str
    traceback: str
    is_mistake: bool


def dump_failures(failures: Sequence[Failure]) -> str:
    """Return the failures as JSON."""
    return json.dumps([asdict(failure) for failure in failures])


def load_failures(text: str) -> list[Failure]:
    """Return the failures that :func:`dump_failures` wrote.

    Raises:
        KnowledgeError: If the text is something else.
    """
    try:
        return [Failure(**item) for item in json.loads(text)]
    except (TypeError, ValueError) as error:
        raise KnowledgeError("A reply's list of failures cannot be read", got=error) from error
