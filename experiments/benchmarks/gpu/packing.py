"""Fifty runs of twenty clients as one batch, against one run after the other."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from experiments.benchmarks.pack import Size, speedup
from experiments.benchmarks.rows import Row, row


def measure(*, device: torch.device, tiny: bool, repeats: int) -> Iterator[Row]:
    """Yield how many times faster the pack is; each run is batched on both sides."""
    size = Size(2, 2, 40, 40, 40) if tiny else Size(50, 20)
    ratio = speedup(size, device, 1 if tiny else repeats)
    what = f"runs one by one / packed, {size.runs} runs x {size.clients} LeNets"
    yield row("gpu", "packed", what, ratio, "x", higher=True, note="batched on both sides")
