"""The features of a model: what goes into its last linear layer.

Models return logits only, whoever wrote them; the head is found instead of declared. Nothing is
changed in the model, so its state has the same names with and without.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError


class WithFeatures(nn.Module):
    """A model that returns its logits and, beside them, the features they came from.

    Args:
        model: Any model whose logits [B, C] are the output of an ``nn.Linear``, of features
            [B, d].
        num_classes: C.
        projection: [d, D], the map of the features to those that are returned; None for
            themselves.

    Raises:
        ModelError: If the model has no linear layer with C outputs; when called, if that is given
            something else than [B, d].
    """

    def __init__(
        self, model: nn.Module, num_classes: int, projection: Tensor | None = None
    ) -> None:
        super().__init__()
        self.model = model
        # In lists, lest they be registered: the head twice, and what is fixed as the client's own.
        self._head = [_head(model, num_classes)]
        self._projection = [projection]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs to logits and features side by side, [B, C + d] or [B, C + D]."""
        seen: list[Tensor] = []
        hook = self._head[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            logits = self.model(inputs)
        finally:
            hook.remove()
        features = seen[-1]
        if features.ndim != 2:
            allowed = "an nn.Linear of features [B, d]"
            raise _none(
                self.model, f"inputs {list(features.shape)} of its last linear layer", allowed
            )
        if (projection := self._projection[0]) is not None:
            features = features @ projection
        return torch.cat([logits, features], dim=1)


def feature_size(model: nn.Module, num_classes: int) -> int:
    """Return d, the number of features of a model.

    >>> feature_size(nn.Sequential(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 3)), 3)
    7

    Raises:
        ModelError: If the model has no linear layer with C outputs.
    """
    return _head(model, num_classes).in_features


def last_linear(model: nn.Module) -> nn.Linear:
    """Return the last linear layer, in the order in which layers were defined.

    Raises:
        ModelError: If the model has none.
    """
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise _none(model, "no linear layer", "an nn.Linear, defined last")
    return linear[-1]


def _head(model: nn.Module, num_classes: int) -> nn.Linear:
    """Return the last linear layer, which has C outputs."""
    head = last_linear(model)
    if head.out_features != num_classes:
        got = f"a last linear layer with {head.out_features} outputs"
        raise _none(model, got, f"an nn.Linear with {num_classes} outputs, defined last")
    return head


def _none(model: nn.Module, got: str, allowed: str) -> ModelError:
    return ModelError(
        f"Features cannot be taken from a model of class {type(model).__name__}",
        got=got,
        allowed=allowed,
        next_step="Let the model end in one, or choose a method without features.",
    )
