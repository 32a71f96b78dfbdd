"""Keep part of the private samples apart, to see how familiar ones score that were not learned."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Float, Int


def hold_out(
    num_samples: int, share: float, generator: torch.Generator
) -> tuple[Int[Tensor, " learned"], Int[Tensor, " held"]]:
    """Return random indices to learn from and indices held out, at least one of each.

    >>> learned, held = hold_out(10, 0.25, torch.Generator().manual_seed(0))
    >>> len(learned), len(held)
    (8, 2)

    Raises:
        KnowledgeError: If there are fewer than two samples.
    """
    if num_samples < 2:
        raise KnowledgeError(
            "A client's density cannot be estimated",
            got=f"{num_samples} private samples",
            allowed="at least 2, one to learn from and one to hold out",
            next_step="Give every client more samples, or choose a method without densities.",
        )
    order = torch.randperm(num_samples, generator=generator)
    held = min(max(round(share * num_samples), 1), num_samples - 1)
    return order[held:].sort().values, order[:held].sort().values


def quantile_mask(scores: Float[Tensor, " P"], held_out: Float[Tensor, " h"], q: float) -> Tensor:
    """Return True where a score is above the ``q``-quantile of the held-out scores, bool [P].

    >>> held_out = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> quantile_mask(torch.tensor([1.9, 2.0, 2.1]), held_out, q=0.25)
    tensor([False, False,  True])
    """
    # torch.quantile refuses more than 16 million values; a client's held-out part is far smaller.
    return scores > torch.quantile(held_out, q)


def z_scores(scores: Float[Tensor, " P"], held_out: Float[Tensor, " h"]) -> Float[Tensor, " P"]:
    """Return how many standard deviations of the held-out scores each score is above their mean.

    A single or constant held-out score has no deviation, and the difference is left as it is.

    >>> z_scores(torch.tensor([5.0, 1.0]), held_out=torch.tensor([1.0, 3.0]))
    tensor([ 3., -1.])
    """
    spread = held_out.std(correction=0)
    return (scores - held_out.mean()) / torch.where(spread > 0, spread, 1)


def ranks(scores: Float[Tensor, " P"], held_out: Float[Tensor, " h"]) -> Float[Tensor, " P"]:
    """Return the share of held-out scores that are at most each score, within (0, 1).

    ``(1 + count) / (h + 2)``: an empirical distribution function that is never 0 or 1.

    >>> ranks(torch.tensor([0.0, 2.0, 9.0]), held_out=torch.tensor([1.0, 2.0]))
    tensor([0.2500, 0.7500, 0.7500])
    """
    below = torch.searchsorted(held_out.sort().values, scores, right=True)
    return (1 + below) / (len(held_out) + 2)
