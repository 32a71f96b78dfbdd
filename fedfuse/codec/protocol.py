"""What a codec is: predictions [k, P, C] to the bytes that really travel, and back.

A message holds k clients (a node may host many) and one direction: clients' logits going up,
teachers coming down. Nothing about its size is estimated: a codec hands over the very arrays that
are sent, and their bytes are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from fedfuse.shapes import Float, Int
from fedfuse.types import Space

State = dict[str, Tensor]
"""What a codec remembers from message to message; the first dimension of every tensor is the
clients. Empty at the start. Saved and loaded as any dictionary of tensors."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One message of k clients.

    Args:
        arrays: What travels, and nothing more.
        client_bytes: int64 [k], the share of each client in the bytes of ``arrays``; what it is
            does not depend on the other clients in the message.
        shape: k, P and C, which both sides know.
        space: What the values are; both sides know it too.
    """

    arrays: dict[str, Tensor]
    client_bytes: Int[Tensor, " k"]
    shape: tuple[int, int, int]
    space: Space

    @property
    def num_bytes(self) -> int:
        """Return the size of the message in bytes, exactly."""
        return int(self.client_bytes.sum())


class Codec(Protocol):
    """Write predictions as bytes and read them again.

    Sender and receiver each keep a state per direction, and both end up with the same one:
    ``encode(v, space, s)`` and ``decode(encoded, s)`` return equal states. A client's part of the
    message depends on its own values and state alone. Codecs are frozen; the state is passed in
    and out, so a message that was lost leaves no trace if its new state is thrown away.
    """

    def encode(
        self, values: Float[Tensor, "k P C"], space: Space, state: State
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
