"""Try a model for training: on two samples, and on one alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedfuse.errors import ConfigError, ModelError
from fedfuse.train.loop import fit
from fedfuse.train.work import Schedule, Work
from fedfuse.user_code import brief, frames, kind_of, showing

SHORTEST_SUM = 1e-3
"""How far from 1 the numbers of a distribution may add up."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What a model does not bear.

    Args:
        one_trained: Why it cannot be trained on a batch of one sample; None if it can.
        one_asked: Why it cannot predict a batch of one sample; None if it can.
        softmax: Whether it returns probabilities where logits should be.
        repeats: Whether it answers twice alike when it is asked, not trained.
        left: Names of what could be trained of it and the optimiser was not given.
    """

    one_trained: str | None
    one_asked: str | None
    softmax: bool
    repeats: bool
    left: tuple[str, ...]


def try_training(
    where: str,
    model: nn.Module,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    input_shape: tuple[int, ...],
    num_classes: int,
) -> Tried:
    """Take one step with a model that is thrown away afterwards.

    Args:
        where: The model in words.
        model: The model; it is changed.
        make_optimizer: Parameters to optimiser.
        input_shape: Shape of one input.
        num_classes: C.

    Returns:
        What it bears.

    Raises:
        ConfigError: If there is no optimiser.
        ModelError: If two samples cannot be learnt from.
    """
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, *input_shape, generator=draw)
    labels = torch.arange(2) % num_classes
    optimizer = _optimizer(model, make_optimizer)
    step = Schedule(torch.arange(2), (2,))
    answers = [_asked(model.eval(), inputs) for _ in range(2)]
    try:
        fit(model, optimizer, Work(inputs, labels, _cross_entropy, step))
    except Exception as error:
        simple = isinstance(error, RuntimeError | TypeError | ValueError | IndexError)
        if not simple and not frames(error):
            raise
        told = ModelError(f"{where} cannot be trained on two samples", got=brief(error))
        raise showing(told, error) from error
    held, trainable = _held(optimizer), model.named_parameters()
    return Tried(
        one_trained=_one(model.train(), inputs[:1], num_classes),
        one_asked=_one(model.eval(), inputs[:1], num_classes),
        softmax=_is_softmax(answers[0], num_classes),
        repeats=torch.equal(*(answer.nan_to_num() for answer in answers)),
        left=tuple(name for name, p in trainable if p.requires_grad and id(p) not in held),
    )


def _optimizer(
    model: nn.Module, make_optimizer: Callable[..., torch.optim.Optimizer]
) -> torch.optim.Optimizer:
    """Return the model's optimiser."""
    try:
        made: object = make_optimizer(model.parameters())
    except Exception as error:
        if not isinstance(error, TypeError | ValueError) and not frames(error):
            raise
        told = ConfigError(
            "The optimizer cannot be made",
            got=brief(error) if frames(error) else error,
            next_step="Look at the keys of optimizer: fedfuse --cfg job --package optimizer.",
        )
        raise showing(told, error) from error
    if not isinstance(made, torch.optim.Optimizer):
        raise ConfigError(
            "The optimizer is none",
            got=kind_of(made),
            allowed="a torch.optim.Optimizer of the parameters it is given",
        )
    theirs = {id(parameter) for parameter in model.parameters()}
    if make_optimizer(model.parameters()) is made or not _held(made) <= theirs:
        raise ConfigError(
            "The optimizer is another model's, so this one would not be trained",
            got="parameters that it was not given, or the same optimizer twice",
            allowed="a new torch.optim.Optimizer of the parameters it is given, at every call",
        )
    return made


def _held(optimizer: torch.optim.Optimizer) -> set[int]:
    """Return which parameters an optimiser changes, by their ids."""
    return {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}


def _one(model: nn.Module, inputs: Tensor, num_classes: int) -> str | None:
    """Return why the model cannot take a batch of one, or None."""
    try:
        with torch.no_grad():
            logits = model(inputs)
    except Exception as error:
        return brief(error)
    if tuple(logits.shape) != (1, num_classes):
        return f"it returns the shape {list(logits.shape)}"
    return None if bool(logits.isfinite().all()) else "it returns NaN or infinite values"


def _asked(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(inputs)
    return logits


def _is_softmax(logits: Tensor, num_classes: int) -> bool:
    """Tell whether every row is a distribution, which of logits none is but by design."""
    sums = logits.float().sum(dim=1)
    off = float((sums - 1).abs().max())
    return num_classes > 1 and off < SHORTEST_SUM and bool((logits >= 0).all())


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")
