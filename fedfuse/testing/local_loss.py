"""Check a loss on private data of one's own."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.prior import log_prior
from fedfuse.protocols import LocalLoss
from fedfuse.testing.expect import call_twice, expect, expect_close, expect_tensor
from fedfuse.testing.fusion import SIZES, example_bank
from fedfuse.train.facts import Facts, Widened, wants, widen


def check_local_loss(loss: LocalLoss) -> None:
    """Raise unless the loss keeps the promises of :data:`fedfuse.protocols.LocalLoss`.

    It wants to know nothing but the prior; one finite loss per sample [B] with finite gradients,
    also for logits of 1e4 and classes that the client has none of; samples do not mix; a model
    that names every label loses no more than one that names none.

    Raises:
        CheckFailed: Naming the broken promise.
    """
    name = f"The local loss {part_name(loss)}"
    wanted = wants(loss)
    told = sorted(wanted - {"prior"})
    expect(not told, name, f"wants to know what nobody tells it: {', '.join(map(str, told))}")

    def ask(logits: Tensor, labels: Tensor, prior: Tensor) -> Tensor:
        if not wanted:
            return loss(logits, labels)  # type: ignore[call-arg]
        return Widened(loss, wanted)(logits, widen(labels, Facts(prior=prior)))

    for _, batch, num_classes in SIZES:
        logits = example_bank(2, batch, num_classes).logits[0]
        labels = torch.arange(batch) % num_classes
        counts = torch.arange(num_classes)  # none of the first class
        prior = log_prior(counts).repeat(batch, 1)
        right = 1e4 * torch.eye(num_classes)[labels]
        for given in (logits, right, -right):
            losses = call_twice(name, ask, given, labels, prior)
            expect_tensor(name, losses, (batch,))
            expect(bool(losses.isfinite().all()), name, "is not finite")
            gradient = torch.func.grad(lambda z, y=labels, p=prior: ask(z, y, p).sum())(given)
            expect(bool(gradient.isfinite().all()), name, "has a gradient that is not finite")
        losses = ask(logits, labels, prior)
        rows = [slice(i, i + 1) for i in range(batch)]
        alone = torch.cat([ask(logits[row], labels[row], prior[row]) for row in rows])
        expect_close(name, alone, losses, "mixes the samples of a batch")
        worse = ask(right, labels, prior).mean() > ask(-right, labels, prior).mean()
        expect(not bool(worse), name, "prefers a model that names other classes than the labels")
