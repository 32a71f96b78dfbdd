"""What the clients remember, brought to the server and back: the better part of a checkpoint.

What a node hands over is a stranger's: whatever is no state of its own clients is refused here, so
that nothing of it reaches a checkpoint.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid
from safetensors.torch import save
from torch import Tensor

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.failure import Failure
from fedfuse.files.state_files import state_owners
from fedfuse.wire.messages import (
    HEADER,
    LOAD,
    LOCATE,
    MODELS,
    PREPARE,
    SAVE,
    STATES,
    TOKENS,
    Header,
    check_answers,
)
from fedfuse.wire.record_checks import read_arrays, take
from server.transport.at_work import AtWork
from server.transport.linked_states import link, no_state, read
from server.transport.replies import check_envelope, refusal
from server.transport.reply_timeout import ReplyTimeout
from server.transport.requests import Hosts, array_record, opening

CHUNK = 8
"""Clients whose states travel in one message, and in the first. It is copied several times between
worker and server, and what large copies took does not all come back to the system: with 32 the
server of 1,000 LeNet clients was 220 MiB larger."""

LARGE = 6 * 2**20
"""Bytes of states that travel in one message: those of that many LeNet clients. Of smaller models
it is more clients, since each message and each file of a checkpoint costs something too; how many
the largest client so far tells."""

Refused = Callable[[Sequence[Failure]], None]
"""Take the clients of which nothing can be saved or loaded, or raise what ends the run."""


def _stop(failures: Sequence[Failure]) -> None:
    raise FedfuseError(failures[0].error)


@dataclass(slots=True)
class RemoteStates:
    """The states of clients on other nodes.

    Args:
        grid: Flower's way to the nodes.
        hosts: Who hosts whom.
        reply_timeout: How long to wait.
        folder: Where the clients' states wait as files, if the server reaches them: then it reads
            them there, and nodes only say which count. None if it must ask for what they hold.
        refused: Told of clients whose states cannot be used; raises to end the run.
        work: Who has been at work, and so has something to save.
    """

    grid: Grid
    hosts: Hosts
    reply_timeout: ReplyTimeout
    folder: Path | None = None
    refused: Refused = _stop
    work: AtWork = field(default_factory=AtWork)

    @property
    def apart(self) -> bool:
        """Whether what :meth:`save` returns may be read while the clients go on."""
        return self.folder is not None

    def prepare(self, header: Header, client_ids: Collection[int]) -> None:
        """Let clients begin, so that there is something to save before the first round."""
        self.work.enter(header.arm)
        for ids, _ in self._ask(PREPARE, header, client_ids, at_once=lambda: sys.maxsize):
            self.work.prepared(ids)

    def save(self, header: Header, client_ids: Collection[int]) -> Iterator[bytes]:
        """Return all that some clients remember, a few at a time, as safetensors.

        Raises:
            FedfuseError: If the clients' files are not where they should be.
        """
        self.work.saved()
        if self.folder is None:
            return self._handed_over(SAVE, header, client_ids)

        def refuse(client_id: int, reason: str) -> None:
            self._refuse([client_id], header, "save", reason)

        return read(self._link(header, self.folder, client_ids), refuse)

    def load(self, header: Header, states: Mapping[int, dict[str, Tensor]]) -> None:
        """Let the clients remember what :meth:`save` yielded."""
        self.work.enter(header.arm)
        for ids, _ in self._ask(LOAD, header, states, states=states):
            self.work.loaded(ids)

    def models(self, header: Header) -> Iterator[bytes]:
        """Return the clients' models, some clients at a time, as safetensors ``ID/model/NAME``."""
        return self._handed_over(MODELS, header)

    def _handed_over(
        self, message_type: str, header: Header, client_ids: Collection[int] | None = None
    ) -> Iterator[bytes]:
        sizes: list[int] = []  # bytes of a client in each message so far

        def at_once() -> int:
            return max(CHUNK, LARGE // max(sizes, default=LARGE))

        for ids, reply in self._ask(message_type, header, client_ids, at_once):
            try:
                check_answers(reply.content.config_records.get(HEADER, {}), header, message_type)
                content = _array(reply, STATES, np.uint8)
                if owners := self._owners(content, ids):  # who has not begun weighs nothing
                    sizes.append(len(content) // len(owners))
                yield content
            except KnowledgeError as error:
                self._refuse(ids, header, "save", str(error))

    def _owners(self, content: bytes, client_ids: Sequence[int]) -> frozenset[int]:
        """Return whose states these are, if it is those of these clients and nobody else's."""
        try:
            owners = state_owners(content)
        except ValueError as error:
            raise no_state(str(error)) from error
        if strange := sorted(owners - set(client_ids)):
            raise no_state(f"states of the clients {strange[:10]}")
        if gone := sorted((self.work.begun & set(client_ids)) - owners):
            raise no_state(f"nothing of the clients {gone[:10]}, who have been at work")
        return owners

    def _link(self, header: Header, folder: Path, client_ids: Collection[int]) -> dict[int, Path]:
        """Return the file in which each client's state waits, under a name of the server's own."""
        known: dict[int, int] = {}
        for ids, reply in self._ask(LOCATE, header, client_ids, at_once=lambda: sys.maxsize):
            try:
                check_answers(reply.content.config_records.get(HEADER, {}), header, LOCATE)
                known.update(zip(ids, self._read_tokens(reply, ids), strict=True))
            except KnowledgeError as error:
                self._refuse(ids, header, "save", str(error))
        links, gone = link(folder, header.arm, known)
        for client_id in gone:
            self._refuse([client_id], header, "save", "the file that it names is not there")
        return links

    def _ask(
        self,
        message_type: str,
        header: Header,
        client_ids: Collection[int] | None = None,
        at_once: Callable[[], int] = lambda: CHUNK,
        states: Mapping[int, dict[str, Tensor]] | None = None,
    ) -> Iterator[tuple[tuple[int, ...], Message]]:
        """Ask nodes about some of their clients at a time; yield the clients and the reply.

        Clients of a node that gives no answer are refused. Without ``client_ids`` it is all.
        """
        for requests in _about(self.hosts, message_type, header, client_ids, states, at_once):
            asked = {message.metadata.dst_node_id: ids for ids, message in requests}
            messages = [message for _, message in requests]
            for message, reply in self.reply_timeout.ask(self.grid, messages):
                ids, what = asked[message.metadata.dst_node_id], _PHASES[message_type]
                if isinstance(reply, str):
                    node = message.metadata.dst_node_id
                    said = f"Node {node} cannot save or load its clients: {reply}"
                    told = [refusal(i, header.round, what, "") for i in ids]
                    self.refused([replace(f, error=said, is_mistake=True) for f in told])
                    continue
                try:
                    check_envelope(message, reply)
                except KnowledgeError as error:
                    self._refuse(ids, header, what, str(error))
                    continue
                yield ids, reply

    def _read_tokens(self, reply: Message, client_ids: Sequence[int]) -> list[int]:
        tokens = np.frombuffer(_array(reply, TOKENS, np.int64), dtype=np.int64)
        if tokens.shape != (len(client_ids),) or bool((tokens < 0).any()):
            raise KnowledgeError(
                "The reply does not say which states count",
                got=f"{len(tokens)} numbers from {tokens.min() if len(tokens) else 'none'}",
                allowed=f"{len(client_ids)} numbers from 0",
            )
        known: list[int] = tokens.tolist()
        work = [i for i, token in zip(client_ids, known, strict=True) if not token]
        if gone := sorted(self.work.begun & set(work)):
            raise no_state(f"nothing of the clients {gone[:10]}, who have been at work")
        return known

    def _refuse(self, client_ids: Sequence[int], header: Header, phase: str, reason: str) -> None:
        self.refused([refusal(i, header.round, phase, reason) for i in client_ids])


_PHASES = {PREPARE: "begin", SAVE: "save", LOCATE: "save", MODELS: "save", LOAD: "load"}


def _about(
    hosts: Hosts,
    message_type: str,
    header: Header,
    client_ids: Collection[int] | None,
    states: Mapping[int, dict[str, Tensor]] | None,
    at_once: Callable[[], int],
) -> Iterator[list[tuple[tuple[int, ...], Message]]]:
    """Yield messages about what clients remember, for a few clients at a time.

    Args:
        hosts: Who hosts whom.
        message_type: Whether they save, load or locate.
        header: Goes to every node.
        client_ids: Which of their clients it is about; None for all.
        states: What they are to remember, by client; None asks them what they do.
        at_once: How many clients of a node the next message is about.

    Returns:
        Messages that may be asked together, each with the clients it is about.
    """
    known = {
        node_id: [i for i in hosted if client_ids is None or i in client_ids]
        for node_id, hosted in hosts.items()
    }
    first, most = 0, max(map(len, known.values()), default=0)
    while first < most:
        messages, last = [], first + at_once()
        for node_id, hosted in known.items():
            if not (ids := tuple(hosted[first:last])):
                continue
            content = opening(header, {"client_ids": np.array(ids, dtype=np.int64)})
            if states is not None:
                flat = {f"{i}/{name}": v for i in ids for name, v in states[i].items()}
                content[STATES] = array_record({STATES: np.frombuffer(save(flat), np.uint8)})
            messages.append((ids, Message(content, node_id, message_type)))
        first = last
        yield messages


def _array(reply: Message, name: str, dtype: type[np.generic]) -> bytes:
    """Return the bytes of the one array that a reply holds under a name."""
    record = take(reply.content.array_records, name, "The reply")
    array = read_arrays(record, "The reply").get(name)
    if array is None or array.dtype != dtype or array.ndim != 1:
        raise KnowledgeError(
            f"The reply does not hold '{name}'",
            got="nothing" if array is None else f"{array.dtype} of rank {array.ndim}",
            allowed=f"{np.dtype(dtype)} of rank 1",
        )
    return array.tobytes()
