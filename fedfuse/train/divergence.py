"""Why a loss is not a number any more: the learning rate, or what else stands out."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import FedfuseError
from fedfuse.train.facts import Widened
from fedfuse.train.work import Work

LARGE_INPUT = 1e3
"""Inputs beyond it are not scaled: what has mean 0 and deviation 1 stays within some tens."""
LARGE_TARGET = 1e4
LARGE_WEIGHT = 100.0
LOW_TEMPERATURE = 0.05


def diverged(what: str, loss: float, work: Work, optimizer: torch.optim.Optimizer) -> FedfuseError:
    """Return the error of a training whose loss is not a number any more.

    Args:
        what: What diverged, and when, as a sentence.
        loss: The loss.
        work: The steps that were taken.
        optimizer: Who took them.
    """
    return FedfuseError(
        what,
        got=f"loss {loss}",
        allowed="a finite loss",
        next_step=suspect(work, optimizer),
    )


def suspect(work: Work, optimizer: torch.optim.Optimizer) -> str:
    """Return what to change: what stands out in the samples or the loss, else the learning rate.

    Args:
        work: The steps that were taken.
        optimizer: Who took them.

    >>> from fedfuse.train.work import Schedule
    >>> def loss(logits, targets): ...
    >>> plan = Schedule(torch.arange(1), (1,))
    >>> optimizer = torch.optim.SGD([torch.ones(1)], lr=1000)
    >>> suspect(Work(torch.ones(1, 2), torch.zeros(1), loss, plan), optimizer)
    'Lower optimizer.lr, which is 1000.'
    >>> suspect(Work(torch.full((1, 2), 1e6), torch.zeros(1), loss, plan), optimizer)
    'The inputs reach 1e+06: scale the features of the data to mean 0 and deviation 1.'
    """
    for inputs in (work.inputs, *([] if work.anchor is None else [work.anchor.inputs])):
        reach = _reach(inputs)
        if not reach < float("inf"):
            return "The inputs hold NaN or infinite values: take those samples out of the data."
        if reach > LARGE_INPUT:
            return (
                f"The inputs reach {reach:.3g}: scale the features of the data to mean 0 and "
                "deviation 1."
            )
    if work.targets.is_floating_point() and not (reach := _reach(work.targets)) <= LARGE_TARGET:
        return (
            f"The teacher's numbers reach {reach:.3g}: look at what clients share (attack, "
            "privacy), or learn from probabilities with distill=kl."
        )
    if work.anchor is not None and work.anchor_weight > LARGE_WEIGHT:
        return f"Lower client.private_weight, which is {work.anchor_weight:g}."
    loss = work.loss.loss if isinstance(work.loss, Widened) else work.loss
    temperature = declared(loss, "temperature", 1.0)
    if isinstance(temperature, int | float) and temperature < LOW_TEMPERATURE:
        return f"Raise temperature, which is {temperature:g}."
    rates = [group.get("lr") for group in optimizer.param_groups]
    known = [f"{float(rate):g}" for rate in rates if isinstance(rate, int | float)]
    return f"Lower optimizer.lr, which is {known[0]}." if known else "Lower optimizer.lr."


def _reach(values: Tensor) -> float:
    """Return the largest magnitude; NaN if there is one."""
    return float(values.abs().max()) if values.numel() else 0.0
