"""By how much of an expert's step to move a prediction, so that it moves as the expert has moved.

Classes come first here, [C, ...]: sums over few numbers next to each other are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fedfuse.shapes import Bool, Float, Int

_SWEEPS = 2
_SAME_WEIGHT = 1e-6  # relative: sources whose weights differ by less are one expert
_TIE = 1e-12


class Prediction(NamedTuple):
    """Logits [C, ...], their softmax and the logarithm of its denominator [...]."""

    logits: Tensor
    probs: Tensor
    level: Tensor


def prediction(logits: Float[Tensor, "C ..."]) -> Prediction:
    """Return what logits predict."""
    top = logits.amax(dim=0)
    probs = (logits - top).exp_()
    total = probs.sum(dim=0)
    return Prediction(logits, probs.div_(total), total.log_().add_(top))


def moved_by(start: Prediction, step: Float[Tensor, "C ..."]) -> tuple[Tensor, Tensor]:
    """Return KL(moved || start) and KL(start || moved), where moved is ``softmax(z + step)``.

    >>> at = prediction(torch.zeros(2, dtype=torch.float64))
    >>> [round(float(kl), 6) for kl in moved_by(at, torch.tensor([1.0, 0.0]).double())]
    [0.110944, 0.120115]
    """
    moved = prediction(start.logits + step)
    gain = moved.level - start.level
    return (moved.probs.mul_(step).sum(dim=0)) - gain, gain - (start.probs * step).sum(dim=0)


class Experts(NamedTuple):
    """What a receiver may add, nearest first.

    Args:
        steps: Differences of the experts' logits to the reference, [E, C, ...]; 0 for no expert.
        there: Where there is an expert, [E, ...].
        forward: KL(expert || reference), [E, ...].
        reverse: KL(reference || expert), [E, ...].
    """

    steps: Tensor
    there: Tensor
    forward: Tensor
    reverse: Tensor


def experts_of(
    reference: Prediction, steps: Float[Tensor, "E C ..."], there: Bool[Tensor, "E ..."]
) -> Experts:
    """Return the experts that these steps from the reference lead to."""
    apart = [moved_by(reference, step) for step in steps]
    return Experts(steps, there, *(torch.stack(part) for part in zip(*apart, strict=True)))


def best_multiple(
    own: Prediction,
    fixed: Float[Tensor, "C ..."] | None,
    step: Float[Tensor, "C ..."],
    experts: Experts,
    grid: Sequence[float],
) -> tuple[Float[Tensor, " ..."], Float[Tensor, " ..."]]:
    """Return the multiple of a step that moves ``own`` as the experts were moved, and its cost.

    The cost, least there, is ``sum_j (KL(moved || own) - KL(expert_j || reference))^2 + (KL(own ||
    moved) - KL(reference || expert_j))^2``; of equal ones the first multiple wins.

    Args:
        own: The receiver's own prediction.
        fixed: What is added to it besides; None for nothing.
        step: What is added a multiple of.
        experts: Those that are compared with.
        grid: The multiples.
    """
    costs = []
    for alpha in grid:
        forward, reverse = moved_by(own, alpha * step if fixed is None else fixed + alpha * step)
        cost = (forward - experts.forward).square_() + (reverse - experts.reverse).square_()
        costs.append((cost * experts.there).sum(dim=0))
    first, least = _first_least(torch.stack(costs))
    return least.new_tensor(grid)[first], least


def fitted(own: Prediction, experts: Experts, grid: Sequence[float]) -> Float[Tensor, "E ..."]:
    """Return the multiple of each expert's step, found coordinate by coordinate from 0, twice."""
    alphas, total = torch.zeros_like(experts.forward), torch.zeros_like(own.logits)
    for _ in range(_SWEEPS if len(alphas) > 1 else 1):
        for alpha, step in zip(alphas, experts.steps, strict=True):
            fixed = total - alpha * step if len(alphas) > 1 else None
            alpha.copy_(best_multiple(own, fixed, step, experts, grid)[0])
            total = alpha * step if fixed is None else fixed + alpha * step
    return alphas


def best_alone(own: Prediction, experts: Experts, grid: Sequence[float]) -> Float[Tensor, "E ..."]:
    """Return the multiple of the step of the one expert that fits best alone; 0 for all others."""
    alphas, costs = [], []
    for number, step in enumerate(experts.steps):
        alone = Experts(*(part[number : number + 1] for part in experts))
        alpha, cost = best_multiple(own, None, step, alone, grid)
        alphas.append(alpha)
        costs.append(cost.masked_fill(~alone.there[0], torch.inf))
    first, _ = _first_least(torch.stack(costs))
    every = torch.stack(alphas)
    return torch.zeros_like(every).scatter_(0, first.unsqueeze(0), every.gather(0, first[None]))


def _first_least(
    costs: Float[Tensor, "n ..."],
) -> tuple[Int[Tensor, " ..."], Float[Tensor, " ..."]]:
    """Return which is the first of the least, up to rounding, and the least."""
    least = costs.amin(dim=0)
    return (costs <= least * (1 + _TIE) + _TIE).to(torch.uint8).argmax(dim=0), least


def nearest(
    logits: Float[Tensor, "J p C"],
    weights: Float[Tensor, "#p K J"],
    reference: Float[Tensor, "p C"],
    count: int,
) -> tuple[Float[Tensor, "E C K p"], Bool[Tensor, "E K p"]]:
    """Return the steps of the ``count`` sources with the largest weights, and where there are any.

    Sources of equal weight are one expert with the mean step: nothing else would tell which of them
    comes first.

    Args:
        logits: What sources said, finite numbers also where they said nothing.
        weights: Of the sources, 0 for those that are no expert: the receiver itself, and on their
            samples those that did not answer. One matrix if it is the same for all samples.
        reference: What the experts have moved from.
        count: How many experts.
    """
    steps, found = [], []
    by_class = logits.permute(2, 1, 0).contiguous()  # [C, p, J]
    for _ in range(count):
        largest = weights.amax(dim=-1, keepdim=True)
        tied = (weights >= largest * (1 - _SAME_WEIGHT)) & (largest > 0)
        number = tied.sum(dim=-1)  # [#p, K]
        share = tied.to(logits.dtype) / number.clamp_min(1).unsqueeze(-1)
        if len(share) == 1:
            mean = share[0] @ by_class.flatten(0, 1).T  # [K, C p]
            mean = mean.view(len(mean), *by_class.shape[:2]).transpose(0, 1)
        else:
            mean = (share @ by_class.movedim(0, 2)).permute(2, 1, 0)
        there = (number > 0).T.expand(mean.shape[1:])
        steps.append(torch.where(there, mean - reference.T.unsqueeze(1), 0))
        found.append(there)
        weights = weights.masked_fill(tied, 0)
    return torch.stack(steps), torch.stack(found)
