"""Small integers in as few bits as their alphabet needs, without a gap between them."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Int


def symbol_bits(alphabet: int) -> int:
    """Return ``ceil(log2(alphabet))``, at least 1.

    >>> symbol_bits(2), symbol_bits(10), symbol_bits(256)
    (1, 4, 8)
    """
    return max(1, (alphabet - 1).bit_length())


def packed_bytes(lengths: Int[Tensor, " k"], alphabet: int) -> Int[Tensor, " k"]:
    """Return the bytes that rows of ``lengths`` symbols take, ``ceil(n bits / 8)``.

    >>> packed_bytes(torch.tensor([0, 1, 3]), alphabet=10)
    tensor([0, 1, 2])
    """
    return (lengths * symbol_bits(alphabet) + 7) // 8


def pack(symbols: Tensor, alphabet: int) -> Tensor:
    """Return the symbols [k, N] as bytes, uint8 [k, ceil(N bits / 8)], lowest bit first.

    >>> pack(torch.tensor([[1, 2, 3]]), alphabet=16)  # 0x21, 0x03
    tensor([[33,  3]], dtype=torch.uint8)
    """
    bits = symbol_bits(alphabet)
    if bits == 8:
        return symbols.to(torch.uint8)
    places = torch.arange(bits, device=symbols.device, dtype=torch.int32)
    stream = (symbols.int().unsqueeze(-1) >> places).bitwise_and(1).flatten(1)
    stream = torch.nn.functional.pad(stream, (0, -stream.shape[1] % 8))
    octets = stream.reshape(len(symbols), stream.shape[1] // 8, 8)
    return (octets << torch.arange(8, device=symbols.device)).sum(dim=-1).to(torch.uint8)


def unpack(data: Tensor, alphabet: int, length: int) -> Tensor:
    """Return the first ``length`` symbols of every row of bytes, as :func:`pack` wrote them.

    uint8 [k, length], or int32 if the alphabet has more than 256 symbols.
    """
    bits = symbol_bits(alphabet)
    if bits == 8:
        return data[:, :length]
    stream = (data.unsqueeze(-1) >> torch.arange(8, device=data.device)).bitwise_and(1).flatten(1)
    places = torch.arange(bits, device=data.device, dtype=torch.int32)
    planes = stream[:, : length * bits].int().reshape(len(data), length, bits)
    symbols = (planes << places).sum(dim=-1)
    return symbols.to(torch.uint8 if alphabet <= 256 else torch.int32)
