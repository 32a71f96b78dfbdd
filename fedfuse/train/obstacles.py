"""What keeps a model from being trained for many clients at once, found by trying."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from fedfuse.train.moments import trained, why_not

_CLIENTS, _SAMPLES = 2, 2


def obstacle(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> str | None:
    """Return why clients with this model and optimiser cannot be trained together, or None.

    Args:
        model: One client's model; it and torch's random numbers are left as they are.
        optimizer: Its optimiser.
        inputs: Some of its samples [N, ...], N at least 1.
    """
    reason = why_not(optimizer) or _batch_statistics(model)
    if reason is not None:
        return reason
    few = inputs[torch.arange(_SAMPLES) % len(inputs)]
    with torch.random.fork_rng(devices=[few.device] if few.is_cuda else []):
        return _changed_buffer(model, few) or _no_vmap(model, optimizer, few)


def draws_randomly(model: nn.Module, inputs: Tensor) -> bool:
    """Tell whether the model draws random numbers while it trains, as dropout does.

    Args:
        model: Left as it is, and so are torch's random numbers.
        inputs: Some of its samples [N, ...], N at least 1.

    >>> draws_randomly(nn.Sequential(nn.Linear(2, 2), nn.Dropout()), torch.zeros(1, 2))
    True
    """
    tried = copy.deepcopy(model).train()
    with torch.random.fork_rng(devices=[inputs.device] if inputs.is_cuda else []), torch.no_grad():
        before = _generators(inputs.device)
        tried(inputs[torch.arange(_SAMPLES) % len(inputs)])
        after = _generators(inputs.device)
    return any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def _generators(device: torch.device) -> list[Tensor]:
    """Return the states of the generators that layers on the device may draw from."""
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _batch_statistics(model: nn.Module) -> str | None:
    """Return which layer mixes the samples of a batch, which padding would disturb."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm) or (
            isinstance(layer, _InstanceNorm) and layer.track_running_stats
        ):
            kept = "keeps running statistics" if layer.track_running_stats else "mixes a batch"
            return f"layer {_title(name, layer)} {kept}"
    return None


def _changed_buffer(model: nn.Module, inputs: Tensor) -> str | None:
    """Return which layer writes a buffer in its forward pass."""
    tried = copy.deepcopy(model).train()
    before = {name: buffer.clone() for name, buffer in tried.named_buffers()}
    with torch.no_grad():
        tried(inputs)
    for name, buffer in tried.named_buffers():
        if not torch.equal(buffer, before[name]):
            owner = name.rpartition(".")[0]
            return f"layer {_title(owner, tried.get_submodule(owner))} changes its buffer '{name}'"
    return None


def _no_vmap(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor) -> str | None:
    """Return which layer torch cannot batch, or which parameter has no part in the output."""
    tried = copy.deepcopy(model).train()
    moved = {id(parameter) for parameter in trained(optimizer)}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in moved]
    # In the layout that parameters have as rows of a matrix, whatever they have now.
    single = [tried.get_parameter(name).detach().contiguous() for name in names]
    own = [torch.stack([parameter] * _CLIENTS).requires_grad_() for parameter in single]

    def forward(parameters: list[Tensor], x: Tensor) -> Tensor:
        named = dict(zip(names, parameters, strict=True))
        logits: Tensor = functional_call(tried, named, (x,))
        return logits

    with _entered(tried) as inside:
        try:
            logits = vmap(forward, in_dims=(0, None), randomness="different")(own, inputs)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            line = str(error).strip().partition("\n")[0]
            layer = tried.get_submodule(inside[-1]) if inside else tried
            return f"layer {_title(inside[-1] if inside else '', layer)} cannot be batched ({line})"
    gradients = torch.autograd.grad(logits.sum(), own, allow_unused=True)
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            return f"parameter '{name}' has no part in the output"
    return None


@contextmanager
def _entered(model: nn.Module) -> Iterator[list[str]]:
    """Give the names of the layers whose forward pass has begun and not ended."""
    inside: list[str] = []

    def leave(*_: object) -> None:
        inside.pop()

    for name, layer in model.named_modules():
        layer.register_forward_pre_hook(lambda *_, name=name: inside.append(name))
        layer.register_forward_hook(leave)
    yield inside


def _title(name: str, layer: nn.Module) -> str:
    kind = type(layer).__name__
    return f"'{name}' ({kind})" if name else kind
