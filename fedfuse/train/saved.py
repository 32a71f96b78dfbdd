"""A model in training as tensors by name: what a checkpoint saves of one that the server trains."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a model's state, on the CPU."""
    return {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }


def training_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return a model and its optimiser's moments by name."""
    flat = {f"model/{name}": value for name, value in weights_of(model).items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for slot, value in slots.items():
            if value is not None:  # SGD without momentum
                flat[f"optimizer/{index}/{slot}"] = torch.as_tensor(value).cpu().clone()
    return flat


def restore_training(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]
) -> None:
    """Write what :func:`training_state` returned into a model and its new optimiser."""
    slots: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        kind, rest = name.split("/", 1)
        if kind == "model":
            weights[rest] = value
        else:
            index, slot = rest.split("/")
            slots.setdefault(int(index), {})[slot] = value
    model.load_state_dict(weights)
    parameters = list(model.parameters())
    for number, kept in slots.items():
        for part, value in kept.items():
            if value.shape == parameters[number].shape:  # in the layout of its parameter
                laid = torch.empty_like(parameters[number], dtype=value.dtype)
                kept[part] = laid.detach().copy_(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
