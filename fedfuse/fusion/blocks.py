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
    for part in spans(bank.num_clients, clients_per_block(bank.logits, device)):
        some = bank.rows(part).to(device)
        yield replace(some, logits=some.logits.float())


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
    if device.type != "cuda" or logits.device.type == "cuda":
        for part in samples:
            yield logits[:, part].to(device)
        return
    yield from _double_buffered(logits, samples, device)


def _double_buffered(
    logits: Float[Tensor, "K P C"], samples: Sequence[slice], device: torch.device
) -> Iterator[Float[Tensor, "K p C"]]:
    """Pack block n + 1 into pinned memory and copy it while block n is worked on."""
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    size = max(logits[:, part].numel() for part in samples)
    pinned = [torch.empty(size, dtype=logits.dtype, pin_memory=True) for _ in range(2)]
    copied = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]

    def start(number: int) -> Tensor:
        part, slot = logits[:, samples[number]], number % 2
        copied[slot].synchronize()  # the slot's last copy has left it (at first: at once)
        packed = pinned[slot][: part.numel()].view(part.shape).copy_(part)
        with torch.cuda.stream(copies):
            block = packed.to(device, non_blocking=True)
            copied[slot].record(copies)
        return block

    block = start(0)
    for number in range(len(samples)):
        ready, here = copied[number % 2], torch.cuda.current_stream(device)
        here.wait_event(ready)
        block.record_stream(here)
        current = block
        yield current
        # The caller has only queued its work on the block, so packing the next one overlaps it.
        if number + 1 < len(samples):
            block = start(number + 1)
