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
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Space
from fedfuse.validation import require_flag

Written = tuple[dict[str, Tensor], dict[str, Int[Tensor, " k"]]]


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
        self,
        values: Float[Tensor, "k P C"],
        space: Space,
        state: State,
        mask: Bool[Tensor, "k P"] | None = None,
    ) -> tuple[Encoded, State]:
        """Return the message and the sender's next state.

        Raises:
            KnowledgeError: If a value is not finite, or the public samples have changed in number
                since the last message of a delta codec.
        """
        values = _without_opinion(values, space, mask)
        if not bool(values.isfinite().all()):
            raise KnowledgeError(
                "Predictions to encode are not all finite",
                next_step="If a client's training diverged, lower optimizer.lr.",
            )
        num_clients, num_samples, num_classes = values.shape
        width, alphabet = self.code.layout(num_classes, space)
        symbols = self.code.to_symbols(values, space)
        arrays, lengths, after = {}, {}, state
        wanted = torch.ones(num_clients, num_samples, dtype=torch.bool) if mask is None else mask
        if self.delta:
            messages, before = _last(state, symbols.shape, symbols)
            ones = torch.ones_like(messages, dtype=torch.int64)
            arrays["messages"], lengths["messages"] = messages, ones
            known = torch.where(messages > 0, num_samples, 0)
            news = (symbols != before).any(dim=-1) | (messages == 0).unsqueeze(1)
            wanted = news & wanted
            flags, counts = self._write("changed", wanted.to(torch.uint8), known, 2)
            arrays, lengths = {**arrays, **flags}, {**lengths, **counts}
            kept = torch.where(wanted.unsqueeze(-1), symbols, before)
            after = {"messages": messages + 1, "symbols": kept}
        rows = wanted.sum(dim=1)
        fresh = pad(symbols[wanted], rows).flatten(1)
        written, counts = self._write("symbols", fresh, rows * width, alphabet)
        shape = num_clients, num_samples, num_classes
        return Encoded({**arrays, **written}, {**lengths, **counts}, shape, space, mask), after

    def decode(self, encoded: Encoded, state: State) -> tuple[Float[Tensor, "k P C"], State]:
        """Return what the receiver reads and its next state.

        Raises:
            KnowledgeError: If the message is damaged, or builds on one that was not received.
        """
        num_clients, num_samples, num_classes = encoded.shape
        width, alphabet = self.code.layout(num_classes, encoded.space)
        kind = torch.uint8 if alphabet <= 256 else torch.int32
        before = torch.zeros(num_clients, num_samples, width, dtype=kind)
        wanted = torch.ones(num_clients, num_samples, dtype=torch.bool)
        after = state
        if encoded.mask is not None:
            wanted = encoded.mask
        if self.delta:
            sent = _array(encoded.arrays, "messages", torch.int32, num_clients)
            messages, before = _last(state, before.shape, before)
            first = sent == 0  # whoever has lost its memory starts anew
            messages = torch.where(first, 0, messages)
            before = torch.where(first.view(-1, 1, 1), 0, before)
            if not torch.equal(messages, sent):
                raise KnowledgeError(
                    "A message of the delta codec builds on another one than was received last",
                    got=f"{sent.tolist()[:10]} messages before it",
                    allowed=f"{messages.tolist()[:10]}",
                    next_step="Forget the sender's codec state when a message of its is lost.",
                )
            flags = self._read("changed", encoded, torch.where(first, 0, num_samples), 2)
            news = first.unsqueeze(1).repeat(1, num_samples)
            if flags.shape[1]:
                news |= flags.bool()
            wanted = news & wanted
        rows = wanted.sum(dim=1)
        fresh = self._read("symbols", encoded, rows * width, alphabet)
        symbols = before.clone()
        symbols[wanted] = cut(fresh, rows * width).view(-1, width)
        values = self.code.to_values(symbols, encoded.space, num_classes)
        if self.delta:
            after = {"messages": messages + 1, "symbols": symbols}
        return _without_opinion(values, encoded.space, encoded.mask), after

    def _write(
        self, name: str, symbols: Tensor, lengths: Int[Tensor, " k"], alphabet: int
    ) -> Written:
        """Return the first ``lengths[i]`` symbols of each row [k, N] as arrays, and their sizes."""
        if not self.entropy_coded:
            # Places behind a row's end must be zero, or they would leave bits in its last byte.
            used = symbols * valid(lengths, symbols.shape[1])
            sizes = packed_bytes(lengths, alphabet)
            return {name: cut(pack(used, alphabet), sizes)}, {name: sizes}
        data, counted = range_coder.encode(
            symbols.cpu().numpy(), lengths.cpu().numpy(), alphabet=alphabet
        )
        sizes = torch.from_numpy(counted)
        arrays = {name: torch.from_numpy(data), f"{name}_bytes": sizes.int()}
        return arrays, {name: sizes, f"{name}_bytes": torch.ones_like(sizes)}

    def _read(
        self, name: str, encoded: Encoded, lengths: Int[Tensor, " k"], alphabet: int
    ) -> Tensor:
        """Return the symbols that :meth:`_write` wrote, [k, max(lengths)]."""
        data = _array(encoded.arrays, name, torch.uint8)
        if self.entropy_coded:
            sizes = _array(encoded.arrays, f"{name}_bytes", torch.int32, len(lengths)).long()
            check_length(data, sizes)
            decoded = range_coder.decode(
                data.cpu().numpy(), sizes.cpu().numpy(), lengths.cpu().numpy(), alphabet
            )
            return torch.from_numpy(decoded).to(torch.uint8 if alphabet <= 256 else torch.int32)
        padded = pad(data, packed_bytes(lengths, alphabet))
        symbols = unpack(padded, alphabet, int(lengths.max()))
        if symbols.numel() and int(symbols.max()) >= alphabet:
            raise KnowledgeError(
                "An encoded message is damaged",
                got=f"the symbol {int(symbols.max())} in '{name}'",
                allowed=f"0 to {alphabet - 1}",
            )
        return symbols


def _without_opinion(
    values: Float[Tensor, "k P C"], space: Space, mask: Bool[Tensor, "k P"] | None
) -> Float[Tensor, "k P C"]:
    """Return the values with the samples outside the mask left undecided."""
    if mask is None:
        return values
    undecided = 0.0 if space is Space.LOGITS else 1 / values.shape[-1]
    return torch.where(mask.unsqueeze(-1), values, undecided)


def _array(
    arrays: dict[str, Tensor], name: str, dtype: torch.dtype, length: int | None = None
) -> Tensor:
    """Return an array of a message, or say that it is not what it should be."""
    array = arrays.get(name)
    right = array is not None and array.dtype == dtype and array.ndim == 1
    if array is None or not right or (length is not None and len(array) != length):
        got = "no such array" if array is None else f"{list(array.shape)} of {array.dtype}"
        raise KnowledgeError(
            f"An encoded message is damaged: '{name}' cannot be read",
            got=got,
            allowed=f"{dtype}, one dimension",
            next_step="Run the same codec on every node.",
        )
    return array


def _last(state: State, shape: torch.Size, like: Tensor) -> tuple[Int[Tensor, " k"], Tensor]:
    """Return how many messages each client has sent and the symbols [k, P, width] of the last."""
    if not state:
        return torch.zeros(shape[0], dtype=torch.int32), torch.zeros(shape, dtype=like.dtype)
    if state["symbols"].shape != shape:
        raise KnowledgeError(
            "The delta codec needs the same public samples in every round",
            got=f"{list(shape)} symbols",
            allowed=f"{list(state['symbols'].shape)} as in the last message",
            next_step="Choose select=all, or codec.delta=false.",
        )
    return state["messages"], state["symbols"]
