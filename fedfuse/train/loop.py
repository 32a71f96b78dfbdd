"""Train and query one client's model: the plain loop, with nothing in it but the arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedfuse.train.clipping import clip
from fedfuse.train.optimizers import stepper
from fedfuse.train.precision import Precision
from fedfuse.train.work import Work, weighted_mean


def fit(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    work: Work,
    precision: Precision = Precision.FP32,
    on_step: Callable[[int, int], None] | None = None,
    clip_norm: float | None = None,
) -> float:
    """Take the steps of ``work`` and return the mean loss over them (NaN if there were none).

    ``on_step`` is called after each with the steps taken and their number; ``clip_norm`` is the
    largest norm that a step's gradient keeps (:mod:`fedfuse.train.clipping`), None for any.

    Each step minimises the mean loss of its batch (weighted by ``work.sample_weight`` where
    given) plus ``anchor_weight`` times the same of the anchor.
    """
    model.train()
    work.seed_layers()
    step = stepper(optimizer)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    total = torch.zeros((), device=work.inputs.device)
    anchor = iter(()) if work.anchor is None else _losses(model, work.anchor, precision)
    for number, loss in enumerate(_losses(model, work, precision), start=1):
        if work.anchor is not None:
            loss = loss + work.anchor_weight * next(anchor)
        if work.penalty is not None:
            loss = loss + work.penalty(model)
        for parameter in parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        if clip_norm is not None:
            clip(model, parameters, clip_norm)
        if work.rates is None:
            step()
        else:
            with _rate(optimizer, work.rates[number - 1]):
                step()
        total += loss.detach()
        if on_step is not None:
            on_step(number, work.schedule.num_steps)
    return float(total) / work.schedule.num_steps if work.schedule.num_steps else float("nan")


@contextmanager
def _rate(optimizer: torch.optim.Optimizer, share: float) -> Iterator[None]:
    """Let the optimiser's learning rate be a share of what it is."""
    whole = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, whole, strict=True):
        group["lr"] = rate * share
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, whole, strict=True):
            group["lr"] = rate


def _losses(model: nn.Module, work: Work, precision: Precision) -> Iterator[Tensor]:
    """Yield the loss of each batch in turn."""
    device = work.inputs.device
    for step, (inputs, targets, weight) in enumerate(_batches(work)):
        if work.before_step is not None:
            work.before_step(step, model, inputs, targets, weight)
        with precision.context(device):
            logits = model(inputs)
        yield weighted_mean(work.loss(logits.float(), targets), weight)


def _batches(work: Work) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield inputs, targets and weights of each step.

    One gather per block of samples and views after it: indexing batch by batch would cost three
    small kernels per step. The block bounds the copy when an epoch is large.
    """
    sizes, order = work.schedule.sizes, work.schedule.order.to(work.inputs.device)
    start = step = 0
    while step < len(sizes):
        stop, last = start, step
        while last < len(sizes) and (last == step or stop + sizes[last] - start <= _BLOCK):
            stop, last = stop + sizes[last], last + 1
        index = order[start:stop]
        split = list(sizes[step:last])
        seen = work.inputs.index_select(0, index)
        if work.views is not None:
            seen = work.views.of(seen, work.views.draws[start:stop])
        inputs = torch.split(seen, split)
        targets = torch.split(work.targets.index_select(0, index), split)
        if work.sample_weight is None:
            yield from ((x, y, None) for x, y in zip(inputs, targets, strict=True))
        else:
            weights = torch.split(work.sample_weight.index_select(0, index), split)
            yield from zip(inputs, targets, weights, strict=True)
        start, step = stop, last


_BLOCK = 4096
"""Samples copied at once; 12 MB of MNIST."""


def predict(
    model: nn.Module, inputs: Tensor, batch_size: int, precision: Precision = Precision.FP32
) -> Tensor:
    """Return the logits float32 [N, C] of ``inputs`` [N, ...], in eval mode, without gradients."""
    model.eval()
    with torch.inference_mode(), precision.context(inputs.device):
        parts = [model(batch) for batch in torch.split(inputs, batch_size)]
        return torch.cat(parts).float()
