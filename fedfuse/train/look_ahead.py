"""What a step of a model that is not taken would do: the gradient through it, of what shaped it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call


def look_ahead(
    model: nn.Module,
    inner: Callable[[Tensor], Tensor],
    inputs: Tensor,
    outer: Callable[[Tensor], Tensor],
    outer_inputs: Tensor,
    eta: float,
) -> Tensor:
    """Return the outer loss after a step on the inner one, with its graph.

    The step is theta' = theta - eta grad_theta inner. What it returns can be differentiated by
    whatever ``inner`` depends on beside the logits. Neither parameters nor buffers of the model
    change, and none of its gradients.

    Args:
        model: The model.
        inner: Logits of ``inputs`` to a scalar.
        inputs: What the step is on.
        outer: Logits of ``outer_inputs`` to a scalar.
        outer_inputs: What it is judged by.
        eta: Size of the step.
    """
    theta = {
        name: value.detach().requires_grad_()
        for name, value in model.named_parameters()
        if value.requires_grad
    }
    # Layers that count, such as batch normalisation, do so in copies.
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    loss = inner(functional_call(model, (theta, buffers), (inputs,)).float())
    found = torch.autograd.grad(loss, list(theta.values()), create_graph=True, allow_unused=True)
    ahead = {
        name: value if gradient is None else value - eta * gradient
        for (name, value), gradient in zip(theta.items(), found, strict=True)
    }
    return outer(functional_call(model, (ahead, buffers), (outer_inputs,)).float())
