"""What adversaries send instead of their predictions: pure functions on logits [m, C]."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Float


def random_logits(
    logits: Float[Tensor, "m C"], scale: float, generator: torch.Generator
) -> Float[Tensor, "m C"]:
    """Return normal noise of standard deviation ``scale``."""
    return scale * torch.randn(logits.shape, generator=generator)


def constant_class(logits: Float[Tensor, "m C"], label: int, margin: float) -> Float[Tensor, "m C"]:
    """Return the same class for every sample, ``margin`` above all others.

    >>> constant_class(torch.rand(1, 3), 2, 5.0)
    tensor([[0., 0., 5.]])
    """
    sent = torch.zeros_like(logits)
    sent[:, label] = margin
    return sent


def shift_together(
    logits: Float[Tensor, "m C"], deviations: float, direction: Float[Tensor, " C"]
) -> Float[Tensor, "m C"]:
    """Return the honest logits, moved as far as honest ones vary.

    After "a little is enough" (Baruch, Baruch and Goldberg 2019, arXiv 1902.06635), where
    colluders move every coordinate by a number of standard deviations that keeps them within the
    crowd. There the deviation is one between clients; an adversary that sees no other client's
    predictions takes its own deviation between samples, of each class.

    Args:
        logits: The honest ones.
        deviations: How many standard deviations.
        direction: +1 or -1 for each class, agreed on by all adversaries.
    """
    return logits + deviations * logits.std(dim=0, unbiased=False) * direction


def imitate(
    logits: Float[Tensor, "m C"],
    shares: Float[Tensor, " C"],
    margin: float,
    generator: torch.Generator,
) -> Float[Tensor, "m C"]:
    """Return confident classes that have nothing to do with the samples, in given shares.

    The mean prediction, by which a semantic neighbour is chosen, is then the victim's class
    distribution as nearly as m samples allow, and every single prediction is a guess.

    >>> sent = imitate(torch.zeros(4, 2), torch.tensor([0.75, 0.25]), 9.0, torch.Generator())
    >>> sent.argmax(dim=1).bincount()
    tensor([3, 1])
    """
    num_samples = len(logits)
    quota = shares.double() * num_samples
    counts = quota.floor().long()
    # Largest remainders take what is left.
    order = (quota - counts).argsort(descending=True, stable=True)
    counts[order[: num_samples - int(counts.sum())]] += 1
    classes = torch.arange(len(shares)).repeat_interleave(counts)
    classes = classes[torch.randperm(num_samples, generator=generator)]
    return margin * torch.nn.functional.one_hot(classes, len(shares)).to(logits.dtype)


def as_logits(targets: Float[Tensor, "m C"], temperature: float = 1.0) -> Float[Tensor, "m C"]:
    """Return received targets as something that passes for predictions.

    Probabilities become ``T log p``, of which the softmax at the federation's temperature gives
    them back; logits, and the zeros of a sample that was not sent, stay as they are.

    >>> as_logits(torch.tensor([[0.5, 0.5], [0.0, 0.0], [3.0, -1.0]]), temperature=2.0)
    tensor([[-1.3863, -1.3863],
            [ 0.0000,  0.0000],
            [ 3.0000, -1.0000]])
    """
    sums = targets.sum(dim=1, keepdim=True)
    is_simplex = (targets >= 0).all(dim=1, keepdim=True) & ((sums - 1).abs() < 1e-3)
    return torch.where(is_simplex, temperature * targets.clamp_min(1e-8).log(), targets)
