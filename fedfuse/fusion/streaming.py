"""Fuse a bank of any size from few sources per receiver, a block of public samples at a time.

Only a block's values exist in float32: logits become probabilities as they pass, in whatever
precision the bank is stored, and sums and targets are float32. The work is
``k`` reads and one write per target, so memory bandwidth is what limits it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedfuse.fusion.blocks import Home, block_bytes, empty, samples_per_block, spans, stream
from fedfuse.fusion.class_weights import ClassWeights, to_simplex_
from fedfuse.fusion.gather import weighted_sum
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank, Space


@runtime_checkable
class Streams(Protocol):
    """A rule that is a weighted mean of something made of each prediction by itself."""

    @property
    def space(self) -> Space:
        """Return what the targets are."""
        ...

    def values(self, logits: Tensor) -> Tensor:
        """Return what is averaged, [..., C], of float32 logits [..., C], which stay as they are."""
        ...

    def targets(self, means: Tensor) -> Tensor:
        """Return the targets [..., C] of the averages [..., C]."""
        ...


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the precision of the targets that a bank of this one is fused to.

    >>> at_least_float32(torch.bfloat16), at_least_float32(torch.float64)
    (torch.float32, torch.float64)
    """
    return torch.promote_types(dtype, torch.float32)


def fuse_streaming(
    bank: KnowledgeBank,
    index: Int[Tensor, "K k"],
    weights: Float[Tensor, "K k"] | ClassWeights,
    rule: Streams,
    *,
    finish: Callable[[Tensor], Tensor] = torch.clone,
    samples: int | None = None,
    receivers: int | None = None,
) -> tuple[Float[Tensor, "K P C"], Float[Tensor, "K P"] | None]:
    """Return the targets, and with a mask which of them count, where the bank is.

    Args:
        bank: The knowledge, on any device or in a mapped file, in any float precision.
        index: Each receiver's sources, on the device that shall work.
        weights: Their weights, rows summing to 1; or by class, of the same sources.
        rule: What is averaged.
        finish: Last step on a block of float32 targets [R, p, C], such as sharpening.
        samples: Public samples at a time; None for a fortieth of the bank.
        receivers: Receivers at a time; None for what suits the device.
    """
    num_clients, num_samples, num_classes = bank.logits.shape
    device, home = index.device, bank.logits.device
    precision = at_least_float32(bank.logits.dtype)
    targets = empty(bank.logits.shape, precision, home, device)
    brought = Home(targets)
    counts = None if bank.mask is None else torch.empty(num_clients, num_samples, device=home)
    parts = spans(num_samples, samples or samples_per_block(bank.logits))
    for part, block in zip(parts, stream(bank.logits, parts, device), strict=True):
        values = rule.values(block.float())
        known = None if bank.mask is None else bank.mask[:, part].to(device)
        step = receivers or max(1, block_bytes(device) // (4 * values[0].numel()))
        prepared = None
        if isinstance(weights, ClassWeights):
            prepared = weights.of(values, known)
        elif known is not None:
            # Not a product with the mask: an answer that was never given may hold NaN.
            values = torch.where(known.unsqueeze(-1), values, 0)
        values = values.reshape(num_clients, -1)
        for rows in spans(num_clients, step):
            if isinstance(weights, ClassWeights):
                assert prepared is not None
                means, enough = weights.means(prepared, rows)
                fused = rule.targets(means)
                if rule.space is Space.PROBABILITIES:
                    fused = to_simplex_(fused)
            else:
                means = weighted_sum(values, index[rows], weights[rows])
                means, mass = means.view(len(means), -1, num_classes), None
                if known is not None:
                    mass = weighted_sum(known.float(), index[rows], weights[rows])
                fused, enough = _renormalised(means, mass, rule)
            if enough is not None and counts is not None:
                counts[rows, part] = enough.to(home, counts.dtype)
            brought.write((rows, part), finish(fused).to(targets.dtype))
    brought.close()
    return targets, counts


def _renormalised(
    means: Float[Tensor, "R p C"], mass: Float[Tensor, "R p"] | None, rule: Streams
) -> tuple[Float[Tensor, "R p C"], Tensor | None]:
    """Return the targets over the sources that answered, and where there were any; None for all.

    Elsewhere logits are 0 and probabilities uniform, as the dense rules have it.
    """
    if mass is None:
        return rule.targets(means), None
    tiny = torch.finfo(mass.dtype).tiny
    enough = mass >= tiny
    answered = enough.unsqueeze(-1)
    fused = rule.targets(torch.where(answered, means / mass.clamp_min(tiny).unsqueeze(-1), 0))
    if rule.space is Space.PROBABILITIES:
        fused = torch.where(answered, fused, 1 / means.shape[-1])
    return fused, enough
