"""SGD, Adam and AdamW for many clients at once: one update of a matrix with a client per row.

The formulas are torch's own (``torch.optim``), written for rows whose numbers of past steps may
differ. Hyperparameters and moments stay in each client's ``torch.optim`` object, so that the loop
trainer and checkpoints find them where they always are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from fedfuse.train.rows import as_rows


class Update(Protocol):
    """Move the parameters of the first A clients, [A, D], against their gradients, in place."""

    @property
    def moments(self) -> list[Tensor]:
        """Return what it remembers from step to step, a client per row of each matrix."""
        ...

    def __call__(self, parameters: Tensor, gradients: Tensor, rates: Tensor | None = None) -> None:
        """Take one step, each client at its share of the learning rate (float64 [A, 1])."""
        ...


def update_of(optimizers: Sequence[torch.optim.Optimizer]) -> Update:
    """Return the update that moves all clients as each one's optimiser would move its own.

    Args:
        optimizers: One per client, in the order of the rows, all of one kind and with equal
            hyperparameters, for which :func:`why_not` is None.
    """
    options = optimizers[0].param_groups[0]
    if isinstance(optimizers[0], torch.optim.SGD):
        return _Sgd(optimizers, options)
    return _Adam(optimizers, options, decoupled=type(optimizers[0]) is torch.optim.AdamW)


def why_not(optimizer: torch.optim.Optimizer) -> str | None:
    """Return why many clients with such an optimiser cannot be moved at once, or None.

    >>> why_not(torch.optim.Adagrad([torch.zeros(1)]))
    'the optimiser Adagrad is none of Adam, AdamW, SGD'
    """
    name = type(optimizer).__name__
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
        return f"the optimiser {name} is none of Adam, AdamW, SGD"
    if len(optimizer.param_groups) != 1:
        return f"the optimiser {name} has {len(optimizer.param_groups)} parameter groups"
    for option in ("amsgrad", "maximize", "differentiable", "dampening"):
        if optimizer.param_groups[0].get(option):
            return f"the optimiser {name} has {option} set"
    return None


def trained(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Return the parameters that an optimiser moves, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]


class _Sgd:
    """Stochastic gradient descent with momentum (Sutskever's form, as in torch) and L2 decay."""

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], options: Mapping[str, Any]
    ) -> None:
        self._lr, self._decay = float(options["lr"]), float(options["weight_decay"])
        self._momentum, self._nesterov = float(options["momentum"]), bool(options["nesterov"])
        # torch's first step sets the momentum to the gradient; from zero the formula does so too.
        self._kept = _slot(_states(optimizers), "momentum_buffer") if self._momentum else None

    @property
    def moments(self) -> list[Tensor]:
        return [] if self._kept is None else [self._kept]

    def __call__(self, parameters: Tensor, gradients: Tensor, rates: Tensor | None = None) -> None:
        if self._decay:
            gradients = gradients.add(parameters, alpha=self._decay)
        if self._kept is not None:
            kept = self._kept[: len(parameters)].mul_(self._momentum).add_(gradients)
            gradients = gradients.add(kept, alpha=self._momentum) if self._nesterov else kept
        if rates is None:
            parameters.sub_(gradients, alpha=self._lr)
        else:
            parameters.sub_(gradients * (self._lr * rates).to(gradients.dtype))


class _Adam:
    """Adam (arXiv 1412.6980) with L2 decay, or with decoupled decay (AdamW, arXiv 1711.05101)."""

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        options: Mapping[str, Any],
        *,
        decoupled: bool,
    ) -> None:
        self._lr, self._decay = float(options["lr"]), float(options["weight_decay"])
        self._betas = tuple(float(beta) for beta in options["betas"])
        self._eps, self._decoupled = float(options["eps"]), decoupled
        states = _states(optimizers)
        self._mean = _slot(states, "exp_avg")
        self._square = _slot(states, "exp_avg_sq")
        self._steps = _counts(states)

    @property
    def moments(self) -> list[Tensor]:
        return [self._mean, self._square, self._steps]

    def __call__(self, parameters: Tensor, gradients: Tensor, rates: Tensor | None = None) -> None:
        active = len(parameters)
        lr = self._lr if rates is None else self._lr * rates
        beta1, beta2 = self._betas
        steps = self._steps[:active].add_(1)[:, :1].double()
        if self._decoupled:
            kept = 1 - lr * self._decay
            parameters.mul_(kept.to(parameters.dtype) if isinstance(kept, Tensor) else kept)
        elif self._decay:
            gradients = gradients.add(parameters, alpha=self._decay)
        mean = self._mean[:active].lerp_(gradients, 1 - beta1)
        square = self._square[:active].mul_(beta2).addcmul_(gradients, gradients, value=1 - beta2)
        step_size = (lr / (1 - beta1**steps)).to(mean.dtype)
        spread = (1 - beta2**steps).sqrt().to(mean.dtype)
        parameters.sub_(
            square.sqrt().div_(spread).add_(self._eps).reciprocal_().mul_(mean).mul_(step_size)
        )


_States = list[tuple[list[Tensor], list[dict[str, Any]]]]
"""Each client's parameters and what its optimiser keeps for them."""


def _states(optimizers: Sequence[torch.optim.Optimizer]) -> _States:
    """Return what the optimisers keep, looked up once: a tensor's hash is not free."""
    found = []
    for optimizer in optimizers:
        parameters = trained(optimizer)
        found.append((parameters, [optimizer.state[parameter] for parameter in parameters]))
    return found


def _slot(states: _States, name: str) -> Tensor:
    """Return the matrix [K, D] of one kind of moment, zero where a client has none yet."""
    clients = []
    for parameters, kept in states:
        for parameter, slots in zip(parameters, kept, strict=True):
            if slots.get(name) is None:
                slots[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        clients.append([slots[name] for slots in kept])
    return as_rows(clients)


def _counts(states: _States) -> Tensor:
    """Return the numbers of past steps [K, parameters], as float32 as torch keeps them."""
    clients = []
    for parameters, kept in states:
        for parameter, slots in zip(parameters, kept, strict=True):
            done = slots.get("step", 0.0)
            if not isinstance(done, Tensor) or done.device != parameter.device:
                slots["step"] = torch.as_tensor(done, dtype=torch.float32).to(parameter.device)
        clients.append([slots["step"] for slots in kept])
    return as_rows(clients)
