"""What one named layer of a model makes of its inputs, beside the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError, did_you_mean


class WithLayer(nn.Module):
    """A model that returns its logits and, beside them, what a layer of it returns, flat.

    Args:
        model: Any model with a layer of that name that returns a tensor [B, ...].
        layer: Its name, as in ``model.named_modules()``.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        super().__init__()
        self.model, self.layer = model, layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits and the layer's numbers side by side, [B, C + D]."""
        logits, made = _with_layer(self.model, self.layer, inputs)
        return torch.cat([logits, made.flatten(1)], dim=1)


def layer_shape(model: nn.Module, layer: str, input_shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of what a layer makes of one input; the model is left in evaluation mode.

    >>> layer_shape(nn.Sequential(nn.Conv2d(1, 6, 5), nn.Flatten()), "0", (1, 8, 8))
    (6, 4, 4)

    Raises:
        ModelError: If there is no such layer, or it returns no tensor for a batch.
    """
    names = [name for name, _ in model.named_modules() if name]
    if layer not in names:
        near = did_you_mean(layer, names)
        raise ModelError(
            f"A model of class {type(model).__name__} has no such layer",
            got=layer,
            allowed=", ".join(names[:30]),
            next_step=f"Did you mean '{near}'?" if near else None,
        )
    with torch.no_grad():
        _, made = _with_layer(model.eval(), layer, torch.zeros(2, *input_shape))
    if not (isinstance(made, Tensor) and made.ndim > 1 and len(made) == 2):
        got = list(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise ModelError(
            f"The layer '{layer}' of a model of class {type(model).__name__} returns no features",
            got=f"{got} for 2 inputs",
            allowed="a tensor [2, ...]",
        )
    return tuple(made.shape[1:])


def _with_layer(model: nn.Module, layer: str, inputs: Tensor) -> tuple[Tensor, Tensor]:
    seen: list[Tensor] = []

    def look(_: nn.Module, __: object, made: object) -> None:
        # A copy: what comes next may work in place.
        seen.append(made.clone() if isinstance(made, Tensor) else made)  # type: ignore[arg-type]

    hook = model.get_submodule(layer).register_forward_hook(look)
    try:
        logits: Tensor = model(inputs)
    finally:
        hook.remove()
    return logits, seen[-1]
