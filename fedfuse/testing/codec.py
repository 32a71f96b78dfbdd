"""Check a codec of one's own."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.codec.protocol import Codec, Encoded, State
from fedfuse.codec.state import state_rows
from fedfuse.declarations import part_name
from fedfuse.testing.expect import (
    expect,
    expect_close,
    expect_declared,
    expect_simplex,
    expect_tensor,
)
from fedfuse.testing.fusion import SIZES, example_bank
from fedfuse.types import Space


def check_codec(codec: Codec) -> None:
    """Raise unless the codec keeps the promises of :class:`fedfuse.codec.Codec`.

    For three rounds of logits and of probabilities, also one-hot and uniform ones: every byte that
    travels is counted, and for the right client; what arrives is float32 [k, P, C], finite, and on
    the simplex if it has to be; sender and receiver end each round with the same state; nothing is
    changed in place, and the same call gives the same message; a client's part does not depend on
    who else is in the message.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The codec {part_name(codec)}"
    expect_declared(name, codec, "codec")
    for size in SIZES:
        for space in Space:
            sent: State = {}
            received: State = {}
            alone: list[State] = [{} for _ in range(size[0])]
            for values in _rounds(size, space):
                message, after = _encode(name, codec, values, space, sent)
                _check_bytes(name, message, size[0])
                arrived, received = codec.decode(message, received)
                expect_tensor(name, arrived, size, torch.float32)
                expect(bool(arrived.isfinite().all()), name, "does not arrive finite")
                if space is Space.PROBABILITIES:
                    expect_simplex(name, arrived)
                expect(_same(after, received), name, "leaves sender and receiver in other states")
                for k in range(size[0]):
                    one, then = codec.encode(values[k : k + 1], space, alone[k])
                    single, _ = codec.decode(one, alone[k])
                    expect_close(name, single, arrived[k : k + 1], "mixes the clients of a message")
                    same = torch.equal(one.client_bytes, message.client_bytes[k : k + 1])
                    expect(same, name, "counts other bytes for a client that is alone")
                    rows = state_rows(after, torch.tensor([k]))
                    expect(_same(then, rows), name, "has a state that mixes the clients")
                    alone[k] = then
                _check_mask(name, codec, values, space, sent)
                sent = after


def _check_mask(name: str, codec: Codec, values: Tensor, space: Space, state: State) -> None:
    """Raise unless a mask leaves samples out, whatever they hold, and clients come apart."""
    mask = torch.arange(values.shape[1]) % 2 == torch.arange(len(values)).unsqueeze(1) % 2
    mask[0] = False  # a client that answers for nothing
    spoilt = values.masked_fill(~mask.unsqueeze(-1), torch.nan)
    message, after = codec.encode(spoilt, space, state, mask)
    arrived, then = codec.decode(message, state)
    expect(_same(after, then), name, "leaves sender and receiver in other states with a mask")
    blank = 0.0 if space is Space.LOGITS else 1 / values.shape[-1]
    expect(bool((arrived[~mask] == blank).all()), name, "has an opinion on masked samples")
    whole, _ = codec.decode(codec.encode(values, space, state)[0], state)
    expect_close(name, arrived[mask], whole[mask], "reads other values with a mask")
    _check_bytes(name, message, len(values))
    ones = [torch.tensor([k]) for k in range(len(values))]
    joined = Encoded.stack([message.rows(k) for k in ones])
    expect(_same(joined.arrays, message.arrays), name, "does not come apart into clients")


def _rounds(size: tuple[int, int, int], space: Space) -> list[Tensor]:
    """Return three rounds of predictions: some, the same again, and some changed to extremes."""
    logits = 3 * example_bank(*size).logits
    first = logits if space is Space.LOGITS else logits.softmax(dim=-1)
    last = first.clone()
    last[0, 0] = torch.eye(size[2])[-1]
    last[-1, -1] = 1 / size[2]
    return [first, first.clone(), last]


def _encode(
    name: str, codec: Codec, values: Tensor, space: Space, state: State
) -> tuple[Encoded, State]:
    """Return the message, having seen that the codec repeats itself and leaves its inputs."""
    kept, before = values.clone(), {key: tensor.clone() for key, tensor in state.items()}
    message, after = codec.encode(values, space, state)
    again, _ = codec.encode(values, space, state)
    expect(torch.equal(values, kept) and _same(state, before), name, "changes its inputs")
    expect(_same(message.arrays, again.arrays), name, "writes another message when called again")
    known = message.space is space and message.shape == tuple(values.shape)
    expect(known, name, "forgets the shape or the space of its values")
    return message, after


def _check_bytes(name: str, message: Encoded, num_clients: int) -> None:
    """Raise unless the counted bytes are those of the arrays."""
    expect_tensor(name, message.client_bytes, (num_clients,), torch.int64)
    real = sum(array.numel() * array.element_size() for array in message.arrays.values())
    counted = message.num_bytes
    expect(counted == real, name, f"counts {counted} bytes where {real} travel")


def _same(first: State, second: State) -> bool:
    """Return whether two dictionaries of tensors are equal."""
    return first.keys() == second.keys() and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )
