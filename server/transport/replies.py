"""Read what a node replied, believing nothing of it.

Whatever is wrong with a reply ends here as a :class:`fedfuse.wire.messages.Failure` of the clients
concerned, marked as quarantined: the round goes on without them or stops, as the user wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy.typing as npt
from flwr.app import Message, RecordDict
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.failure import Failure
from fedfuse.payload import Payload
from fedfuse.safe_text import visible
from fedfuse.types import ClientMetrics
from fedfuse.wire.encode import Expectation, decode, without
from fedfuse.wire.messages import (
    ALL_SPENT,
    FAILURES,
    KNOWLEDGE,
    METRICS,
    PHASES,
    Header,
    check_answers,
    load_failures,
    one_line,
)
from fedfuse.wire.record_checks import read_arrays, take
from fedfuse.wire.schema import check_metrics

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What is left of a reply once everything wrong with it is set aside.

    Args:
        knowledge: What the clients sent up; None if nothing was asked for or nothing was usable.
        metrics: Their metrics, likewise.
        failures: The clients that could not finish, and those in quarantine.
        arrays: The knowledge as it arrived, for counting bytes.
    """

    knowledge: Payload | None
    metrics: ClientMetrics | None
    failures: tuple[Failure, ...]
    arrays: Arrays


@dataclass(frozen=True, slots=True)
class Question:
    """What a node was asked in one phase.

    Args:
        client_ids: For which clients.
        header: With which header.
        message_type: What the request was.
        expect: Client ids to what their arrays must be.
        decode: Arrays to knowledge; raises :class:`KnowledgeError`.
        upload: What the knowledge is.
        num_tests: Samples of the balanced test set; 0 if nobody says.
    """

    client_ids: tuple[int, ...]
    header: Header
    message_type: str
    expect: Callable[[tuple[int, ...]], Expectation]
    decode: Callable[[Arrays, Expectation], Any]
    upload: type[Payload]
    num_tests: int = 0

    @property
    def phase(self) -> str:
        """Return the phase in words."""
        return PHASES.get(self.message_type, self.message_type)


def check_envelope(message: Message, reply: Message) -> None:
    """Refuse a reply that is another node's, or to another kind of message or round.

    Raises:
        KnowledgeError: If its envelope does not fit the message that it answers.
    """
    asked, told = message.metadata, reply.metadata
    for what, wanted, got in (
        ("node", asked.dst_node_id, told.src_node_id),
        ("type", asked.message_type, told.message_type),
        ("group", asked.group_id, told.group_id),
    ):
        if wanted != got:
            raise KnowledgeError(
                "The reply answers another message",
                got=f"{what} {visible(str(got), 100)}",
                allowed=f"{what} {visible(str(wanted), 100)}",
            )


def read_reply(content: RecordDict, question: Question) -> Reply:
    """Return what a reply holds; clients that sent something impossible are in quarantine.

    Where the mistake is in the numbers of some clients, the node's others stay; a reply that is
    malformed says nothing trustworthy about any of its clients.
    """
    outside: dict[int, Failure] = {}
    while True:
        left = tuple(i for i in question.client_ids if i not in outside)
        if not left:
            return Reply(None, None, tuple(outside.values()), {})
        try:
            reply = _read(content, replace(question, client_ids=left), set(outside))
        except KnowledgeError as error:
            guilty = [i for i in left if i in error.client_ids] or left
            outside |= {i: quarantine(i, question, str(error)) for i in guilty}
            continue
        return replace(reply, failures=(*outside.values(), *reply.failures))


def quarantine(client_id: int, question: Question, reason: str) -> Failure:
    """Return the failure of a client whose answer cannot be used."""
    return refusal(client_id, question.header.round, question.phase, reason)


def refusal(client_id: int, round_: int, phase: str, reason: str) -> Failure:
    """Return the failure of a client of which something cannot be used, for one line of reason."""
    return Failure(
        client_id=client_id,
        round=round_,
        phase=phase,
        error=f"its answer was refused: {one_line(reason)}",
        traceback="",
        is_mistake=False,
        quarantined=True,
    )


def odd_ones_out(uploads: Sequence[Payload]) -> tuple[list[Payload], list[tuple[Payload, str]]]:
    """Return the uploads that agree on what they hold, and the others with the reason.

    What most clients sent counts (of equals, what the lowest id sent): whether to send, say, a
    label histogram is the configuration's to say and not a node's.
    """
    by_fields: dict[tuple[str, ...], list[Payload]] = {}
    for upload in uploads:
        values = {f.name: getattr(upload, f.name) for f in fields(upload)}
        held = tuple(
            name if isinstance(value, Tensor) else f"{name}={value}"
            for name, value in values.items()
            if value is not None
        )
        by_fields.setdefault(held, []).append(upload)
    if len(by_fields) < 2:
        return list(uploads), []

    def weight(held: tuple[str, ...]) -> tuple[int, int]:
        ids = [i for upload in by_fields[held] for i in upload.client_ids.tolist()]
        return len(ids), -min(ids)

    usual = max(by_fields, key=weight)
    odd = [
        (upload, f"it sent {', '.join(held)} where the others sent {', '.join(usual)}")
        for held, group in by_fields.items()
        if held != usual
        for upload in group
    ]
    return by_fields[usual], odd


def _read(content: RecordDict, question: Question, outside: set[int]) -> Reply:
    """Read a reply of which the clients ``outside`` do not count any more."""
    header = question.header
    everyone = (*question.client_ids, *outside)
    report = take(content.config_records, FAILURES, "The reply")
    check_answers(report, header, question.message_type)
    reports = load_failures(report.get("json"), everyone, header.round, question.phase)
    failed = [failure for failure in reports if failure.client_id not in outside]
    lost = {failure.client_id for failure in failed}
    ids = tuple(i for i in question.client_ids if i not in lost)
    gone = tuple(sorted({*outside} - lost))
    parts: dict[str, Arrays] = {}
    # What was spent may always be told; tests only where they are wanted.
    told = METRICS in content
    for name, cls, asked in (
        (KNOWLEDGE, question.upload, header.share),
        (METRICS, ClientMetrics, header.evaluate or told),
    ):
        if name in content and not asked:
            raise KnowledgeError(f"The reply holds '{name}', which nobody asked for")
        if asked and ids:
            record = take(content.array_records, name, "The reply")
            parts[name] = dict(without(cls, read_arrays(record, f"'{name}'"), gone))
    expected = question.expect(ids)
    metrics = knowledge = None
    # Metrics first: reading knowledge may change what a codec remembers.
    if METRICS in parts:
        metrics = decode(ClientMetrics, parts[METRICS], expected)
        if not header.evaluate and not set(metrics.names) <= set(ALL_SPENT):
            raise KnowledgeError(f"The reply holds '{METRICS}', which nobody asked for")
        check_metrics(metrics)
        _check_right(metrics, question)
    if KNOWLEDGE in parts:
        knowledge = question.decode(parts[KNOWLEDGE], expected)
    return Reply(knowledge, metrics, tuple(failed), parts.get(KNOWLEDGE, {}))


def _check_right(metrics: ClientMetrics, question: Question) -> None:
    """Refuse single answers that nobody asked for, and those of another test set.

    Where they were asked for, one node without them would take them from all.
    """
    wanted, bits = question.header.answers, metrics.right_global
    if not wanted and (bits is not None or metrics.right_own is not None):
        raise KnowledgeError("The reply says which tests are right, which nobody asked for")
    if wanted and "accuracy_global" in metrics.names and question.num_tests:
        width = 0 if bits is None else bits.shape[1]
        if width != (allowed := -(-question.num_tests // 8)):
            raise KnowledgeError(
                "The reply does not say which of the balanced tests are right",
                got=f"{width} bytes",
                allowed=f"{allowed}, a bit for each of {question.num_tests}",
            )
