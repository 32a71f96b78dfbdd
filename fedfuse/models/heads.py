"""A model's last linear layer as numbers: what it is, and another one in its place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedfuse.models.features import last_linear


def head_rows(model: nn.Module) -> Tensor:
    """Return a copy of the last linear layer, its bias behind each row: float32 [C, d + 1].

    >>> layer = nn.Linear(2, 1)
    >>> layer.weight.data, layer.bias.data = torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])
    >>> head_rows(layer).tolist()
    [[1.0, 2.0, 3.0]]
    """
    layer = last_linear(model)
    weight = layer.weight.detach().float().cpu()
    bias = (
        weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach().float().cpu()
    )
    return torch.cat([weight, bias.unsqueeze(1)], dim=1)


@torch.no_grad()
def put_head(model: nn.Module, rows: Tensor) -> nn.Linear:
    """Let the last linear layer become what :func:`head_rows` returned of another; return it.

    >>> layer = nn.Linear(2, 1)
    >>> head_rows(put_head(layer, torch.tensor([[1.0, 2.0, 3.0]]))).tolist()
    [[1.0, 2.0, 3.0]]
    """
    layer = last_linear(model)
    layer.weight.copy_(rows[:, :-1])
    if layer.bias is not None:
        layer.bias.copy_(rows[:, -1])
    return layer
