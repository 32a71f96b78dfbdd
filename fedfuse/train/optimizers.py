"""Torch's optimisers without torch's compiler.

Making an optimiser, and each of its steps, imports or calls ``torch._dynamo``, to keep a compiler
from looking inside. Where nothing is compiled that import is a third of the time from command to
first step, and the wrappers are a good part of a small model's step. Everything here does what
torch does, with the same kernels in the same order.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable

import torch

_PLAIN = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
"""Optimisers whose ``step`` needs nothing but to be called without gradients."""


def spare_compiler() -> None:
    """Let optimisers be made, saved and loaded without importing torch's compiler.

    Torch marks methods as not to be compiled when they are first called, and imports the compiler
    for that. Without a compiler the method itself is as good as its marked twin, and is put where
    torch looks for the twin.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = inspect.unwrap(getattr(torch.optim.Optimizer, name))
        if getattr(method, "__dynamo_disable", None) is None:
            method.__dict__["__dynamo_disable"] = method


def stepper(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """Return what takes one step of the optimiser.

    For torch's own SGD, Adam and AdamW, without hooks or a scheduler around them, this is their
    ``step`` without its wrappers; for any other optimiser ``step`` itself.

    >>> weight = torch.ones(1, requires_grad=True)
    >>> weight.grad = torch.ones(1)
    >>> _ = stepper(torch.optim.SGD([weight], lr=0.25))()
    >>> weight
    tensor([0.7500], requires_grad=True)
    """
    home = sys.modules[torch.optim.Optimizer.__module__]  # torch.optim hides the module's name
    hooks = (
        getattr(optimizer, "_optimizer_step_pre_hooks", None),
        getattr(optimizer, "_optimizer_step_post_hooks", None),
        getattr(home, "_global_optimizer_pre_hooks", None),
        getattr(home, "_global_optimizer_post_hooks", None),
        "step" in vars(optimizer),  # what a scheduler puts around it
        optimizer.defaults.get("differentiable"),
    )
    if type(optimizer) not in _PLAIN or any(hooks):
        return optimizer.step
    plain = inspect.unwrap(type(optimizer).step)

    sgd = isinstance(optimizer, torch.optim.SGD)

    def step() -> None:
        if sgd:
            complete_momentum(optimizer)
        with torch.no_grad():
            plain(optimizer)

    return step


def complete_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Give what moves for the first time a momentum of zero, if other parameters have theirs.

    Torch's fused kernel of SGD knows nothing between the first step of all and a later one of all.
    An exchange that replaces a part of a model drops the moments of that part alone. From zero the
    first step is what it is from nothing.
    """
    for group in optimizer.param_groups:
        if group["fused"] and group["momentum"]:
            moved = [p for p in group["params"] if p.grad is not None]
            new = [p for p in moved if optimizer.state[p].get("momentum_buffer") is None]
            for parameter in new if len(new) < len(moved) else []:
                optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
