"""Draw Laplace noise, which torch draws from its global generator only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def draw_laplace(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Return float64 draws from the Laplace distribution with scale 1, by inversion.

    >>> draws = draw_laplace([50_000], torch.Generator().manual_seed(0))
    >>> bool((draws.abs().mean() - 1).abs() < 0.02), bool(draws.median().abs() < 0.02)
    (True, True)
    """
    uniform = torch.rand(list(shape), generator=generator, dtype=torch.float64) - 0.5
    # 1 - 2|u| is 0 for one value in 2**53; its logarithm must stay finite.
    tail = (1 - 2 * uniform.abs()).clamp(min=torch.finfo(torch.float64).tiny)
    return -uniform.sign() * tail.log()
