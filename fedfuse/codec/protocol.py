"""What a codec is: predictions [k, P, C] to the bytes that really travel, and back.

A message holds k clients (a node may host many) and one direction: clients' logits going up,
teachers coming down. Nothing about its size is estimated: a codec hands over the very arrays that
are sent, and their bytes are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Space

State = dict[str, Tensor]
"""What a codec remembers from message to message; the first dimension of every tensor is the
clients. Empty at the start. Saved and loaded as any dictionary of tensors."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One message of k clients.

    Args:
        arrays: What travels, and nothing more; flat, each client's part after the other's.
        lengths: int64 [k] for each array: how many elements of it are each client's.
        shape: k, P and C, which both sides know.
        space: What the values are; both sides know it too.
        mask: bool [k, P], the samples that are in the message; None for all. Counted where it
            travels (:class:`fedfuse.codec.Parcel`), not here.
    """

    arrays: dict[str, Tensor]
    lengths: dict[str, Int[Tensor, " k"]]
    shape: tuple[int, int, int]
    space: Space
    mask: Bool[Tensor, "k P"] | None = None

    @property
    def client_bytes(self) -> Int[Tensor, " k"]:
        """Return the bytes of each client's part."""
        sizes = [count * self.arrays[name].element_size() for name, count in self.lengths.items()]
        return sum(sizes, start=torch.zeros(self.shape[0], dtype=torch.int64))

    @property
    def num_bytes(self) -> int:
        """Return the size of the message in bytes, exactly."""
        return int(self.client_bytes.sum())

    def parts(self) -> list[dict[str, Tensor]]:
        """Return each client's part of the arrays."""
        pieces = {
            name: torch.split(array, self.lengths[name].tolist())
            for name, array in self.arrays.items()
        }
        return [{name: rows[k] for name, rows in pieces.items()} for k in range(self.shape[0])]

    def rows(self, index: Int[Tensor, " j"]) -> Encoded:
        """Return the message of the clients at the positions ``index``, in that order."""
        chosen = index.tolist()
        ends = {name: count.cumsum(0).tolist() for name, count in self.lengths.items()}

        def part(name: str, k: int) -> Tensor:
            return self.arrays[name][ends[name][k - 1] if k else 0 : ends[name][k]]

        return Encoded(
            {name: torch.cat([part(name, k) for k in chosen]) for name in self.arrays},
            {name: count[index] for name, count in self.lengths.items()},
            (len(chosen), *self.shape[1:]),
            self.space,
            None if self.mask is None else self.mask[index],
        )

    @classmethod
    def stack(cls, messages: Sequence[Encoded]) -> Encoded:
        """Join messages of different clients on the same samples, one after the other.

        Raises:
            KnowledgeError: If they are not of one kind.
        """
        first = messages[0]
        kinds = {(m.shape[1:], m.space, m.mask is None, tuple(m.arrays)) for m in messages}
        if len(kinds) != 1:
            raise KnowledgeError(
                "Clients sent messages of different kinds",
                got=sorted(str(kind) for kind in kinds)[:2],
                next_step="Run the same configuration on every node.",
            )
        masks = [m.mask for m in messages if m.mask is not None]
        return cls(
            {name: torch.cat([m.arrays[name] for m in messages]) for name in first.arrays},
            {name: torch.cat([m.lengths[name] for m in messages]) for name in first.lengths},
            (sum(m.shape[0] for m in messages), *first.shape[1:]),
            first.space,
            torch.cat(masks) if masks else None,
        )


class Codec(Protocol):
    """Write predictions as bytes and read them again.

    Sender and receiver each keep a state per direction, and both end up with the same one:
    ``encode(v, space, s)`` and ``decode(encoded, s)`` return equal states. A client's part of the
    message depends on its own values and state alone. Codecs are frozen; the state is passed in
    and out, so a message that was lost leaves no trace if its new state is thrown away. With a
    mask only its samples are written; the values of the others may be anything, and the receiver
    reads no opinion there (logits 0, uniform probabilities).

    A codec that remembers has an entry ``messages`` in its state, int32 [k], the messages so far,
    and starts anew with whoever sends a first one.
    """

    def encode(
        self,
        values: Float[Tensor, "k P C"],
        space: Space,
        state: State,
        mask: Bool[Tensor, "k P"] | None = None,
    ) -> tuple[Encoded, State]:
        """Return the message and the sender's next state."""
        ...

    def decode(self, encoded: Encoded, state: State) -> tuple[Float[Tensor, "k P C"], State]:
        """Return what the receiver reads, float32, and its next state."""
        ...


class Layout(NamedTuple):
    """How a row code writes the prediction for one sample.

    Args:
        width: Symbols per row.
        alphabet: Symbols are integers from 0 to ``alphabet - 1``.
    """

    width: int
    alphabet: int


class RowCode(Protocol):
    """Write every prediction [C] as one row of small integers, each sample by itself.

    Symbols are uint8 [k, P, width], or int32 if the alphabet has more than 256.
    :class:`fedfuse.codec.RowCodec` turns any row code into a codec.
    """

    def layout(self, num_classes: int, space: Space) -> Layout:
        """Return how long a row is and which symbols it may hold."""
        ...

    def to_symbols(self, values: Float[Tensor, "k P C"], space: Space) -> Tensor:
        """Return the symbols [k, P, width] of finite values."""
        ...

    def to_values(self, symbols: Tensor, space: Space, num_classes: int) -> Float[Tensor, "k P C"]:
        """Return the values, float32, that the symbols stand for."""
        ...
