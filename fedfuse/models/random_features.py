"""An untrained layer of convolutions: features that are there without a download."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError, require
from fedfuse.validation import require_count


class RandomFeatures(nn.Module):
    """Random filters of 5x5 pixels, rectified and averaged over a grid: images to [B, F].

    A control for pretrained features, and a fast stand-in for them: what drawn filters alone give
    (ours). Filters sum to zero, so they answer to edges and not to brightness.

    Args:
        input_shape: [channels, H, W].
        width: Filters; F = width * grid * grid.
        grid: Averages are taken over a grid of so many cells each way.

    Raises:
        ModelError: If inputs are no images.
    """

    def __init__(self, input_shape: tuple[int, ...], width: int = 32, grid: int = 4) -> None:
        super().__init__()
        require_count("random features", "width", width)
        require_count("random features", "grid", grid)
        if len(input_shape) != 3:
            raise ModelError(
                "Random features are of images",
                got=f"inputs {list(input_shape)}",
                allowed="inputs [channels, height, width]",
                next_step="Set features=none: a table and vectors are features already, and "
                "texts have models of their own.",
            )
        channels, side = input_shape[0], min(input_shape[1:])
        allowed = f"at most {side}, the image's shorter side"
        require(grid <= side, "random features", "grid", grid, allowed)
        self.filters = nn.Conv2d(channels, width, 5, padding=2, bias=False)
        self.cells = nn.AdaptiveAvgPool2d(grid)
        with torch.no_grad():
            drawn = torch.randn_like(self.filters.weight)
            drawn -= drawn.mean(dim=(1, 2, 3), keepdim=True)
            self.filters.weight.copy_(drawn / math.sqrt(25 * channels))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return features [B, F]."""
        cells: Tensor = self.cells(torch.relu(self.filters(inputs)))
        return cells.flatten(1)
