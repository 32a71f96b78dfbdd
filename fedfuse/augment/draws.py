"""What augmentations draw: which samples they change, and how much of each stays."""

from __future__ import annotations

import torch
from torch import Tensor

from fedfuse.shapes import Float, Int


def beta(a: float, num: int, generator: torch.Generator) -> Float[Tensor, " num"]:
    """Return float64 draws from Beta(a, a).

    In logarithms, so that a small ``a`` gives 0 and 1 where quotients of Gamma variables that
    underflow would give one half (Gamma(a) is Gamma(a + 1) times a uniform variable to 1/a).

    Args:
        a: Of both parameters, above 0.
        num: How many.
        generator: Draws them.
    """
    shape = torch.full((2, num), a + 1, dtype=torch.float64)
    logs = torch._standard_gamma(shape, generator=generator).log()
    uniform = torch.rand(2, num, dtype=torch.float64, generator=generator)
    logs += torch.log1p(-uniform) / a
    return torch.sigmoid(logs[0] - logs[1])


def some(num_samples: int, share: float, generator: torch.Generator) -> Int[Tensor, " n"]:
    """Return the ascending indices of exactly ``share`` of the samples, rounded half up.

    >>> some(5, 0.5, torch.Generator().manual_seed(0)).shape
    torch.Size([3])
    """
    order = torch.randperm(num_samples, generator=generator)
    return order[: int(share * num_samples + 0.5)].sort().values
