"""Ask every node, collect what its clients answer: the round's messages over a Flower Grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedfuse.codec.parcel import Parcel
from fedfuse.errors import FedfuseError
from fedfuse.exchange.kind import PREDICTIONS, Download, Kind, Upload
from fedfuse.exchange.payloads import ClassKnowledge, ModelBank
from fedfuse.messages import (
    DISTILL,
    HELLO,
    TEST,
    TRAIN,
    Failure,
    Header,
)
from fedfuse.types import ClientMetrics, KnowledgeBank, Teachers
from fedfuse.wire import Expectation, decode
from server.answer import Answer
from server.hello import read_hello
from server.link import Link, distinct_bytes
from server.patience import Patience
from server.remote_states import RemoteStates
from server.replies import Arrays, Question, odd_ones_out, quarantine, read_reply
from server.requests import Hosts, compose, exchanged


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
        link: How predictions are read and teachers written.
        num_nodes: How many nodes there will be; None waits until every client has one.
        patience: How long to wait.
        fail_fast: Whether a node whose first words are refused stops the run; if not, it is left
            out, and the others must host every client.
        on_answer: Called with the ids of the clients that a node has answered for.
        on_silence: Called now and then with the ids of clients that have not answered for
            unusually long, and the seconds since they were asked.
        states: Folder with the clients' state files, if they wait in files that the server
            reaches; None if they must be asked for.

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
        link: Link | None = None,
        num_nodes: int | None = 1,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        fail_fast: bool = True,
        on_answer: Callable[[Sequence[int]], None] = lambda _: None,
        on_silence: Callable[[Sequence[int], float], None] = lambda _, __: None,
        states: Path | None = None,
    ) -> None:
        self._grid = grid
        self._patience = patience
        self._fail_fast = fail_fast
        self._left_out: list[Failure] = []
        self._on_answer = on_answer
        self._on_silence = on_silence
        self._usual: dict[str, float] = {}
        self._num_public = num_public
        self._num_classes = num_classes
        self._kind = kind
        self._link = link or Link()
        self._hosts = self._meet((public_fingerprint, common_fingerprint), num_clients, num_nodes)
        self.states = RemoteStates(grid, self._hosts, patience, states)
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
                        *(failure.error for failure in self._left_out),
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

    def distil(
        self, header: Header, client_ids: Sequence[int], teachers: Download | None
    ) -> Answer:
        """Send each client what it learns from, or nothing, and let it learn."""
        return self._ask(DISTILL, header, client_ids, teachers)

    def test(self, header: Header, client_ids: Sequence[int]) -> Answer:
        """Evaluate clients as they are."""
        return self._ask(TEST, header, client_ids, None)

    def _meet(
        self, fingerprints: tuple[str, str], num_clients: int, num_nodes: int | None
    ) -> Hosts:
        """Return which clients each node hosts, once enough nodes have come."""
        hosts: dict[int, tuple[int, ...]] = {}
        for found in self._patience.arrivals(self._grid):
            messages = [Message(RecordDict(), node_id, HELLO) for node_id in found]
            for message, reply in self._patience.ask(self._grid, messages):
                node_id = message.metadata.dst_node_id
                try:
                    if isinstance(reply, str):
                        raise FedfuseError(f"Node {node_id} cannot take part", got=reply)
                    hosts[node_id] = read_hello(reply.content, node_id, fingerprints, num_clients)
                except FedfuseError as error:
                    if self._fail_fast:
                        raise
                    self._left_out.append(_no_client("hello", str(error)))
            num_hosted = sum(map(len, hosts.values()))
            if num_hosted >= num_clients or (num_nodes is not None and len(hosts) >= num_nodes):
                break
        return hosts

    def _ask(
        self,
        message_type: str,
        header: Header,
        client_ids: Sequence[int],
        teachers: Download | None,
        restarted: Sequence[int] = (),
    ) -> Answer:
        """Ask those of the clients that are wanted, and read what they answer."""
        sent = (
            self._link.write(teachers, header.round) if isinstance(teachers, Teachers) else teachers
        )
        self._link.lost(restarted)
        requests = compose(
            self._hosts, message_type, header, client_ids, sent, restarted, self._link
        )
        asked, num_bytes = requests.asked, requests.num_bytes
        num_public, kind = self._num_public(header.round), self._kind
        phase = message_type.rsplit(".", 1)[-1]

        def expect(ids: tuple[int, ...]) -> Expectation:
            sizes = kind.sizes_of(ids)
            return Expectation(ids, num_public, self._num_classes, kind.width, sizes)

        def decode_upload(arrays: Arrays, expected: Expectation) -> Upload:
            if kind.upload is KnowledgeBank:
                return self._link.read(arrays, expected)
            return decode(kind.upload, arrays, expected)  # type: ignore[no-any-return]

        banks: list[Upload] = []
        metrics: list[ClientMetrics] = []
        failures, self._left_out = self._left_out, []
        begun = time.monotonic()

        def silent(unanswered: Sequence[Message], seconds: float) -> None:
            node_ids = [message.metadata.dst_node_id for message in unanswered]
            self._on_silence(sorted(i for node_id in node_ids for i in asked[node_id]), seconds)

        usual = self._usual.get(message_type, 0.0)
        for message, reply in self._patience.ask(self._grid, requests.messages, silent, usual):
            self._usual[message_type] = max(usual, time.monotonic() - begun)
            node_ids = asked[message.metadata.dst_node_id]
            self._on_answer(node_ids)
            if isinstance(reply, str):
                failures += _absent(node_ids, header.round, message_type, reply)
                continue
            question = Question(node_ids, header, phase, expect, decode_upload)
            read = read_reply(reply.content, question)
            failures += read.failures
            num_bytes += exchanged(read.arrays)
            if read.knowledge is not None:
                banks.append(read.knowledge)
            if read.metrics is not None:
                metrics.append(read.metrics)
        banks, odd = odd_ones_out(banks)
        for bank, reason in odd:
            question = Question((), header, phase, expect, decode_upload)
            failures += [quarantine(i, question, reason) for i in bank.client_ids.tolist()]
        if sent is not None:
            self._link.lost([failure.client_id for failure in failures])
        return Answer(
            knowledge=self._kind.upload.stack(banks) if banks else None,
            metrics=ClientMetrics.stack(metrics) if metrics else None,
            failures=tuple(sorted(failures, key=lambda failure: failure.client_id)),
            num_bytes=num_bytes if self._kind.counted else 0,
            asked_bytes=requests.asked_bytes,
            broadcast_bytes=_distinct(sent, num_bytes) if self._kind.counted else 0,
        )


def _no_client(phase: str, reason: str) -> Failure:
    """Return the failure of a node that nobody can tell the clients of."""
    return Failure(-1, 0, phase, reason, traceback="", is_mistake=False, quarantined=True)


def _absent(
    client_ids: Sequence[int], round_: int, message_type: str, reason: str
) -> Iterator[Failure]:
    """Yield the failure of each client of a node that gave no answer."""
    hosted = ", ".join(map(str, client_ids))
    for client_id in client_ids:
        yield Failure(
            client_id=client_id,
            round=round_,
            phase=message_type.rsplit(".", 1)[-1],
            error=f"the node of client {hosted} gave no answer: {reason}",
            traceback="",
            is_mistake=False,
        )


def _distinct(sent: Download | Parcel | None, num_bytes: int) -> int:
    """Return the bytes that leave the server if equal messages leave it once."""
    if isinstance(sent, ModelBank | ClassKnowledge):
        return sum(map(len, {message.numpy().tobytes() for message in sent.messages()}))
    return distinct_bytes(sent) if isinstance(sent, Teachers | Parcel) else num_bytes
