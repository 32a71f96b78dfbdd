"""The optimiser steps that one client takes in one phase, written down before they are taken.

Everything random (the order of the samples) is drawn here, so that whoever takes the steps, one
client after the other or many at once, takes the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from fedfuse.train.views import Views

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""Map logits [B, C] and targets [B, ...] to one loss per sample, [B]."""

Penalty = Callable[[nn.Module], Tensor]
"""Map a model to a scalar that is added to the loss of each step."""

BeforeStep = Callable[[int, nn.Module, Tensor, Tensor, Tensor | None], None]
"""Called with a step's number from 0, the model and the batch: inputs, targets and weights."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which samples each step sees.

    Args:
        order: int64 [sum(sizes)], sample indices in the order in which they are used.
        sizes: Samples per step.
    """

    order: Tensor
    sizes: tuple[int, ...]

    @property
    def num_steps(self) -> int:
        """Return how many steps these are."""
        return len(self.sizes)

    def cut(self, num_samples: int) -> Schedule:
        """Return the first ``num_samples`` samples of it; the last step may become smaller.

        >>> Schedule(torch.arange(8), (4, 4)).cut(5).sizes
        (4, 1)
        """
        sizes, left = [], num_samples
        for size in self.sizes:
            if left > 0:
                sizes.append(min(size, left))
                left -= size
        return Schedule(self.order[: sum(sizes)], tuple(sizes))


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean loss of a batch; one in which no sample counts gives loss 0, not 0/0."""
    if weight is None:
        return losses.mean()
    return (losses * weight).sum() / weight.sum().clamp_min(torch.finfo(weight.dtype).tiny)


def steps_per_epoch(num_samples: int, batch_size: int) -> int:
    """Return the steps of one pass over the samples; the last batch may be smaller, none is lost.

    >>> steps_per_epoch(70, 32)
    3
    """
    return math.ceil(num_samples / batch_size)


def samples_processed(num_samples: int, batch_size: int, num_steps: int) -> int:
    """Return how many samples so many steps see, where epochs end with a smaller batch.

    >>> samples_processed(70, 32, 4)
    102
    """
    whole, rest = divmod(num_steps, steps_per_epoch(num_samples, batch_size))
    return whole * num_samples + rest * batch_size


def steps_to_process(num_samples: int, batch_size: int, total: int) -> int:
    """Return the fewest steps that see at least ``total`` samples.

    >>> steps_to_process(70, 32, 102), steps_to_process(70, 32, 103)
    (4, 5)
    """
    whole, rest = divmod(total, num_samples)
    return whole * steps_per_epoch(num_samples, batch_size) + math.ceil(rest / batch_size)


def schedule(
    num_samples: int, batch_size: int, num_steps: int, generator: torch.Generator
) -> Schedule:
    """Return ``num_steps`` batches from as many freshly shuffled epochs as they need.

    Args:
        num_samples: N, at least 1.
        batch_size: Samples per step; a step never straddles two epochs.
        num_steps: Steps to write down.
        generator: Where the shuffles come from.

    >>> plan = schedule(5, 2, 4, torch.Generator().manual_seed(0))
    >>> plan.sizes, sorted(plan.order[:5].tolist())
    ((2, 2, 1, 2), [0, 1, 2, 3, 4])
    """
    sizes = _sizes(num_samples, batch_size, num_steps) if num_samples else ()
    return Schedule(_shuffled(num_samples, sum(sizes), generator), sizes)


def _shuffled(num_samples: int, total: int, generator: torch.Generator) -> Tensor:
    """Return the first ``total`` places of as many shuffles of all as that takes."""
    times = math.ceil(total / num_samples) if total else 0
    shuffles = [torch.randperm(num_samples, generator=generator) for _ in range(times)]
    return torch.cat(shuffles)[:total] if shuffles else torch.zeros(0, dtype=torch.int64)


@lru_cache(maxsize=64)
def _sizes(num_samples: int, batch_size: int, num_steps: int) -> tuple[int, ...]:
    """Return the samples of each step; the last of an epoch sees what is left of it."""
    per_epoch = steps_per_epoch(num_samples, batch_size)
    epoch = [batch_size] * (per_epoch - 1) + [num_samples - batch_size * (per_epoch - 1)]
    return tuple((epoch * math.ceil(num_steps / per_epoch))[:num_steps])


def schedule_over(
    counts: Tensor, batch_size: int, num_steps: int, generator: torch.Generator
) -> Schedule:
    """Return what :func:`schedule` does, over the samples that count alone.

    As many steps of as many samples as if all counted, so that those who spend alike go on doing
    so: a batch may reach into the next shuffle, and few samples come several times in one. Where
    all count it is :func:`schedule` to the bit; where none does there is no step.

    Args:
        counts: How much each sample counts, [N]; 0 leaves it out.
        batch_size: Samples per step.
        num_steps: Steps to write down.
        generator: Where the shuffles come from.

    >>> plan = schedule_over(torch.tensor([0, 1, 0, 2, 0]), 2, 4, torch.Generator().manual_seed(0))
    >>> plan.sizes, sorted(plan.order.tolist())
    ((2, 2, 1, 2), [1, 1, 1, 1, 3, 3, 3])
    """
    rows = counts.nonzero().flatten()
    if not len(rows):
        return Schedule(rows, ())
    sizes = _sizes(len(counts), batch_size, num_steps)
    return Schedule(rows[_shuffled(len(rows), sum(sizes), generator)], sizes)


@dataclass(frozen=True, slots=True)
class Scaled:
    """A loss times a number.

    Args:
        loss: Per-sample loss.
        factor: The number.
    """

    loss: SampleLoss
    factor: float

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample, [B]."""
        return self.factor * self.loss(logits, targets)


@dataclass(frozen=True, slots=True)
class Work:
    """Steps over one set of samples with one loss.

    Args:
        inputs: float32 [N, ...], ready for the model.
        targets: int64 [N] labels or float32 [N, C] teacher targets.
        loss: Per-sample loss.
        schedule: The steps.
        sample_weight: float32 [N], how much each sample counts; None means 1 everywhere.
        anchor: A second piece of work whose loss is added at each step, weighted by
            ``anchor_weight``: the private cross-entropy beside distillation.
        anchor_weight: Its factor.
        penalty: What each step adds for the weights themselves (a proximal term); None for
            nothing. Only :class:`~fedfuse.train.trainer.LoopTrainer` takes such steps.
        before_step: Called before each step; None for nothing. It is with such steps as with those
            that have a penalty.
        entropy: Seed of the layers that draw random numbers (dropout); None leaves torch's
            generators where they are.
        views: How its samples are changed each time that a step sees one; None for nothing.
        rates: Share of the optimiser's learning rate at which each step is taken; None for all of
            it.
    """

    inputs: Tensor
    targets: Tensor
    loss: SampleLoss
    schedule: Schedule
    sample_weight: Tensor | None = None
    anchor: Work | None = None
    anchor_weight: float = 0.0
    entropy: int | None = None
    penalty: Penalty | None = None
    before_step: BeforeStep | None = None
    views: Views | None = None
    rates: tuple[float, ...] | None = None

    @property
    def num_samples(self) -> int:
        """Return how many samples the steps see, those of the anchor included."""
        seen = sum(self.schedule.sizes)
        return seen if self.anchor is None else seen + self.anchor.num_samples

    @property
    def taken(self) -> Work:
        """The steps that are taken: the anchor's alone where there are no others beside them."""
        if self.anchor is None or self.schedule.num_steps:
            return self
        return replace(self.anchor, loss=Scaled(self.anchor.loss, self.anchor_weight))

    def seed_layers(self) -> None:
        """Seed torch's global generators, on the CPU and on the device of the inputs."""
        if self.entropy is None:
            return
        # Not torch.manual_seed: it would reseed GPUs that the caller has not forked.
        torch.default_generator.manual_seed(self.entropy)
        if self.inputs.is_cuda:
            with torch.cuda.device(self.inputs.device):
                torch.cuda.manual_seed(self.entropy)
