"""The cells of a model's last feature map: what it makes of each part of an image.

As with features, the map is found instead of declared, and nothing is changed in the model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from fedfuse.errors import ModelError
from fedfuse.models.projection import projection


class WithCells(nn.Module):
    """A model that returns its logits and, beside them, side x side cells of D numbers.

    The last map [B, channels, height, width] of more than one place that any of its layers returns
    is averaged to side x side, and each cell's channels are projected on D numbers if they are
    not as many: by a fixed random orthogonal map.

    Args:
        model: Any model of images with such a map.
        side: Cells in a row.
        width: D.
        entropy: Seed of the projection.
    """

    def __init__(self, model: nn.Module, side: int, width: int, entropy: int) -> None:
        super().__init__()
        self.model, self.side, self.width, self.entropy = model, side, width, entropy

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits and cells side by side, [B, C + side * side * D], cell by cell."""
        logits, last = _with_map(self.model, inputs)
        assert last is not None  # what has none is refused before the run
        cells = adaptive_avg_pool2d(last, self.side).flatten(2).mT  # [B, cells, channels]
        if (size := cells.shape[2]) != self.width:
            cells = cells @ projection(size, self.width, self.entropy, cells.device).to(cells)
        return torch.cat([logits, cells.flatten(1)], dim=1)


def map_size(model: nn.Module, input_shape: tuple[int, ...], side: int) -> int:
    """Return the channels of a model's last feature map.

    Args:
        model: The model; it is left in evaluation mode.
        input_shape: Shape of one input.
        side: Cells in a row that are asked for.

    Raises:
        ModelError: If it has no map of more than one place, or one of fewer cells.
    """
    with torch.no_grad():
        _, last = _with_map(model.eval(), torch.zeros(1, *input_shape))
    name = type(model).__name__
    if last is None:
        raise ModelError(
            f"A model of class {name} has no cells: none of its layers returns a map of an image",
            allowed="a layer that returns [B, channels, height, width] of more than one place",
            next_step="Choose convolutional models, or a method that shares predictions.",
        )
    if min(last.shape[2:]) < side:
        raise ModelError(
            f"The last feature map of a model of class {name} has fewer cells than are to travel",
            got=f"{last.shape[2]} x {last.shape[3]} places, exchange.side={side}",
            next_step=f"Set exchange.side={min(last.shape[2:])} or less.",
        )
    return last.shape[1]


def _with_map(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the logits and the last map of more than one place; None if there is none."""
    seen: list[Tensor] = []

    def look(_: nn.Module, __: object, made: object) -> None:
        if isinstance(made, Tensor) and made.ndim == 4 and made.shape[2] * made.shape[3] > 1:
            seen[:] = [made]

    hooks = [layer.register_forward_hook(look) for layer in model.modules()]
    try:
        logits: Tensor = model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, seen[0] if seen else None
