"""Try every combination of parts once before training, so that a mistake costs seconds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

from clients.state.state import OptimizerFactory
from experiments.assembly import capabilities
from experiments.assembly.node import build_node
from experiments.assembly.parts import Parts
from experiments.assembly.single_sample import (
    Batches,
    asked,
    distilled,
    refuse_lone,
    tested,
    trained,
)
from experiments.assembly.trials import try_parts
from experiments.config.instantiate import instantiate
from fedfuse.errors import ModelError
from fedfuse.models.plan import as_plan, build_checked
from fedfuse.protocols import ModelPlan
from fedfuse.train.trial import try_training


class ModelWarning(UserWarning):
    """Something about a model that a reader of the results should know."""


def check_compatible(parts: Parts) -> None:
    """Ask what goes with what, and build one model of each architecture and its optimiser.

    Raises:
        FedfuseError: From the first part that does not fit the others.
    """
    data, models = parts.data, parts.models
    capabilities.check(parts.cfg, data, models, parts.pipeline)
    try_parts(parts)
    node = build_node(parts, ())
    first = {models.name(client.client_id): client.client_id for client in reversed(data.clients)}
    for client_id in sorted(first.values()):
        name = models.name(client_id)
        alike = [c.client_id for c in data.clients if models.name(c.client_id) == name]
        passes = trained(parts, alike), asked(parts, alike)
        _check_model(parts, models, client_id, node.make_optimizer, passes)
    if parts.cfg.student._target_ is not None and parts.pipeline is not None:
        plan = as_plan(instantiate(parts.cfg.student, "student"))
        _check_model(parts, plan, None, node.make_optimizer, (distilled(parts), tested(parts)))


def _check_model(
    parts: Parts,
    models: ModelPlan,
    client_id: int | None,
    make_optimizer: OptimizerFactory,
    passes: tuple[Iterable[Batches], Iterable[Batches]],
) -> None:
    """Build the architecture of a client (None: the server), take a step, and look at its batches.

    ``passes`` are those in which it is trained, and those in which it is asked.
    """
    data, owner = parts.data, "the server" if client_id is None else f"client {client_id}"
    where = f"Model '{models.name(client_id or 0)}' of {owner}"
    build = partial(build_checked, models, client_id or 0, data.input_shape, data.num_classes, 0)
    model = build(owner=owner)
    _refuse_shared(where, model, build(owner=owner))
    with torch.random.fork_rng(devices=[]):
        found = try_training(where, model, make_optimizer, data.input_shape, data.num_classes)
    if found.softmax:
        warnings.warn(
            f"{where} returns probabilities (a softmax at its end?) where logits are expected: "
            "every loss takes a softmax of its own, and of two it learns little. Leave the last "
            "softmax out.",
            ModelWarning,
            stacklevel=2,
        )
    if not found.repeats:
        warnings.warn(
            f"{where} answers the same inputs differently each time, in eval mode too (dropout "
            "that is always on?): what is tested and shared is partly noise. Write "
            "dropout(x, training=self.training), or use nn.Dropout.",
            ModelWarning,
            stacklevel=2,
        )
    if found.left:
        warnings.warn(
            f"The optimizer leaves parts of {where[0].lower()}{where[1:]} as they are: "
            f"{', '.join(found.left[:5])}{', ...' if len(found.left) > 5 else ''}. Give it all of "
            "the parameters, or freeze these (requires_grad=False).",
            ModelWarning,
            stacklevel=2,
        )
    if found.one_trained is not None:
        refuse_lone(where, found.one_trained, "be trained on", passes[0])
    if found.one_asked is not None:
        refuse_lone(where, found.one_asked, "predict", passes[1])


def _refuse_shared(where: str, model: nn.Module, other: nn.Module) -> None:
    """Refuse a factory that hands out the same weights twice: clients would train one model.

    What nobody trains, as a frozen part, may be the same tensor in all.
    """
    one, two = (
        {p.untyped_storage().data_ptr(): name for name, p in each.named_parameters()
         if p.requires_grad and p.numel()}
        for each in (model, other)
    )  # fmt: skip
    if both := [name for place, name in one.items() if place in two]:
        raise ModelError(
            f"{where} shares its weights with every other one that is built, so all clients would "
            "train the same model",
            got=f"the same '{both[0]}' twice",
            allowed="a class, or a function that returns a new model at every call",
            next_step="Make the layers inside of the function or of __init__.",
        )
