"""The server's end of the wire: arrays to knowledge, teachers to arrays, through the codec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
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
from fedfuse.codec.packing import pack
from fedfuse.payload import Payload
from fedfuse.protocols import Stateful
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.wire.encode import Expectation, decode, encode
from server.fusion.guided import GuidedSamples
from server.fusion.requests import Requests
from server.fusion.target_cache import TargetCache


class ServerChannel:
    """Write and read the messages of all clients, and remember what the codec needs.

    Messages may be lost. What a client sends builds on what the server has acknowledged with its
    last request; what the server sends builds on what the client has confirmed by its answer.

    Args:
        channel: The codecs.
        cache: Which targets clients hold already; None sends all of them in every round.
        guided: What the server says of the public samples that it changes; None for nothing.
        requests: Which samples clients are asked for; None asks for all, or what the cache lacks.
        accepts: Raises a :class:`KnowledgeError` that names the clients whose knowledge the server
            has no use for, before anything is remembered of it.
    """

    def __init__(
        self,
        channel: Channel = Channel(),  # noqa: B008 - frozen
        cache: TargetCache | None = None,
        accepts: Callable[[Any], None] = lambda _: None,
        requests: Requests | None = None,
        guided: GuidedSamples | None = None,
    ) -> None:
        self.channel = channel
        self.accepts = accepts
        self.cache = cache
        self.requests = requests
        self.guided = guided
        self._up = CodecMemory()
        self._down = CodecMemory()

    def acknowledged(self, client_ids: Sequence[int]) -> list[int] | None:
        """Return how many messages the server remembers of each client; None if it need not."""
        return self._up.messages(client_ids) if self.channel.needs_fixed_public_set else None

    def request(self, round_: int, client_ids: Sequence[int]) -> Tensor | None:
        """Return which of the round's samples are asked for, one bit each; None for all.

        uint8 [m / 8], alike for all clients, or [k, m / 8], a row for each of them.
        """
        asks = self.cache or self.requests
        wanted = None if asks is None else asks.request(round_, client_ids)
        if wanted is None:
            return None
        bits = pack(wanted.view(-1, wanted.shape[-1]).to(torch.uint8), 2)
        return bits[0] if wanted.ndim == 1 else bits

    def read(self, cls: type[Payload], arrays: Mapping[str, Any], expect: Expectation) -> Payload:
        """Return the knowledge that a node sent, checked; a codec writes nothing but predictions.

        Raises:
            KnowledgeError: If it is damaged, or not what was asked for.
        """
        if cls is not KnowledgeBank or not Parcel.is_in(arrays):
            sent = decode(cls, arrays, expect)
            self.accepts(sent)
            return sent
        parcel, ids = Parcel.read(arrays, expect), expect.client_ids
        codec = self.channel.up or PLAIN
        bank, state = open_knowledge(parcel, codec, self._up.of(ids), self.channel.extract)
        bank = decode(KnowledgeBank, encode(bank), expect)
        self.accepts(bank)
        self._up.keep(ids, state)
        return bank

    def write(self, teachers: Payload, round_: int) -> Payload | Parcel:
        """Return what is sent: the knowledge as it is, or teachers as the codec writes them."""
        if not isinstance(teachers, Teachers):
            return teachers
        sent, extras = None, {}
        if self.cache is not None:
            sent, extras["signals"] = self.cache.send(teachers.client_ids, round_)
        # A parcel leaves out what does not count, and has no place for what others said.
        if self.channel.down is None and (
            teachers.sample_weight is None or teachers.heard is not None
        ):
            return teachers
        codec, ids = self.channel.down or PLAIN, teachers.client_ids.tolist()
        parcel, state = seal_teachers(teachers, codec, self._down.of(ids), sent)
        self._down.keep(ids, state)
        return replace(parcel, extras={**parcel.extras, **extras})

    def lost(self, client_ids: Sequence[int]) -> None:
        """Note that these clients have not confirmed their teachers; the next come whole."""
        self._down.forget(client_ids)
        if self.cache is not None:
            self.cache.forget(client_ids)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint must save."""
        return {f"{way}/{k}": v for way, part in self._parts() for k, v in part.state().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`state` returned."""
        for way, part in self._parts():
            own = {k: v for k, v in state.items() if k.startswith(f"{way}/")}
            part.restore({k.removeprefix(f"{way}/"): v for k, v in own.items()})

    def _parts(self) -> list[tuple[str, Stateful]]:
        return [("up", self._up), ("down", self._down)]


def distinct_bytes(sent: Payload | Parcel) -> int:
    """Return the bytes of all that is sent if what several clients get is sent to them once."""
    if isinstance(sent, Parcel):
        return sent.distinct_bytes
    beside = ("features", "prototypes", "peers")
    plain = all(getattr(sent, name, None) is None for name in beside)
    if not isinstance(sent, Teachers) or not plain:
        return sum({blake2b(each).digest(): len(each) for each in sent.messages()}.values())
    targets = sent.targets
    common = all(torch.equal(row, targets[0]) for row in targets[1:])
    return targets[0].nbytes if common else targets.nbytes
