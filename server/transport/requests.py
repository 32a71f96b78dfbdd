"""What the server says to each node in a phase, and how many bytes of it count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from fedfuse.codec.parcel import Parcel
from fedfuse.payload import Payload
from fedfuse.wire.encode import Arrays, encode, once
from fedfuse.wire.messages import (
    ACKNOWLEDGED,
    AUGMENT,
    CLIENTS,
    HEADER,
    REQUEST,
    RESTARTED,
    TEACHERS,
    Header,
)
from server.transport.channel import ServerChannel

Hosts = Mapping[int, tuple[int, ...]]
"""Node to the clients that it hosts."""


@dataclass(frozen=True, slots=True)
class Requests:
    """The messages of one phase.

    Args:
        messages: One for each node that hosts someone who is asked.
        asked: Node to those of its clients that are asked.
        num_bytes: Size of the knowledge that is sent.
        asked_bytes: Size of what clients are told beside it, to be able to answer.
    """

    messages: list[Message]
    asked: dict[int, tuple[int, ...]]
    num_bytes: int
    asked_bytes: int


def compose(
    hosts: Hosts,
    message_type: str,
    header: Header,
    client_ids: Sequence[int],
    sent: Payload | Parcel | None,
    restarted: Sequence[int],
    channel: ServerChannel,
) -> Requests:
    """Return what is said to the nodes.

    Args:
        hosts: Who hosts whom.
        message_type: The phase, in Flower's words.
        header: Goes to every node.
        client_ids: Who is asked.
        sent: What clients are to learn from, as it travels; None for nothing.
        restarted: Who must forget beforehand all that it has learnt.
        channel: Knows what clients are told of the server's memory.
    """
    wanted, place = set(client_ids), {client_id: row for row, client_id in enumerate(client_ids)}
    messages: list[Message] = []
    asked: dict[int, tuple[int, ...]] = {}
    num_bytes = asked_bytes = 0
    requested = channel.request(header.round, list(client_ids)) if header.share else None
    guided = channel.guided.sent(header.round) if header.share and channel.guided else None
    for node_id, hosted in hosts.items():
        ids = tuple(i for i in hosted if i in wanted)
        if not ids:
            continue
        addressed: dict[str, np.ndarray] = {"client_ids": np.array(ids, dtype=np.int64)}
        known = channel.acknowledged(ids) if header.share else None
        if known is not None:
            addressed[ACKNOWLEDGED] = np.array(known, dtype=np.int32)
        if (bits := requested) is not None:
            if bits.ndim == 2:
                bits = bits[[place[client_id] for client_id in ids]]
            else:  # every client is told, also where a node hosts many
                asked_bytes += bits.nbytes * (len(ids) - 1)
            addressed[REQUEST] = bits.numpy()
        if guided is not None:
            addressed[AUGMENT] = guided.numpy()
            asked_bytes += guided.nbytes * (len(ids) - 1)
        asked_bytes += sum(a.nbytes for name, a in addressed.items() if name != "client_ids")
        content = opening(header, addressed)
        if gone := [i for i in ids if i in restarted]:
            content[RESTARTED] = array_record({"client_ids": np.array(gone, dtype=np.int64)})
        if sent is not None:
            theirs = sent.rows(torch.searchsorted(sent.client_ids, torch.tensor(ids)))
            arrays = theirs.arrays() if isinstance(theirs, Parcel) else encode(theirs)
            num_bytes += knowledge_bytes(type(theirs), arrays)
            content[TEACHERS] = array_record(once(arrays))
        asked[node_id] = ids
        messages.append(Message(content, node_id, message_type, group_id=str(header.round)))
    return Requests(messages, asked, num_bytes, asked_bytes)


def knowledge_bytes(cls: type[Payload | Parcel], arrays: Arrays) -> int:
    """Return the bytes of the exchanged knowledge: all but what addresses and names it."""
    return (Parcel if Parcel.is_in(arrays) else cls).exchanged_bytes(arrays)


def array_record(arrays: Mapping[str, np.ndarray]) -> ArrayRecord:
    """Return arrays as Flower carries them."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items()})


def opening(header: Header, addressed: Mapping[str, np.ndarray]) -> RecordDict:
    """Return what every message begins with: the header, and who is addressed."""
    return RecordDict(
        {
            HEADER: ConfigRecord(header.fields()),  # type: ignore[arg-type]
            CLIENTS: array_record(addressed),
        }
    )
