"""Ask every node, collect what its clients answer: the round's messages over a Flower Grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedfuse.errors import FedfuseError, KnowledgeError
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.failure import Failure
from fedfuse.payload import Payload
from fedfuse.types import ClientMetrics
from fedfuse.wire.encode import Expectation
from fedfuse.wire.messages import (
    DISTILL,
    HANDSHAKE,
    PHASES,
    TEST,
    TRAIN,
    Header,
)
from server.transport.answer import Answer, ClientFailedError
from server.transport.channel import ServerChannel, distinct_bytes
from server.transport.client_states import RemoteStates
from server.transport.handshake import read_handshake
from server.transport.replies import (
    Question,
    check_envelope,
    odd_ones_out,
    quarantine,
    read_reply,
    refusal,
)
from server.transport.reply_timeout import ReplyTimeout
from server.transport.requests import Hosts, compose, knowledge_bytes


class Federation:
    """The nodes behind a Grid and the clients that each of them hosts.

    Args:
        grid: Flower's way to the nodes, whichever engine runs them.
        num_clients: K; the nodes together must host the clients 0 to K-1, each once.
        num_public: Round to the number of its public samples, m.
        num_classes: C.
        public_fingerprint: Hash of the server's public set; every node must have the same.
        common_fingerprint: Hash of everything that every node must have as the server has it.
        kind: What clients send and receive.
        channel: How predictions are read and teachers written.
        num_nodes: How many nodes there will be; None waits until every client has one.
        reply_timeout: How long to wait.
        fail_fast: Whether a node whose first words are refused stops the run; if not, it is left
            out, and the others must host every client.
        on_answer: Called with the ids of the clients that a node has answered for.
        on_silence: Called now and then with the ids of clients that have not answered for
            unusually long, and the seconds since they were asked.
        states: Folder with the clients' state files, if they wait in files that the server
            reaches; None if they must be asked for.
        num_tests: Samples of the balanced test set; 0 if nobody knows.

    Raises:
        FedfuseError: If the nodes host other clients or another public set.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        num_clients: int,
        num_public: Callable[[int], int],
        num_classes: int,
        public_fingerprint: str,
        common_fingerprint: str = "",
        kind: Kind = PREDICTIONS,
        channel: ServerChannel | None = None,
        num_nodes: int | None = 1,
        reply_timeout: ReplyTimeout = ReplyTimeout(),  # noqa: B008 - frozen
        fail_fast: bool = True,
        on_answer: Callable[[Sequence[int]], None] = lambda _: None,
        on_silence: Callable[[Sequence[int], float], None] = lambda _, __: None,
        states: Path | None = None,
        num_tests: int = 0,
    ) -> None:
        self._grid = grid
        self._reply_timeout = reply_timeout
        self._fail_fast = fail_fast
        self._noted: list[Failure] = []
        self._on_answer = on_answer
        self._on_silence = on_silence
        self._usual: dict[str, float] = {}
        self._num_public, self._num_tests = num_public, num_tests
        self._num_classes = num_classes
        self._kind = kind
        self._channel = channel or ServerChannel()
        self._hosts = self._meet((public_fingerprint, common_fingerprint), num_clients, num_nodes)
        # No method of this object's own: in a circle the whole run, data and all, would stay in
        # memory until Python looks for circles, long after the next runs of a sweep have begun.
        refused = partial(_refused, fail_fast, self._noted)
        self.states = RemoteStates(grid, self._hosts, reply_timeout, states, refused)
        """What the clients remember."""
        hosted = sorted(i for client_ids in self._hosts.values() for i in client_ids)
        if hosted != list(range(num_clients)):
            raise FedfuseError(
                "The nodes together do not host each client once",
                got=f"client ids {hosted}",
                allowed=f"each of 0 to {num_clients - 1} exactly once",
                next_step=" ".join(
                    [
                        "Give each node another partition-id and all the same num_clients.",
                        *(failure.error for failure in self._noted),
                    ]
                ),
            )

    def train(
        self, header: Header, client_ids: Sequence[int], restarted: Sequence[int] = ()
    ) -> Answer:
        """Let the clients train and, if the header says so, share and evaluate.

        Those in ``restarted`` forget beforehand all that they have learnt.
        """
        return self._ask(TRAIN, header, client_ids, None, restarted)

    def distil(self, header: Header, client_ids: Sequence[int], teachers: Payload | None) -> Answer:
        """Send each client what it learns from, or nothing, and let it learn."""
        return self._ask(DISTILL, header, client_ids, teachers)

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are."""
        return self._ask(TEST, header, client_ids, None)

    def forgotten(self, client_ids: Sequence[int]) -> None:
        """Note that these clients remember nothing of what they were ever sent."""
        self._channel.lost(client_ids)

    def _meet(
        self, fingerprints: tuple[str, str], num_clients: int, num_nodes: int | None
    ) -> Hosts:
        """Return which clients each node hosts, once enough nodes have come."""
        hosts: dict[int, tuple[int, ...]] = {}
        for found in self._reply_timeout.arrivals(self._grid):
            messages = [Message(RecordDict(), node_id, HANDSHAKE) for node_id in found]
            for message, reply in self._reply_timeout.ask(self._grid, messages):
                node_id = message.metadata.dst_node_id
                try:
                    if isinstance(reply, str):
                        raise FedfuseError(f"Node {node_id} cannot take part", got=reply)
                    check_envelope(message, reply)
                    hosts[node_id] = read_handshake(
                        reply.content, node_id, fingerprints, num_clients
                    )
                except FedfuseError as error:
                    if self._fail_fast:
                        raise
                    self._noted.append(refusal(-1, 0, "hello", str(error)))
            num_hosted = sum(map(len, hosts.values()))
            if num_hosted >= num_clients or (num_nodes is not None and len(hosts) >= num_nodes):
                break
        return hosts

    def _ask(
        self,
        message_type: str,
        header: Header,
        client_ids: Sequence[int],
        teachers: Payload | None,
        restarted: Sequence[int] = (),
    ) -> Answer:
        """Ask those of the clients that are wanted, and read what they answer."""
        wanted = self._kind.download
        if teachers is not None and not isinstance(teachers, wanted):
            raise FedfuseError(
                "What the server made of the clients' knowledge is another payload than the "
                "exchange's kind declares",
                got=type(teachers).__name__,
                allowed=wanted.__name__,
            )
        sent = None if teachers is None else self._channel.write(teachers, header.round)
        self._channel.lost(restarted)
        requests = compose(
            self._hosts, message_type, header, client_ids, sent, restarted, self._channel
        )
        asked, num_bytes = requests.asked, requests.num_bytes
        num_public, upload = self._num_public(header.round), self._kind.upload

        def expect(ids: tuple[int, ...]) -> Expectation:
            return self._kind.expect(ids, num_public, self._num_classes)

        decode_upload = partial(self._channel.read, upload)

        banks: list[Payload] = []
        metrics: list[ClientMetrics] = []
        failures: list[Failure] = []
        begun = time.monotonic()

        def silent(unanswered: Sequence[Message], seconds: float) -> None:
            node_ids = [message.metadata.dst_node_id for message in unanswered]
            self._on_silence(sorted(i for node_id in node_ids for i in asked[node_id]), seconds)

        usual = self._usual.get(message_type, 0.0)
        for message, reply in self._reply_timeout.ask(self._grid, requests.messages, silent, usual):
            self._usual[message_type] = max(usual, time.monotonic() - begun)
            node_ids = asked[message.metadata.dst_node_id]
            self._on_answer(node_ids)
            if isinstance(reply, str):
                failures += _absent(node_ids, header.round, PHASES[message_type], reply)
                continue
            question = Question(
                node_ids, header, message_type, expect, decode_upload, upload, self._num_tests
            )
            try:
                check_envelope(message, reply)
            except KnowledgeError as error:
                failures += [quarantine(i, question, str(error)) for i in node_ids]
                continue
            read = read_reply(reply.content, question)
            failures += read.failures
            num_bytes += knowledge_bytes(upload, read.arrays)
            if read.knowledge is not None:
                banks.append(read.knowledge)
            if read.metrics is not None:
                metrics.append(read.metrics)
        banks, odd = odd_ones_out(banks)
        for bank, reason in odd:
            question = Question((), header, message_type, expect, decode_upload, upload)
            failures += [quarantine(i, question, reason) for i in bank.client_ids.tolist()]
        lost = [failure.client_id for failure in failures]
        if sent is not None:
            self._channel.lost(lost)
        if message_type != TEST:  # which changes nobody
            everyone = {i for node_ids in asked.values() for i in node_ids}
            self.states.work.enter(header.arm)
            self.states.work.asked(everyone, lost, restarted)
        noted = tuple(self._noted)
        self._noted.clear()
        broadcast = num_bytes if sent is None else distinct_bytes(sent)
        return Answer(
            knowledge=self._kind.upload.stack(banks) if banks else None,
            metrics=ClientMetrics.stack(metrics) if metrics else None,
            failures=tuple(sorted(failures, key=lambda failure: failure.client_id)),
            num_bytes=num_bytes if self._kind.counted else 0,
            asked_bytes=requests.asked_bytes,
            noted=noted,
            broadcast_bytes=broadcast if self._kind.counted else 0,
        )


def _refused(fail_fast: bool, noted: list[Failure], failures: Sequence[Failure]) -> None:
    """Take the refusal of what clients were to be saved or loaded with."""
    if fail_fast:  # what a node itself says is wrong may be the user's to mend
        first = failures[0]
        raise FedfuseError(first.error) if first.is_mistake else ClientFailedError(first)
    noted += failures


def _absent(client_ids: Sequence[int], round_: int, phase: str, reason: str) -> Iterator[Failure]:
    """Yield the failure of each client of a node that gave no answer."""
    hosted = ", ".join(map(str, client_ids))
    for client_id in client_ids:
        yield Failure(
            client_id=client_id,
            round=round_,
            phase=phase,
            error=f"the node of client {hosted} gave no answer: {reason}",
            traceback="",
            is_mistake=False,
        )
