"""The server's end of the wire: arrays to knowledge, teachers to arrays, through the codec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedfuse.codec import (
    PLAIN,
    Channel,
    Parcel,
    open_knowledge,
    seal_teachers,
)
from fedfuse.codec.memory import CodecMemory
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.wire import Expectation, decode, encode


class Link:
    """Write and read the messages of all clients, and remember what the codec needs.

    Messages may be lost. What a client sends builds on what the server has acknowledged with its
    last request; what the server sends builds on what the client has confirmed by its answer.

    Args:
        channel: The codecs.
    """

    def __init__(self, channel: Channel = Channel()) -> None:  # noqa: B008 - frozen
        self.channel = channel
        self._up = CodecMemory()
        self._down = CodecMemory()

    def acknowledged(self, client_ids: Sequence[int]) -> list[int] | None:
        """Return how many messages the server remembers of each client; None if it need not."""
        return self._up.messages(client_ids) if self.channel.needs_fixed_public_set else None

    def read(self, arrays: Mapping[str, Any], expect: Expectation) -> KnowledgeBank:
        """Return the knowledge that a node sent, checked.

        Raises:
            KnowledgeError: If it is damaged, or not what was asked for.
        """
        if not Parcel.is_in(arrays):
            return decode(KnowledgeBank, arrays, expect)
        parcel, ids = Parcel.read(arrays, expect), expect.client_ids
        codec = self.channel.up or PLAIN
        bank, state = open_knowledge(parcel, codec, self._up.of(ids))
        bank = decode(KnowledgeBank, encode(bank), expect)
        self._up.keep(ids, state)
        return bank

    def write(self, teachers: Teachers) -> Teachers | Parcel:
        """Return what is sent: the teachers as they are, or as the codec writes them."""
        if self.channel.down is None and teachers.sample_weight is None:
            return teachers
        codec, ids = self.channel.down or PLAIN, teachers.client_ids.tolist()
        parcel, state = seal_teachers(teachers, codec, self._down.of(ids))
        self._down.keep(ids, state)
        return parcel

    def lost(self, client_ids: Sequence[int]) -> None:
        """Note that these clients have not confirmed their teachers; the next come whole."""
        self._down.forget(client_ids)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        both = (("up", self._up), ("down", self._down))
        return {f"{way}/{k}": v for way, memory in both for k, v in memory.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        for way, memory in (("up", self._up), ("down", self._down)):
            own = {k: v for k, v in state.items() if k.startswith(f"{way}/")}
            memory.restore({k.removeprefix(f"{way}/"): v for k, v in own.items()})


def distinct_bytes(sent: Teachers | Parcel) -> int:
    """Return the bytes of all teachers if one that several clients get is sent to them once."""
    if isinstance(sent, Parcel):
        return sent.distinct_bytes
    targets = sent.targets
    common = all(torch.equal(row, targets[0]) for row in targets[1:])
    return targets[0].nbytes if common else targets.nbytes
