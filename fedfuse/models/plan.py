"""Decide which client runs which architecture, and build a client's model so that it can work.

The ways to assign architectures (:mod:`fedfuse.models.assign`) and everything a ``_target_`` can
name (:mod:`fedfuse.models.factory`) meet here in one contract,
:class:`fedfuse.protocols.ModelPlan`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from fedfuse.errors import ModelError
from fedfuse.models.assign import Same
from fedfuse.models.factory import as_factory
from fedfuse.protocols import ModelPlan
from fedfuse.types import FederatedData
from fedfuse.user_code import brief, frames, showing

_MISTAKES = (RuntimeError, TypeError, ValueError, IndexError)
"""What torch and Python raise for shapes and arguments that do not fit."""


def as_plan(part: object, name: str = "") -> ModelPlan:
    """Return ``part`` if it is a plan; a factory or ``nn.Module`` class becomes a plan for all.

    Args:
        part: A plan, or anything that :func:`~fedfuse.models.factory.as_factory` accepts.
        name: The architecture's name; left out, the factory's own name.

    Raises:
        ModelError: If it is neither.
    """
    if not isinstance(part, type) and all(
        callable(getattr(part, method, None)) for method in ("name", "build")
    ):
        return part  # type: ignore[return-value]
    return Same(as_factory(part), name)


def describe(plan: ModelPlan, num_clients: int) -> str:
    """Return in words how many clients run what.

    >>> from fedfuse.models.mlp import mlp
    >>> from fedfuse.models.assign import Cycle
    >>> from fedfuse.models.lenet import lenet5
    >>> describe(Same(lenet5), 10)
    'lenet5'
    >>> describe(Cycle({"mlp": mlp, "lenet5": lenet5}), 5)
    'mlp x 3, lenet5 x 2'
    """
    counts = Counter(plan.name(client_id) for client_id in range(num_clients))
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{name} x {count}" for name, count in counts.items())


def one_of_each(
    plan: ModelPlan, data: FederatedData, entropy: Callable[[str], int] = lambda _: 0
) -> dict[str, nn.Module]:
    """Return one checked model of each architecture, by name, in the order of their first client.

    Args:
        plan: Which architecture each client runs.
        data: The federation's data.
        entropy: Architecture to the entropy that draws its weights; otherwise they are not those
            that a client starts with.
    """
    first: dict[str, int] = {}
    for client_id in range(data.num_clients):
        first.setdefault(plan.name(client_id), client_id)
    return {
        name: build_checked(plan, client_id, data.input_shape, data.num_classes, entropy(name))
        for name, client_id in first.items()
    }


def build_checked(
    plan: ModelPlan,
    client_id: int,
    input_shape: tuple[int, ...],
    num_classes: int,
    seed_entropy: int,
    *,
    owner: str | None = None,
) -> nn.Module:
    """Build the client's model and try it on two dummy inputs.

    Its weights come from torch's global generator, seeded here and put back afterwards, so that
    any ``nn.Module`` starts from the same weights for the same seed and the caller's random
    numbers stay what they were. The trial also fixes the shapes of lazy layers.

    Args:
        plan: Which architecture the client runs.
        client_id: The client.
        input_shape: Shape of one input.
        num_classes: C.
        seed_entropy: Entropy of the stream that initialises this client's model.
        owner: Whose model it is, for messages; the client's if None.

    Raises:
        ModelError: If the model cannot be built, cannot take such inputs or changes them, does not
            return floating-point logits [B, C], or has nothing to train.
    """
    name = plan.name(client_id)
    where = f"Model '{name}' of {owner or f'client {client_id}'}"
    inputs = torch.zeros(2, *input_shape)
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed: it would seed the GPUs too, which nothing here puts back.
        torch.default_generator.manual_seed(seed_entropy)
        try:
            model = plan.build(client_id, tuple(input_shape), num_classes)
        except Exception as error:
            if not isinstance(error, _MISTAKES) and not frames(error):
                raise
            told = ModelError(
                f"{where} cannot be built",
                got=brief(error),
                next_step="Check the model's parameters in the configuration.",
            )
            raise showing(told, error) from error
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"{where} is no model", got=type(model).__name__, allowed="an nn.Module"
            )
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                logits = model(inputs)
        except Exception as error:
            if not isinstance(error, _MISTAKES) and not frames(error):
                raise
            # What is no matter of shapes is a bug in its forward, which its frames show.
            shapes = isinstance(error, RuntimeError)
            told = ModelError(
                f"{where} cannot take a batch of inputs",
                got=brief(error),
                allowed=f"a model that takes inputs of shape {list(inputs.shape)}",
                next_step="Let its constructor use 'input_shape', or choose another model."
                if shapes
                else None,
            )
            raise showing(told, error) from error
        model.train(training)
    if inputs._version:  # autograd's count of changes in place
        raise ModelError(
            f"{where} changes the inputs that it is given, which are the data themselves",
            allowed="a forward that leaves them as they are",
            next_step="Write x = x * 2 for x *= 2, and leave inplace=True out of its first layer.",
        )
    _check_logits(where, logits, num_classes)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError(f"{where} has no parameters to train")
    return model


def _check_logits(where: str, logits: object, num_classes: int) -> None:
    """Raise unless the answer to two inputs is a floating-point tensor [2, C]."""
    expected = f"a floating-point tensor of shape [2, {num_classes}] for 2 inputs"
    if not isinstance(logits, torch.Tensor):
        raise ModelError(
            f"{where} does not return a tensor",
            got=type(logits).__name__,
            allowed=expected,
            next_step="Return the logits alone from forward().",
        )
    if tuple(logits.shape) != (2, num_classes) or not logits.is_floating_point():
        raise ModelError(
            f"{where} does not return logits",
            got=f"{logits.dtype} of shape {list(logits.shape)}",
            allowed=expected,
            next_step="Let its last layer give one number per class: use 'num_classes'.",
        )
