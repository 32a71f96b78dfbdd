"""The Flower ClientApp: messages in, :class:`clients.steps.Node` calls, messages out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from clients.steps import Node
from fedfuse.messages import (
    CLIENTS,
    DISTILL,
    FAILURES,
    HEADER,
    KNOWLEDGE,
    METRICS,
    TEACHERS,
    Failure,
    Header,
    dump_failures,
)
from fedfuse.types import ClientMetrics, KnowledgeBank, Teachers
from fedfuse.wire import Expectation, decode, encode

NodeBuilder = Callable[[Context], Node]
"""Build the node that a Flower context (its ``node_config``) describes."""

_NODES: dict[tuple[int, int], Node] = {}
"""Nodes of this process by (run, node): Flower hands over a fresh ClientApp for every message."""


def make_client_app(build: NodeBuilder) -> ClientApp:
    """Return a ClientApp whose nodes are built by ``build``, once per process and run."""
    app = ClientApp()

    def node_of(context: Context) -> Node:
        key = (context.run_id, context.node_id)
        if key not in _NODES:
            _NODES[key] = build(context)
        return _NODES[key]

    @app.query()
    def hello(message: Message, context: Context) -> Message:
        node = node_of(context)
        content = RecordDict(
            {
                CLIENTS: _ids(node.client_ids),
                HEADER: ConfigRecord({"public": node.data.public.fingerprint()}),
            }
        )
        return Message(content, reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        node, header = node_of(context), _header(message)
        bank, metrics, failures = node.train(
            header.arm,
            header.round,
            _read_ids(message),
            share=header.share,
            evaluate=header.evaluate,
        )
        return _reply(message, bank, metrics, failures)

    @app.train(DISTILL.split(".")[1])
    def distil(message: Message, context: Context) -> Message:
        node, header = node_of(context), _header(message)
        client_ids = _read_ids(message)
        teachers = None
        if TEACHERS in message.content:
            arrays = {k: v.numpy() for k, v in message.content.array_records[TEACHERS].items()}
            asked = Expectation(client_ids, len(node.data.public), node.data.num_classes)
            teachers = decode(Teachers, arrays, asked)
        metrics, failures = node.distil(
            header.arm, header.round, client_ids, teachers, evaluate=header.evaluate
        )
        return _reply(message, None, metrics, failures)

    return app


def forget_run(run_id: int) -> None:
    """Free the nodes of a finished run in this process."""
    for key in [key for key in _NODES if key[0] == run_id]:
        del _NODES[key]


def _header(message: Message) -> Header:
    return Header.parse(message.content.config_records[HEADER])


def _ids(client_ids: tuple[int, ...]) -> ArrayRecord:
    return ArrayRecord({"client_ids": Array(np.array(client_ids, dtype=np.int64))})


def _read_ids(message: Message) -> tuple[int, ...]:
    return tuple(message.content.array_records[CLIENTS]["client_ids"].numpy().tolist())


def _reply(
    message: Message,
    bank: KnowledgeBank | None,
    metrics: ClientMetrics | None,
    failures: list[Failure],
) -> Message:
    content = RecordDict({FAILURES: ConfigRecord({"json": dump_failures(failures)})})
    for name, value in ((KNOWLEDGE, bank), (METRICS, metrics)):
        if value is not None:
            arrays = {key: Array(array) for key, array in encode(value).items()}
            content[name] = ArrayRecord(arrays)
    return Message(content, reply_to=message)
