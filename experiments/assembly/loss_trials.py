"""Try a loss of the user's own on a toy: one loss per sample, with a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from experiments.assembly.toy import Toy
from fedfuse.declarations import declared
from fedfuse.prior import log_prior
from fedfuse.train.facts import Facts, ask, told, wants
from fedfuse.types import Space
from fedfuse.user_code import PartError


def local_loss(part: Any, toy: Toy) -> object:
    """Try a loss of private data, with the label prior if it wants to know it."""
    num_classes = toy.parts.data.num_classes
    labels = torch.tensor([0, num_classes - 1, 0])
    given: list[Any] = [labels]
    if "prior" in wants(part):
        prior = log_prior(torch.bincount(labels, minlength=num_classes))
        given.append(Facts(prior=prior.expand(3, -1)))
    logits = torch.randn(3, num_classes, generator=torch.Generator().manual_seed(0))
    return _loss(toy, logits, lambda logits: part(logits, *given), "logits")


def distill(part: Any, toy: Toy) -> object:
    """Try a loss of distillation, with all that it may want to know."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, toy.parts.data.num_classes, generator=draw).unbind()
    space = declared(part, "space", Space.PROBABILITIES)
    if space not in list(Space):
        raise PartError(
            f"{toy.what} has no known space", got=repr(space), allowed="a fedfuse.types.Space"
        )
    targets = teacher if space == Space.LOGITS else teacher.softmax(dim=1)
    facts = Facts(
        labels=torch.arange(3) % toy.parts.data.num_classes,
        own=student.flip(0),
        prior=log_prior(torch.arange(student.shape[1])).expand(3, -1),
        clock=torch.linspace(0, 1, 3),
    )
    told_facts = told(part, facts)
    given = targets.clone()
    losses = _loss(
        toy, student, lambda logits: ask(part, logits, targets, told_facts), "student_logits"
    )
    toy.unchanged(targets, given)
    return losses


def _loss(toy: Toy, logits: Tensor, loss: Callable[[Tensor], Any], name: str) -> Tensor:
    """Ask a loss about logits [B, C], which it calls by a name, and look at what it returns.

    Torch's own random numbers are seeded, as a trainer does before every phase.
    """
    torch.default_generator.manual_seed(0)
    logits = logits.clone().requires_grad_()
    batch = len(logits)
    losses: Any = loss(logits)
    if isinstance(losses, Tensor) and losses.ndim == 0:
        raise PartError(
            f"{toy.what} returned one loss for the whole batch",
            got="a scalar",
            allowed=f"one loss per sample, shape [{batch}]",
            next_step="Leave out its mean or sum (reduction='none'); the trainer weighs and "
            "averages.",
        )
    toy.expect(losses, (batch,), "one loss per sample")
    if not losses.requires_grad:
        raise PartError(
            f"{toy.what} has no gradient",
            got="a loss that does not depend on the logits, or is detached from them",
            allowed=f"torch operations on {name}",
        )
    losses.sum().backward()
    toy.expect(logits.grad, tuple(logits.shape), "a loss with a gradient")
    told: Tensor = losses.detach()
    return told
