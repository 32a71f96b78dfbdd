"""Turn whatever a ``_target_`` names into a model factory.

A user's own ``nn.Module`` need not know fedfuse's conventions: its constructor is asked which of
``input_shape`` and ``num_classes`` it takes, and is given those.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from fedfuse.errors import ModelError, did_you_mean

KNOWN = ("input_shape", "num_classes")
"""What fedfuse can tell a constructor."""


@dataclass(frozen=True, slots=True)
class Adapted:
    """A factory that hands on only what its target takes; made by :func:`as_factory`.

    Args:
        target: A function or class, or a ``functools.partial`` of one.
        takes: Which of :data:`KNOWN` it is given.
    """

    target: Callable[..., Any]
    takes: tuple[str, ...]

    def __call__(self, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Return a new model."""
        known = {"input_shape": tuple(input_shape), "num_classes": num_classes}
        model: nn.Module = self.target(**{name: known[name] for name in self.takes})
        return model


def as_factory(target: object) -> Adapted:
    """Return ``target`` as a factory that is called with ``input_shape`` and ``num_classes``.

    ``target`` is a function or an ``nn.Module`` class, or a ``functools.partial`` of one. It is
    given those of the two that its signature names, by keyword; a ``**kwargs`` is given
    ``num_classes`` only, because torchvision's models take it that way and no ``input_shape``.
    What a ``partial`` has bound already stays: what the user wrote wins over what fedfuse knows.

    Raises:
        ModelError: If ``target`` cannot be called so: it needs an argument that nothing
            provides, was given one that it does not have, or is a finished model.

    >>> class Net(nn.Linear):
    ...     def __init__(self, num_classes, width=8):
    ...         super().__init__(width, num_classes)
    >>> model = as_factory(partial(Net, width=5))((1, 28, 28), 10)
    >>> model.in_features, model.out_features
    (5, 10)
    """
    if isinstance(target, Adapted):
        return target
    name = target_name(target)
    if isinstance(target, nn.Module):
        raise ModelError(
            "A finished model was given where each client needs its own",
            got=f"an instance of {name}",
            allowed="the class, or a function that returns a new model at every call",
        )
    function, args, bound = (
        (target.func, target.args, target.keywords)
        if isinstance(target, partial)
        else (target, (), {})
    )
    if not callable(function):
        raise ModelError(
            "A model must be an nn.Module class or a function that returns one", got=repr(target)
        )
    signature = inspect.signature(function)
    kinds = {key: item.kind for key, item in signature.parameters.items()}
    # Without a constructor of its own: nn.Module's names **kwargs and takes none.
    bare = getattr(function, "__init__", None) is nn.Module.__init__ and function is not nn.Module
    takes_any = inspect.Parameter.VAR_KEYWORD in kinds.values() and not bare
    named = [
        key
        for key, kind in kinds.items()
        if kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    ]
    try:
        given = signature.bind_partial(*args, **bound).arguments
        takes = tuple(
            key
            for key in KNOWN
            if key not in given
            and key not in bound
            and (key in named or (takes_any and key == "num_classes"))
        )
        signature.bind(*args, **bound, **dict.fromkeys(takes))
    except TypeError as error:
        unknown = [key for key in bound if key not in named] if not takes_any else []
        near = did_you_mean(unknown[0], named) if unknown else None
        raise ModelError(
            f"Model '{name}' cannot be built with these parameters",
            got=error,
            allowed=", ".join(key for key in named if key not in KNOWN) or "no parameters",
            next_step=f"Did you mean '{near}'?" if near else None,
        ) from error
    return Adapted(function if not bound and not args else partial(function, *args, **bound), takes)


def target_name(target: object) -> str:
    """Return the name under which a person knows ``target``.

    >>> target_name(partial(as_factory))
    'as_factory'
    """
    while isinstance(target, (partial, Adapted)):
        target = target.func if isinstance(target, partial) else target.target
    return str(getattr(target, "__name__", type(target).__name__))
