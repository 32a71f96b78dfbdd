"""Walk over a bank in blocks that fit: clients by clients, or public samples by public samples.

A bank may lie anywhere that torch can index: on the device itself, in host memory, or in a file
(``torch.from_file``, ``torch.from_numpy`` of a ``np.memmap``; a file larger than memory is read
fastest stored [P, K, C] and given as its ``transpose(0, 1)``). Each block is brought to the device
as it is needed; on CUDA the next one is already under way, through pinned memory, while the last
one is worked on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from fedfuse.shapes import Float
from fedfuse.types import KnowledgeBank

_CPU_BYTES = 2**22  # a block that stays in a core's caches
_GPU_BYTES = 2**28  # a block that keeps every multiprocessor busy


def block_bytes(device: torch.device) -> int:
    """Return how many bytes of float32 a device works on best at a time."""
    return _CPU_BYTES if device.type == "cpu" else _GPU_BYTES


def fits(bank: KnowledgeBank, device: torch.device) -> bool:
    """Return whether a device's free memory holds the bank, its teachers and the work on them."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return 3 * bank.logits.numel() * bank.logits.element_size() < free


def spans(size: int, step: int) -> list[slice]:
    """Return consecutive slices of at most ``step``, and at least 1, that cover ``size``.

    >>> spans(3, 2), spans(2, 0)
    ([slice(0, 2, None), slice(2, 3, None)], [slice(0, 1, None), slice(1, 2, None)])
    """
    step = max(1, step)
    return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def clients_per_block(logits: Float[Tensor, "K P C"], device: torch.device) -> int:
    """Return for how many clients the float32 predictions make a good block."""
    return max(1, block_bytes(device) // (4 * logits[0].numel()))


def client_blocks(bank: KnowledgeBank, device: torch.device) -> Iterator[KnowledgeBank]:
    """Yield the bank some clients at a time, on the device and in float32."""
    parts = spans(bank.num_clients, clients_per_block(bank.logits, device))
    for part, logits in zip(parts, _carried([bank.logits[p] for p in parts], device), strict=True):
        some = replace(bank.rows(part), logits=logits).to(device)
        yield replace(some, logits=logits.float())


def samples_per_block(logits: Float[Tensor, "K P C"]) -> int:
    """Return for how many public samples to fuse all clients at a time.

    A fortieth of the bank, and never less than 8 MiB: up to three such blocks live at once, in
    float32, which a half-precision bank doubles.
    """
    most = max(2**23, logits.numel() * logits.element_size() // 40)
    return max(1, min(logits.shape[1], most // (4 * logits[:, 0].numel())))


def stream(
    logits: Float[Tensor, "K P C"], samples: Sequence[slice], device: torch.device
) -> Iterator[Float[Tensor, "K p C"]]:
    """Yield ``logits[:, s]`` on ``device`` for every slice ``s``, copying ahead where it pays."""
    yield from _carried([logits[:, part] for part in samples], device)


def _carried(blocks: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the blocks on ``device``: block n + 1 is packed and copied while n is worked on."""
    if device.type != "cuda" or blocks[0].device.type == "cuda":
        for block in blocks:
            yield block.to(device)
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    size = max(block.numel() for block in blocks)
    pinned = [torch.empty(size, dtype=blocks[0].dtype, pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def start(number: int) -> Tensor:
        part, slot = blocks[number], number % 2
        copied[slot].synchronize()  # the slot's last copy has left it (at first: at once)
        packed = pinned[slot][: part.numel()].view(part.shape).copy_(part)
        with torch.cuda.stream(copies):
            there = packed.to(device, non_blocking=True)
            copied[slot].record(copies)
        return there

    block = start(0)
    for number in range(len(blocks)):
        ready, here = copied[number % 2], torch.cuda.current_stream(device)
        here.wait_event(ready)
        block.record_stream(here)
        current = block
        yield current
        # The caller has only queued its work on the block, so packing the next one overlaps it.
        if number + 1 < len(blocks):
            block = start(number + 1)


class Home:
    """Where a device's blocks are brought to: on CUDA a block is written while the next is made.

    A device writes to ordinary memory a page at a time, and to pinned memory twenty times as fast.

    Args:
        whole: What the blocks are parts of, on any device.
    """

    def __init__(self, whole: Tensor) -> None:
        self._whole = whole
        self._pinned: list[Tensor | None] = [None, None]
        self._under_way: list[tuple[Tensor, Tensor, torch.cuda.Event] | None] = [None, None]
        self._slot = 0

    def write(self, place: tuple[slice, slice], block: Tensor) -> None:
        """Write a block to its place, by :meth:`close` at the latest."""
        there = self._whole[place]
        if block.device.type != "cuda" or there.device.type == "cuda":
            there.copy_(block)
            return
        self._slot = 1 - self._slot
        self._arrive(self._slot)
        kept = self._pinned[self._slot]
        if kept is None or kept.numel() < block.numel() or kept.dtype != block.dtype:
            kept = torch.empty(block.numel(), dtype=block.dtype, pin_memory=True)
            self._pinned[self._slot] = kept
        packed = kept[: block.numel()].view(block.shape).copy_(block, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(torch.cuda.current_stream(block.device))
        self._under_way[self._slot] = (there, packed, copied)

    def close(self) -> None:
        """Write what is still under way."""
        self._arrive(0)
        self._arrive(1)

    def _arrive(self, slot: int) -> None:
        if (waiting := self._under_way[slot]) is not None:
            there, packed, copied = waiting
            copied.synchronize()
            there.copy_(packed)
            self._under_way[slot] = None


def empty(shape: Sequence[int], dtype: torch.dtype, home: torch.device, by: torch.device) -> Tensor:
    """Return an uninitialised tensor at ``home`` that ``by`` will write.

    What a GPU writes to host memory is NumPy's, which asks for huge pages: of 40 GB, first touching
    small ones takes longer than bringing the numbers there. Processors write more slowly.
    """
    if home.type == "cpu" and by.type == "cuda":
        return torch.from_numpy(np.empty(tuple(shape), _NUMPY[dtype]))
    return torch.empty(*shape, dtype=dtype, device=home)


_NUMPY = {torch.float32: np.float32, torch.float64: np.float64}
