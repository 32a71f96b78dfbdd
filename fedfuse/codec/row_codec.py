"""Turn a row code into a codec: pack its symbols, or entropy-code them; send all, or news only."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedfuse.codec import range_coder
from fedfuse.codec.floats import Float32
from fedfuse.codec.jagged import check_length, cut, pad, valid
from fedfuse.codec.packing import pack, packed_bytes, unpack
from fedfuse.codec.protocol import Encoded, RowCode, State
from fedfuse.errors import KnowledgeError
from fedfuse.hyperparameters import require_flag
from fedfuse.shapes import Float, Int
from fedfuse.types import Space

Written = tuple[dict[str, Tensor], Int[Tensor, " k"]]
_LENGTH_BYTES = 4  # of an int32 that precedes what has no length of its own


@dataclass(frozen=True, slots=True)
class RowCodec:
    """Send the rows of a code, and count the bytes.

    With ``Quantize(bits)``, ``delta`` and ``entropy_coded`` this is the compression of CFD
    (Sattler et al., TNSE 2022); each of the three works without the others and around any method.

    Args:
        code: How one prediction is written.
        delta: Send only the samples whose row differs from the last message's, and one flag per
            sample that says which. The public samples must be the same ones in every round. A
            message says on how many others it builds (4 bytes); the first one is sent whole.
        entropy_coded: Write symbols with an adaptive range coder instead of a fixed number of
            bits (4 more bytes for each stream's length). For codes with few symbols: bytes of
            floats hardly shrink and take long.
    """

    code: RowCode = field(default_factory=Float32)
    delta: bool = False
    entropy_coded: bool = False

    def __post_init__(self) -> None:
        require_flag("RowCodec", "delta", self.delta)
        require_flag("RowCodec", "entropy_coded", self.entropy_coded)

    @property
    def needs_fixed_public_set(self) -> bool:
        """Whether every round must select the same public samples."""
        return self.delta

    def encode(
        self, values: Float[Tensor, "k P C"], space: Space, state: State
    ) -> tuple[Encoded, State]:
        """Return the message and the sender's next state.

        Raises:
            KnowledgeError: If a value is not finite, or the public samples have changed in number
                since the last message of a delta codec.
        """
        if not bool(values.isfinite().all()):
            raise KnowledgeError(
                "Predictions to encode are not all finite",
                next_step="If a client's training diverged, lower optimizer.lr.",
            )
        width, alphabet = self.code.layout(values.shape[2], space)
        symbols = self.code.to_symbols(values, space)
        if not self.delta:
            lengths = _repeat(symbols.shape[1] * width, symbols)
            arrays, sizes = self._write("symbols", symbols.flatten(1), lengths, alphabet)
            return Encoded(arrays, sizes, _shape(values), space), state
        messages, before = _last(state, symbols.shape, symbols)
        news = (symbols != before).any(dim=-1) | (messages == 0).unsqueeze(1)
        flags, flag_bytes = self._write(
            "changed", news.to(torch.uint8), torch.where(messages > 0, symbols.shape[1], 0), 2
        )
        counts = news.sum(dim=1)
        fresh = pad(symbols[news], counts).flatten(1)
        rows, row_bytes = self._write("symbols", fresh, counts * width, alphabet)
        sizes = messages.element_size() + flag_bytes + row_bytes
        encoded = Encoded({"messages": messages, **flags, **rows}, sizes, _shape(values), space)
        return encoded, {"messages": messages + 1, "symbols": symbols}

    def decode(self, encoded: Encoded, state: State) -> tuple[Float[Tensor, "k P C"], State]:
        """Return what the receiver reads and its next state.

        Raises:
            KnowledgeError: If the message is damaged, or builds on one that was not received.
        """
        num_clients, num_samples, num_classes = encoded.shape
        width, alphabet = self.code.layout(num_classes, encoded.space)
        shape = torch.Size([num_clients, num_samples, width])
        if not self.delta:
            lengths = _repeat(num_samples * width, encoded.client_bytes)
            read = self._read("symbols", encoded.arrays, lengths, alphabet)
            values = self.code.to_values(read.view(shape), encoded.space, num_classes)
            return values, state
        kind = torch.empty(
            0,
            dtype=torch.uint8 if alphabet <= 256 else torch.int32,
            device=encoded.client_bytes.device,
        )
        messages, before = _last(state, shape, kind)
        if not torch.equal(messages, encoded.arrays["messages"]):
            raise KnowledgeError(
                "A message of the delta codec builds on another one than was received last",
                got=f"{encoded.arrays['messages'].tolist()[:10]} messages before it",
                allowed=f"{messages.tolist()[:10]}",
                next_step="Forget the sender's codec state when a message of its is lost.",
            )
        known = torch.where(messages > 0, num_samples, 0)
        flags = self._read("changed", encoded.arrays, known, 2)
        news = (messages == 0).unsqueeze(1).repeat(1, num_samples)
        if flags.shape[1]:
            news |= flags.bool()
        counts = news.sum(dim=1)
        fresh = self._read("symbols", encoded.arrays, counts * width, alphabet)
        symbols = before.clone()
        symbols[news] = cut(fresh, counts * width).view(-1, width)
        values = self.code.to_values(symbols, encoded.space, num_classes)
        return values, {"messages": messages + 1, "symbols": symbols}

    def _write(
        self, name: str, symbols: Tensor, lengths: Int[Tensor, " k"], alphabet: int
    ) -> Written:
        """Return the first ``lengths[i]`` symbols of each row [k, N] as arrays, and their bytes."""
        if not self.entropy_coded:
            # Places behind a row's end must be zero, or they would leave bits in its last byte.
            used = symbols * valid(lengths, symbols.shape[1])
            sizes = packed_bytes(lengths, alphabet)
            return {name: cut(pack(used, alphabet), sizes)}, sizes
        data, counted = range_coder.encode(
            symbols.cpu().numpy(), lengths.cpu().numpy(), alphabet=alphabet
        )
        sizes = torch.from_numpy(counted).to(symbols.device)
        stream = torch.from_numpy(data).to(symbols.device)
        return {name: stream, f"{name}_bytes": sizes.int()}, sizes + _LENGTH_BYTES

    def _read(
        self, name: str, arrays: dict[str, Tensor], lengths: Int[Tensor, " k"], alphabet: int
    ) -> Tensor:
        """Return the symbols that :meth:`_write` wrote, [k, max(lengths)]."""
        longest = int(lengths.max())
        if self.entropy_coded:
            sizes = arrays[f"{name}_bytes"].long()
            check_length(arrays[name], sizes)
            decoded = range_coder.decode(
                arrays[name].cpu().numpy(),
                sizes.cpu().numpy(),
                lengths.cpu().numpy(),
                alphabet,
            )
            kind = torch.uint8 if alphabet <= 256 else torch.int32
            return torch.from_numpy(decoded).to(lengths.device, kind)
        data = pad(arrays[name], packed_bytes(lengths, alphabet))
        symbols = unpack(data, alphabet, longest)
        if symbols.numel() and int(symbols.max()) >= alphabet:
            raise KnowledgeError(
                "An encoded message is damaged",
                got=f"the symbol {int(symbols.max())} in '{name}'",
                allowed=f"0 to {alphabet - 1}",
            )
        return symbols


def _last(state: State, shape: torch.Size, like: Tensor) -> tuple[Int[Tensor, " k"], Tensor]:
    """Return how many messages each client has sent and the symbols [k, P, width] of the last."""
    if not state:
        zeros = torch.zeros(shape, dtype=like.dtype, device=like.device)
        return torch.zeros(shape[0], dtype=torch.int32, device=like.device), zeros
    if state["symbols"].shape != shape:
        raise KnowledgeError(
            "The delta codec needs the same public samples in every round",
            got=f"{list(shape)} symbols",
            allowed=f"{list(state['symbols'].shape)} as in the last message",
            next_step="Choose select=all, or codec.delta=false.",
        )
    return state["messages"], state["symbols"]


def _repeat(length: int, like: Tensor) -> Int[Tensor, " k"]:
    """Return the same length for every client."""
    return torch.full((like.shape[0],), length, device=like.device)


def _shape(values: Tensor) -> tuple[int, int, int]:
    """Return k, P and C."""
    num_clients, num_samples, num_classes = values.shape
    return num_clients, num_samples, num_classes
