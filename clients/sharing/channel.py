"""A client's end of the wire: knowledge to arrays, arrays to teachers, through the codec.

What the codec remembers waits in each client's own memory, under ``codec/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from fedfuse.codec import (
    PLAIN,
    Channel,
    Parcel,
    State,
    open_teachers,
    seal_knowledge,
    stack_states,
    state_rows,
)
from fedfuse.payload import Payload
from fedfuse.select.cache import Signal
from fedfuse.types import KnowledgeBank, Teachers

CACHE = "cache/targets"
"""Where a client keeps the targets that it has got, [P, C]."""

Memory = Mapping[int, dict[str, torch.Tensor]]
Remember = dict[int, State]
"""What each client will have to remember once the message counts."""


@dataclass(slots=True)
class ClientChannel:
    """Write and read the messages of a node's clients.

    Args:
        channel: The codecs.
        acknowledged: How many messages of each client the server has said it remembers.
        requested: Client id to which samples the server has asked it for, bool [m]; None for all.
    """

    channel: Channel = field(default_factory=Channel)
    acknowledged: dict[int, int] = field(default_factory=dict)
    requested: dict[int, torch.Tensor] | None = None

    def write(self, bank: Payload, memory: Memory) -> tuple[Payload | Parcel, Remember]:
        """Return what is sent, and what the clients must remember if it is.

        A codec writes nothing but predictions.
        """
        if not isinstance(bank, KnowledgeBank):
            return bank, {}
        if self.requested is not None:
            bank = _only(bank, self.requested)
        if self.channel.up is None and bank.mask is None and bank.wishes is None:
            return bank, {}
        ids = bank.client_ids.tolist()
        states = [_recall(memory[i], "codec/up/") for i in ids]
        for row, client_id in enumerate(ids):
            known = self.acknowledged.get(client_id)
            if known is not None and states[row] and int(states[row]["messages"]) != known:
                states[row] = {}  # a message of its was lost on the way
        codec = self.channel.up or PLAIN
        parcel, after = seal_knowledge(bank, codec, stack_states(states), self.channel.extract)
        return parcel, _divided(ids, after, "codec/up/")

    def read(
        self, parcel: Parcel, memory: Memory, index: torch.Tensor, num_public: int
    ) -> tuple[Teachers, Remember]:
        """Return the teachers that came, and what the clients must remember of them.

        Args:
            parcel: For k clients.
            memory: Theirs.
            index: The round's public samples, [m].
            num_public: P.
        """
        ids = parcel.client_ids.tolist()
        state = stack_states([_recall(memory[i], "codec/down/") for i in ids])
        teachers, after = open_teachers(parcel, self.channel.down or PLAIN, state)
        news = _divided(ids, after, "codec/down/")
        if "signals" not in parcel.extras:
            return teachers, news
        return _recalled(teachers, parcel.extras["signals"], memory, index, num_public, news)


def _only(bank: KnowledgeBank, requested: Mapping[int, torch.Tensor]) -> KnowledgeBank:
    """Return the bank with answers for these samples alone, bool [m] for each client."""
    wanted = torch.stack([requested[client_id] for client_id in bank.client_ids.tolist()])
    return replace(bank, mask=wanted if bank.mask is None else wanted & bank.mask)


def _recalled(
    teachers: Teachers,
    signals: torch.Tensor,
    memory: Memory,
    index: torch.Tensor,
    num_public: int,
    news: Remember,
) -> tuple[Teachers, Remember]:
    """Fill in the targets that the clients hold, and let them remember the ones that came."""
    whole = []
    for row, client_id in enumerate(teachers.client_ids.tolist()):
        store = memory[client_id].get(CACHE)
        if store is None:
            store = torch.zeros(num_public, teachers.targets.shape[2])
        told = signals[row]
        sent = (told == Signal.NEWLY_CACHED) | (told == Signal.EXPIRED)
        store = store.index_copy(0, index[sent], teachers.targets[row, sent])
        whole.append(store[index])
        news.setdefault(client_id, {})[CACHE] = store
    weight = (signals != Signal.LEFT_OUT).float()
    return replace(teachers, targets=torch.stack(whole), sample_weight=weight), news


def _recall(memory: dict[str, torch.Tensor], prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in memory.items() if k.startswith(prefix)}


def _divided(client_ids: Sequence[int], state: State, prefix: str) -> Remember:
    """Return each client's part of a state, under the names it is kept by."""
    if not state:
        return {}
    return {
        client_id: {prefix + k: v for k, v in state_rows(state, torch.tensor([row])).items()}
        for row, client_id in enumerate(client_ids)
    }
