"""The Flower ClientApp: messages in, :class:`clients.node.Node` calls, messages out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients import handover
from clients.node import Node
from clients.state.state_store import StatePlan
from fedfuse.augment import Guided
from fedfuse.codec import Parcel
from fedfuse.codec.packing import unpack
from fedfuse.declarations import declared
from fedfuse.errors import KnowledgeError
from fedfuse.failure import Failure
from fedfuse.payload import ArrayField, Payload
from fedfuse.types import ClientMetrics
from fedfuse.wire.encode import decode, encode, spread
from fedfuse.wire.messages import (
    ACKNOWLEDGED,
    AUGMENT,
    CLIENTS,
    DISTILL,
    FAILURES,
    HEADER,
    KNOWLEDGE,
    LOAD,
    LOCATE,
    METRICS,
    MODELS,
    PREPARE,
    REQUEST,
    RESTARTED,
    SAVE,
    STATES,
    TEACHERS,
    TOKENS,
    Header,
    answers,
    dump_failures,
)
from fedfuse.wire.record_checks import read_arrays, read_ids, take
from fedfuse.wire.schema import check_header

NodeBuilder = Callable[[Context], Node]
"""Build the node that a Flower context (its ``node_config``) describes."""

Plan = StatePlan | Callable[[Context], StatePlan]

HandOver = Callable[[Node, Header, tuple[int, ...]], bytes]
"""What of some clients goes to the server, as safetensors."""

_NODES: dict[tuple[int, int], Node] = {}
"""Nodes of this process by (run, node): Flower hands over a fresh ClientApp for every message."""


class KnowledgeClientApp(ClientApp):
    """A ClientApp that travels as nothing but the recipe of its nodes.

    Flower's Ray engine pickles the app with every message; without ``__reduce__`` the handlers
    would go by value, and with them everything that they see.

    Args:
        build: Builds a node; must be picklable where the engine has other processes.
        plan: Where client states wait between messages, or what tells it from a Context.
    """

    def __init__(self, build: NodeBuilder, plan: Plan) -> None:
        super().__init__()
        self._recipe = (build, plan)

    def __reduce__(self) -> tuple[Callable[..., ClientApp], tuple[NodeBuilder, Plan]]:
        return make_client_app, self._recipe


def make_client_app(build: NodeBuilder, plan: Plan = StatePlan()) -> ClientApp:  # noqa: B008
    """Return a ClientApp whose nodes are built by ``build``, once per process and run."""
    app = KnowledgeClientApp(build, plan)

    def node_of(context: Context) -> Node:
        key = (context.run_id, context.node_id)
        if key not in _NODES:
            node = _NODES[key] = build(context)
            node.on_client_done = _both(node.states.save, node.on_client_done)
        return _NODES[key]

    @contextmanager
    def at_work(message: Message, context: Context) -> Iterator[tuple[Node, Header]]:
        """Open the states of the node's clients for one message."""
        node, header = node_of(context), _header(message)
        where = plan if isinstance(plan, StatePlan) else plan(context)
        place = where.open(context.state, header.arm, _read_ids(message, node))
        node.states.open(place, node.client_ids, node.make_optimizer)
        yield node, header
        node.states.close()

    @app.query()
    def handshake(message: Message, context: Context) -> Message:
        node = node_of(context)
        content = RecordDict(
            {
                CLIENTS: _ids(node.client_ids),
                HEADER: ConfigRecord(
                    {"public": node.data.public.fingerprint(), "common": node.data.common_hash}
                ),
            }
        )
        return Message(content, reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            client_ids = _read_ids(message, node)
            if RESTARTED in message.content:
                node.restart(header.arm, _read_ids(message, node, RESTARTED))
            if (known := _read_acknowledged(message, client_ids)) is not None:
                node.channel.acknowledged.update(known)
            num_public = node.inputs.rounds.size(header.round)
            node.channel.requested = _read_request(message, num_public, client_ids)
            node.inputs.samples.sent = _read_augment(message, node, num_public)
            knowledge, metrics, failures = node.train(header, client_ids)
        return _reply(message, knowledge, metrics, failures)

    @app.train(DISTILL.split(".")[1])
    def distil(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            client_ids = _read_ids(message, node)
            received: Payload | Parcel | None = None
            if TEACHERS in message.content:
                record = take(message.content.array_records, TEACHERS, "The request")
                arrays = read_arrays(record, "'teachers'")
                num_public = node.inputs.rounds.size(header.round)
                asked = node.kind.expect(client_ids, num_public, node.data.num_classes, down=True)
                if Parcel.is_in(arrays):
                    received = Parcel.read(arrays, asked)
                else:
                    wanted = node.kind.download
                    received = decode(wanted, spread(wanted, arrays), asked)
            metrics, failures = node.distil(header, client_ids, received)
        return _reply(message, None, metrics, failures)

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            metrics, failures = node.test(header, _read_ids(message, node))
        return _reply(message, None, metrics, failures)

    @app.query(PREPARE.split(".")[1])
    def prepare(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            handover.prepare(node, header, _read_ids(message, node))
        return Message(RecordDict(), reply_to=message)

    def hand_over(message: Message, context: Context, what: HandOver) -> Message:
        with at_work(message, context) as (node, header):
            packed = what(node, header, _read_ids(message, node))
        states = ArrayRecord({STATES: Array(np.frombuffer(packed, dtype=np.uint8))})
        told = ConfigRecord({**answers(header, message.metadata.message_type)})
        return Message(RecordDict({STATES: states, HEADER: told}), reply_to=message)

    @app.query(SAVE.split(".")[1])
    def save(message: Message, context: Context) -> Message:
        return hand_over(message, context, handover.save)

    @app.query(MODELS.split(".")[1])
    def models(message: Message, context: Context) -> Message:
        return hand_over(message, context, handover.models)

    @app.query(LOCATE.split(".")[1])
    def locate(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            tokens = np.array(node.states.tokens(_read_ids(message, node)), dtype=np.int64)
        record = ArrayRecord({TOKENS: Array(tokens)})
        told = ConfigRecord({**answers(header, message.metadata.message_type)})
        return Message(RecordDict({TOKENS: record, HEADER: told}), reply_to=message)

    @app.query(LOAD.split(".")[1])
    def load(message: Message, context: Context) -> Message:
        with at_work(message, context) as (node, header):
            record = take(message.content.array_records, STATES, "The request")
            content = read_arrays(record, "The request")[STATES].tobytes()
            handover.load(node, header, _read_ids(message, node), content)
        return Message(RecordDict(), reply_to=message)

    return app


def forget_run(run_id: int) -> None:
    """Free the nodes of a finished run in this process."""
    for key in [key for key in _NODES if key[0] == run_id]:
        del _NODES[key]


def _both(first: Callable[[int], None], then: Callable[[int], None]) -> Callable[[int], None]:
    def call(client_id: int) -> None:
        first(client_id)
        then(client_id)

    return call


def _header(message: Message) -> Header:
    return Header.parse(take(message.content.config_records, HEADER, "The request"))


def _ids(client_ids: tuple[int, ...]) -> ArrayRecord:
    return ArrayRecord({"client_ids": Array(np.array(client_ids, dtype=np.int64))})


def _read_ids(message: Message, node: Node, name: str = CLIENTS) -> tuple[int, ...]:
    record = take(message.content.array_records, name, "The request")
    return read_ids(record, "The request", node.client_ids)


def _read_acknowledged(message: Message, client_ids: tuple[int, ...]) -> dict[int, int] | None:
    """Return how many messages of each client the server remembers, if it says so."""
    record = message.content.array_records[CLIENTS]
    if ACKNOWLEDGED not in record:
        return None
    counts = read_arrays({ACKNOWLEDGED: record[ACKNOWLEDGED]}, "The request")[ACKNOWLEDGED]
    if counts.dtype.kind != "i" or counts.shape != (len(client_ids),):
        raise KnowledgeError(
            f"'{ACKNOWLEDGED}' is malformed",
            got=f"{counts.dtype} of shape {list(counts.shape)}",
            allowed=f"integers [{len(client_ids)}]",
        )
    return dict(zip(client_ids, counts.tolist(), strict=True))


def _reply(
    message: Message,
    knowledge: Payload | Parcel | None,
    metrics: ClientMetrics | None,
    failures: list[Failure],
) -> Message:
    told = answers(_header(message), message.metadata.message_type)
    report = ConfigRecord({"json": dump_failures(failures), **told})
    content = RecordDict({FAILURES: report})
    for name, value in ((KNOWLEDGE, knowledge), (METRICS, metrics)):
        if value is not None:
            arrays = value.arrays() if isinstance(value, Parcel) else encode(value)
            content[name] = ArrayRecord({key: Array(array) for key, array in arrays.items()})
    return Message(content, reply_to=message)


def _read_request(
    message: Message, num_public: int, client_ids: tuple[int, ...]
) -> dict[int, torch.Tensor] | None:
    """Return which of the round's samples each client is asked for, bool [m]; None for all."""
    addressed = message.content.array_records[CLIENTS]
    if REQUEST not in addressed:
        return None
    bits = read_arrays({REQUEST: addressed[REQUEST]}, "The request")[REQUEST]
    octets, clients = (-(-num_public // 8), "one bit a sample"), (len(client_ids), "who is asked")
    dims = "K P" if bits.ndim == 2 else "P"
    check_header(REQUEST, bits, ArrayField(dims, torch.uint8), {"K": clients, "P": octets})
    rows = unpack(torch.from_numpy(bits.copy()).view(-1, octets[0]), 2, num_public).bool()
    return dict(zip(client_ids, rows.expand(len(client_ids), -1), strict=True))


def _read_augment(message: Message, node: Node, num_public: int) -> torch.Tensor | None:
    """Return what the server says of the round's samples, uint8 [m, a]; None for nothing."""
    addressed = message.content.array_records[CLIENTS]
    if AUGMENT not in addressed:
        return None
    if not declared(node.augment, "needs_student", False):
        raise KnowledgeError(
            "The server says what becomes of the public samples, and here nothing does",
            next_step="Run server and clients with the same configuration.",
        )
    told = read_arrays({AUGMENT: addressed[AUGMENT]}, "The request")[AUGMENT]
    width = cast("Guided", node.augment).width(node.data.input_shape)
    sizes = {"P": (num_public, "the round's samples"), "A": (width, "the augmentation")}
    check_header(AUGMENT, told, ArrayField("P A", torch.uint8), sizes)
    return torch.from_numpy(told.copy())
