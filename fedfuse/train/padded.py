"""The steps of many clients side by side: each step's batches in one tensor, padded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedfuse.train.views import Views, same_views
from fedfuse.train.work import SampleLoss, Schedule, Work


@dataclass(frozen=True, slots=True)
class PaddedSteps:
    """The works of K clients, ordered by falling number of steps; made by :func:`pad`.

    Args:
        inputs: All samples of all clients, [S, ...].
        targets: All targets, [R, ...].
        sample_weight: One weight per target, [R]; None means 1 everywhere.
        first_input: Row of ``inputs`` at which each client's samples begin, int64 [K].
        first_target: Row of ``targets`` likewise.
        index: int64 [T, K, B], each client's own sample index at each step; 0 where padded.
        sizes: int64 [T, K], samples per step and client; 0 when a client's steps are over.
        active: Clients that still take a step, for each of the T steps.
        widths: Largest batch of each step.
        even: Whether all active clients' batches have that size.
        loss: Per-sample loss, the same for all.
        rates: float64 [T, K, 1], share of the learning rate at each step, 0 when a client's steps
            are over; None for all of it everywhere.
        views: How samples are changed, the same way for all; None for nothing.
        draws: What was drawn for each sample, [T, K, B, d]; None without views.
    """

    inputs: Tensor
    targets: Tensor
    sample_weight: Tensor | None
    first_input: Tensor
    first_target: Tensor
    index: Tensor
    sizes: Tensor
    active: tuple[int, ...]
    widths: tuple[int, ...]
    even: tuple[bool, ...]
    loss: SampleLoss
    rates: Tensor | None = None
    views: Views | None = None
    draws: Tensor | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return inputs [A, B, ...], targets [A, B, ...] and weights [A, B] of the active clients.

        Weights are None where every sample counts the same.
        """
        active, width = self.active[step], self.widths[step]
        index = self.index[step, :active, :width]
        rows = index + self.first_target[:active, None]
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        if not self.even[step]:
            position = torch.arange(width, device=index.device)
            real = (position < self.sizes[step, :active, None]).float()
            weights = real if weights is None else weights * real
        inputs = self.inputs[index + self.first_input[:active, None]]
        if self.views is not None and self.draws is not None:
            drawn = self.draws[step, :active, :width].flatten(0, 1)
            inputs = self.views.of(inputs.flatten(0, 1), drawn).view_as(inputs)
        return inputs, self.targets[rows], weights


def pad(works: Sequence[Work]) -> PaddedSteps:
    """Return the works side by side; they must come by falling number of steps.

    Raises:
        ValueError: If they do not, or do not share one loss.
    """
    if any(work.penalty is not None or work.before_step is not None for work in works):
        raise ValueError("steps with a penalty, or what comes before them, are taken one by one")
    counts = [work.schedule.num_steps for work in works]
    if counts != sorted(counts, reverse=True):
        raise ValueError("works must come by falling number of steps")
    if any(work.loss != works[0].loss for work in works):
        raise ValueError("clients that train together share one loss")
    if not all(same_views(works[0].views, work.views) for work in works):
        raise ValueError("clients that train together see samples the same way")
    index, sizes, address = _tables([work.schedule for work in works])
    active = (sizes > 0).sum(dim=1).tolist()
    widths = sizes.amax(dim=1).tolist()
    even = [bool((row[:n] == w).all()) for row, n, w in zip(sizes, active, widths, strict=True)]
    device = works[0].inputs.device
    inputs, first_input = _join([work.inputs for work in works])
    targets, first_target = _join([work.targets for work in works])
    weights = None
    if any(work.sample_weight is not None for work in works):
        weights = torch.cat([_weights(work) for work in works])
        first_target = _starts([work.targets for work in works])
        targets = torch.cat([work.targets for work in works])
    return PaddedSteps(
        inputs=inputs,
        targets=targets,
        sample_weight=weights,
        first_input=first_input.to(device),
        first_target=first_target.to(device),
        index=index.to(device),
        sizes=sizes.to(device),
        active=tuple(active),
        widths=tuple(widths),
        even=tuple(even),
        loss=works[0].loss,
        rates=_rates(works, device),
        views=works[0].views,
        draws=_draws(works, index.shape, address),
    )


def _draws(works: Sequence[Work], shape: torch.Size, address: Tensor) -> Tensor | None:
    """Return what was drawn for each sample, [T, K, B, d], where it stands in tables of ``shape``.

    None if nobody draws anything. Where padded, it is what was drawn for some other sample.
    """
    rows = [w.views.draws[: len(w.schedule.order)] for w in works if w.views is not None]
    if not rows:
        return None
    drawn = torch.cat(rows)
    table = drawn[:1].expand(shape.numel(), -1).clone()
    table[address] = drawn
    return table.view(*shape, -1).to(works[0].inputs.device)


def _rates(works: Sequence[Work], device: torch.device) -> Tensor | None:
    """Return the rates of each step and client, [T, K, 1]; None if nobody has any."""
    if all(work.rates is None for work in works):
        return None
    longest = works[0].schedule.num_steps
    table = np.zeros((longest, len(works), 1))
    for client, work in enumerate(works):
        taken = work.schedule.num_steps
        table[:taken, client, 0] = 1.0 if work.rates is None else work.rates[:taken]
    return torch.from_numpy(table).to(device)


def _tables(schedules: Sequence[Schedule]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the samples of each step and client, [T, K, B], and how many they are, [T, K].

    And where each sample of all schedules in turn stands in the former, flattened.

    >>> index, sizes, address = _tables([Schedule(torch.tensor([4, 2, 7]), (2, 1))])
    >>> index.tolist(), sizes.tolist(), address.tolist()
    ([[[4, 2]], [[7, 0]]], [[2], [1]], [0, 1, 2])
    """
    counts = np.array([schedule.num_steps for schedule in schedules])
    taken = np.concatenate([np.array(schedule.sizes, dtype=np.int64) for schedule in schedules])
    client = np.repeat(np.arange(len(counts)), counts)
    step = _within(counts)
    sizes = np.zeros((counts.max(), len(counts)), dtype=np.int64)
    sizes[step, client] = taken
    index = torch.zeros(*sizes.shape, int(taken.max()), dtype=torch.int64)
    # One address per sample: as three index tensors they would cost three times the memory.
    row = np.repeat((step * len(counts) + client) * index.shape[2], taken) + _within(taken)
    address = torch.from_numpy(row)
    index.view(-1)[address] = torch.cat([schedule.order for schedule in schedules])
    return index, torch.from_numpy(sizes), address


def _within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0, 1, ... within each of several stretches that follow each other.

    >>> _within(np.array([2, 3])).tolist()
    [0, 1, 0, 1, 2]
    """
    ends: NDArray[np.int64] = np.cumsum(lengths)
    return np.arange(ends[-1]) - np.repeat(ends - lengths, lengths)


def _weights(work: Work) -> Tensor:
    if work.sample_weight is not None:
        return work.sample_weight
    return torch.ones(len(work.targets), device=work.targets.device)


def _join(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return one tensor that holds all parts, and the row at which each begins.

    Parts that are slices of one tensor (the public set, a cohort's private samples) are copied
    at most once, and not at all where they are the only ones.
    """
    row = max(1, parts[0].shape[1:].numel())
    owners: dict[tuple[int, int], list[int]] = {}
    for i, part in enumerate(parts):
        # Slices of one tensor lie whole rows apart; anything else is a tensor of its own.
        place = (part.untyped_storage().data_ptr(), int(part.storage_offset()) % row)
        owners.setdefault(place if part.is_contiguous() else (-1, i), []).append(i)
    wholes, begin, above = [], [0] * len(parts), 0
    for members in owners.values():
        first = parts[members[0]]
        lowest = min(parts[i].storage_offset() for i in members)
        for i in members:
            begin[i] = above + (parts[i].storage_offset() - lowest) // row
        total = max(begin[i] - above + len(parts[i]) for i in members)
        if len(members) > 1:
            first = first.as_strided((total, *first.shape[1:]), first.stride(), lowest)
        wholes.append(first)
        above += total
    return wholes[0] if len(wholes) == 1 else torch.cat(wholes), torch.tensor(begin)


def _starts(parts: Sequence[Tensor]) -> Tensor:
    lengths = torch.tensor([len(part) for part in parts])
    return lengths.cumsum(0) - lengths
