"""A client's label prior, in logits: its logarithm, how it is added to them and taken out again.

A model trained on skewed labels learns its classes' shares as well as what tells them apart:
``z_c = log p(x | c) + log pi_c``. With the prior taken out, z answers a test on which all classes
are alike; with it, a test that is distributed as the client's own data (logit adjustment, Menon et
al. 2021, arXiv 2007.07314; in training the balanced softmax, Ren et al. 2020, arXiv 2007.10740).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Float, Int
from fedfuse.validation import require_number

FLOOR = 0.5
"""Samples that a class counts for of which there are none: log 0 would be infinite."""


def log_prior(counts: Int[Tensor, "*batch C"], floor: float = FLOOR) -> Float[Tensor, "*batch C"]:
    """Return the logarithm of each class's share, float32, nats.

    Args:
        counts: Samples of each class, from 0.
        floor: Samples that a class counts for at least, above 0.

    >>> log_prior(torch.tensor([3, 1])).exp()
    tensor([0.7500, 0.2500])
    >>> log_prior(torch.tensor([1, 0])).exp()  # half a sample of the absent class
    tensor([0.6667, 0.3333])
    """
    require_number("log_prior", "floor", floor, above=0)
    floored = counts.double().clamp_min(floor)
    return (floored.log() - floored.sum(dim=-1, keepdim=True).log()).float()


def add_prior(
    logits: Float[Tensor, "*batch N C"], prior: Float[Tensor, "*batch C"], tau: float = 1.0
) -> Float[Tensor, "*batch N C"]:
    """Return ``z + tau log pi``: what samples are called where classes are as frequent as here.

    Args:
        logits: Of N samples, free of the prior.
        prior: As :func:`log_prior` returns it, one row for the N samples.
        tau: Strength; 0 returns the logits.

    >>> add_prior(torch.zeros(1, 2), torch.tensor([-0.5, 0.0])).tolist()
    [[-0.5, 0.0]]
    """
    return logits if tau == 0 else torch.add(logits, prior.unsqueeze(-2), alpha=tau)


def remove_prior(
    logits: Float[Tensor, "*batch N C"], prior: Float[Tensor, "*batch C"], tau: float = 1.0
) -> Float[Tensor, "*batch N C"]:
    """Return ``z - tau log pi``: what :func:`add_prior` undoes, up to rounding."""
    return add_prior(logits, prior, -tau)
