"""Check a distillation loss of one's own."""

from __future__ import annotations

import torch

from fedfuse.declarations import declared, part_name
from fedfuse.protocols import DistillLoss
from fedfuse.testing.expect import call_twice, expect, expect_close, expect_declared, expect_tensor
from fedfuse.testing.fusion import SIZES, example_bank
from fedfuse.types import Space


def check_distill_loss(loss: DistillLoss) -> None:
    """Raise unless the loss keeps the promises of :class:`fedfuse.protocols.DistillLoss`.

    One finite loss per sample [B] with finite gradients, also for logits of 1e4 and one-hot
    targets; samples do not mix; ``torch.func.vmap`` over clients gives what a loop gives; a
    student that agrees with its teacher loses no more than one that does not.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The distillation loss {part_name(loss)}"
    expect_declared(name, loss, "distill")
    space = declared(loss, "space", Space.PROBABILITIES)
    expect(space in list(Space), name, f"has no known space: got {space!r}")
    for _, batch, num_classes in SIZES:
        bank = example_bank(2, batch, num_classes)
        student, teacher = bank.logits[0], bank.logits[1]
        extreme = torch.full_like(student, -1e4)
        extreme[:, 0] = 1e4
        certain = torch.eye(num_classes)[-1].repeat(batch, 1)
        in_space = teacher if space == Space.LOGITS else teacher.softmax(dim=-1)
        for logits in (student, extreme):
            for targets in (in_space, certain):
                losses = call_twice(name, loss, logits, targets)
                expect_tensor(name, losses, (batch,))
                expect(bool(losses.isfinite().all()), name, "is not finite")
                gradient = torch.func.grad(lambda z, t=targets: loss(z, t).sum())(logits)
                expect(bool(gradient.isfinite().all()), name, "has a gradient that is not finite")
        losses = loss(student, in_space)
        alone = torch.cat([loss(student[i : i + 1], in_space[i : i + 1]) for i in range(batch)])
        expect_close(name, alone, losses, "mixes the samples of a batch")
        both = torch.stack([student, extreme]), torch.stack([in_space, certain])
        loop = torch.stack([loss(z, t) for z, t in zip(*both, strict=True)])
        expect_close(name, torch.func.vmap(loss)(*both), loop, "changes under torch.func.vmap")
        agreeing = teacher * (1 if space == Space.LOGITS else declared(loss, "temperature", 1.0))
        worse = float(loss(agreeing, in_space).mean()) > float(losses.mean())
        expect(not worse, name, "prefers a student that disagrees with its teacher")
