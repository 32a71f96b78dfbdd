"""Try every combination of parts once before training, so that a mistake costs seconds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch

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
    model = build_checked(
        models, client_id or 0, data.input_shape, data.num_classes, 0, owner=owner
    )
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
    if found.one_trained is not None:
        refuse_lone(where, found.one_trained, "be trained on", passes[0])
    if found.one_asked is not None:
        refuse_lone(where, found.one_asked, "predict", passes[1])
