"""Draw noise, from torch's generators or from a client's secret."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedfuse.privacy.secret import SecretGenerator


def draw_normal(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float64 draws from the standard normal distribution.

    From a secret by Box and Muller (1958); no draw is beyond 8.6, which 2e-17 of them would be.

    >>> from fedfuse.privacy.secret import new_secret, secret_generator
    >>> draws = draw_normal([50_000], secret_generator(new_secret()))
    >>> bool((draws.std() - 1).abs() < 0.02), bool(draws.mean().abs() < 0.03)
    (True, True)
    """
    if not isinstance(generator, SecretGenerator):
        return torch.randn(list(shape), generator=generator, dtype=torch.float64)
    radius = (-2 * (1 - generator.uniform(shape)).log()).sqrt()  # 1 - u is never 0
    return radius * (2 * math.pi * generator.uniform(shape)).cos()


def draw_laplace(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float64 draws from the Laplace distribution with scale 1, by inversion.

    >>> draws = draw_laplace([50_000], torch.Generator().manual_seed(0))
    >>> bool((draws.abs().mean() - 1).abs() < 0.02), bool(draws.median().abs() < 0.02)
    (True, True)
    """
    if isinstance(generator, SecretGenerator):
        uniform = generator.uniform(shape) - 0.5
    else:
        uniform = torch.rand(list(shape), generator=generator, dtype=torch.float64) - 0.5
    # 1 - 2|u| is 0 for one value in 2**53; its logarithm must stay finite.
    tail = (1 - 2 * uniform.abs()).clamp(min=torch.finfo(torch.float64).tiny)
    return -uniform.sign() * tail.log()
