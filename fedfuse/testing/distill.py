"""Check a distillation loss of one's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.prior import log_prior
from fedfuse.protocols import DistillLoss
from fedfuse.testing.expect import call_twice, expect, expect_close, expect_declared, expect_tensor
from fedfuse.testing.fusion import SIZES, example_bank
from fedfuse.train.facts import NAMES, Facts, as_trained, told, wants, widen
from fedfuse.types import Space


def check_distill_loss(loss: DistillLoss) -> None:
    """Raise unless the loss keeps the promises of :data:`fedfuse.protocols.DistillLoss`.

    One finite loss per sample [B] with finite gradients, also for logits of 1e4 and one-hot
    targets; samples do not mix; ``torch.func.vmap`` over clients gives what a loop gives; a
    student that agrees with its teacher loses no more than one that does not. A loss that wants to
    know more is told random facts, in range. One that is ``relational`` may mix samples: then the
    order of the batch does not matter, and a batch of one loses 0. One that declares
    ``batchable = False`` is not asked under vmap, one that declares
    ``least_where_agreeing = False`` not for its least value.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The distillation loss {part_name(loss)}"
    expect_declared(name, loss, "distill")
    space = declared(loss, "space", Space.PROBABILITIES)
    expect(space in list(Space), name, f"has no known space: got {space!r}")
    unknown = sorted(map(str, wants(loss) - set(NAMES)))
    expect(not unknown, name, f"wants to know what nobody tells it: {', '.join(unknown)}")
    ask = as_trained(loss)
    for _, batch, num_classes in SIZES:
        if num_classes < declared(loss, "min_classes", 2):
            continue
        bank = example_bank(2, batch, num_classes)
        student, teacher = bank.logits[0], bank.logits[1]
        extreme = torch.full_like(student, -1e4)
        extreme[:, 0] = 1e4
        certain = torch.eye(num_classes)[-1].repeat(batch, 1)
        in_space = teacher if space == Space.LOGITS else teacher.softmax(dim=-1)
        if wants(loss):
            facts = told(loss, _facts(batch, num_classes))
            certain, in_space = widen(certain, facts), widen(in_space, facts)
        for logits in (student, extreme):
            for targets in (in_space, certain):
                losses = call_twice(name, ask, logits, targets)
                expect_tensor(name, losses, (batch,))
                _expect_finite(name, ask, logits, targets)
        losses = ask(student, in_space)
        if declared(loss, "relational", False):
            # What a sum of several losses loses on a batch of one is what its other terms do.
            _check_relational(name, ask, student, in_space, zero=not hasattr(loss, "terms"))
        else:
            rows = [slice(i, i + 1) for i in range(batch)]
            alone = torch.cat([ask(student[row], in_space[row]) for row in rows])
            expect_close(name, alone, losses, "mixes the samples of a batch")
        if declared(loss, "batchable", True):
            both = torch.stack([student, extreme]), torch.stack([in_space, certain])
            loop = torch.stack([ask(z, t) for z, t in zip(*both, strict=True)])
            expect_close(name, torch.func.vmap(ask)(*both), loop, "changes under torch.func.vmap")
        if declared(loss, "least_where_agreeing", True):
            temperature = 1 if space == Space.LOGITS else declared(loss, "temperature", 1.0)
            # Both may lose nothing; what rounding leaves of that says nothing.
            least = float(ask(teacher * temperature, in_space).mean()) - 1e-6
            worse = least > float(losses.mean())
            expect(not worse, name, "prefers a student that disagrees with its teacher")


def _facts(batch: int, num_classes: int) -> Facts:
    """Return what a loss may want to know of a made-up batch."""
    draw = torch.Generator().manual_seed(batch)
    return Facts(
        labels=torch.randint(num_classes, (batch,), generator=draw),
        own=torch.randn(batch, num_classes, generator=draw),
        prior=log_prior(torch.randint(5, (batch, num_classes), generator=draw)),
        clock=torch.rand(batch, generator=draw),
    )


def _expect_finite(
    name: str, ask: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor
) -> None:
    logits = logits.clone().requires_grad_()
    losses = ask(logits, targets)
    expect(bool(losses.isfinite().all()), name, "is not finite")
    expect(losses.requires_grad, name, "has no gradient")
    (gradient,) = torch.autograd.grad(losses.sum(), logits)
    expect(bool(gradient.isfinite().all()), name, "has a gradient that is not finite")


def _check_relational(
    name: str,
    ask: Callable[[Tensor, Tensor], Tensor],
    student: Tensor,
    targets: Tensor,
    *,
    zero: bool,
) -> None:
    order = torch.randperm(len(student), generator=torch.Generator().manual_seed(0))
    moved, losses = ask(student[order], targets[order]), ask(student, targets)
    expect_close(name, moved, losses[order], "depends on the order of the batch")
    one = student[:1], targets[:1]
    _expect_finite(f"{name}, on a batch of one,", ask, *one)
    if zero:
        nothing = bool((ask(*one) == 0).all())
        expect(nothing, name, "loses something on a batch of one, which has no relations")
