"""Turn a configuration into the parts of a run: data, clients, server.

Every process of a run builds its own parts from the same configuration, so nothing but the
configuration has to travel to a worker or another host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf

from clients.exchange import Exchange
from clients.link import Link
from clients.plan import ClientPlan
from clients.sharing import Sharing
from clients.steps import Node
from experiments.attacked import attackers, build_attack
from experiments.channel import build_cache, build_channel, check_confidence
from experiments.instantiate import instantiate
from experiments.private import build_privacy
from fedfuse.codec import Channel
from fedfuse.data.sites import OwnData, federate_sites
from fedfuse.data.split import federate
from fedfuse.declarations import declared
from fedfuse.errors import ConfigError
from fedfuse.exchange.kind import PREDICTIONS, Combine
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.models.plan import as_plan, build_checked, describe
from fedfuse.participation import Participants
from fedfuse.partition import preview
from fedfuse.protocols import DistillLoss, ModelPlan
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds, Select
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.optimizers import spare_compiler
from fedfuse.train.precision import Precision
from fedfuse.train.trainer import LoopTrainer, Trainer
from fedfuse.types import FederatedData
from server.app import ServerSetup
from server.cache import TargetCache
from server.combine import FusePredictions
from server.link import Link as ServerLink
from server.loop import ServerPlan
from server.purse import Purse
from server.reporters.protocol import Reporter, RunInfo
from server.student import AlsoTeach, ServerModel

BASELINE = "local"
"""The arm every method is compared with."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What server and clients share.

    Args:
        cfg: The configuration they came from.
        data: The federation's data.
        models: Which client runs which architecture.
        exchange: What clients send and receive.
        pipeline: Predictions to teachers; None for a method without them.
    """

    cfg: DictConfig
    data: FederatedData
    models: ModelPlan
    exchange: Exchange
    pipeline: Pipeline | None
    channel: Channel = Channel()  # noqa: RUF009 - frozen


def build_parts(cfg: DictConfig, *, private: bool = True) -> Parts:
    """Build data, models and pipeline, and refuse what cannot work together before training.

    Args:
        cfg: The configuration.
        private: Whether to open the data that sites own; the server of a deployment does not.
    """
    pipeline = build_pipeline(cfg)
    exchange: Exchange = instantiate(cfg.exchange, "exchange")
    build_trainer(cfg, exchange)
    data = build_data(cfg, private=private)
    return Parts(cfg, data, build_models(cfg), exchange, pipeline, build_channel(cfg))


def build_data(cfg: DictConfig, *, private: bool = True) -> FederatedData:
    """Load the data set and deal it out, or set it beside the data that sites own."""
    source = instantiate(cfg.dataset, "dataset")
    owned: OwnData | None = instantiate(cfg.sites, "sites")
    if owned is None:
        divide = partial(federate, source())
    else:
        sites = owned.open(cfg.num_clients) if private else []
        divide = partial(federate_sites, source(), sites)
    return divide(
        partitioner=instantiate(cfg.partitioner, "partitioner"),
        public=instantiate(cfg.public, "public"),
        num_clients=cfg.num_clients,
        val_fraction=cfg.val_fraction,
        test_fraction=cfg.test_fraction,
        max_test_samples=cfg.evaluation.test_samples,
        own_test_size=cfg.evaluation.own_test_samples,
        batch_size=cfg.client.batch_size,
        seed=cfg.seed,
    )


def build_models(cfg: DictConfig) -> ModelPlan:
    """Return which client runs which architecture."""
    return as_plan(instantiate(cfg.model, "model"), target_name(cfg.model))


def build_pipeline(cfg: DictConfig) -> Pipeline | None:
    """Return the server's way from knowledge to teachers; None if the rule is none."""
    rule = instantiate(cfg.rule, "rule")
    if rule is None:
        return None
    return Pipeline(
        scorer=instantiate(cfg.scorer, "scorer"),
        neighbours=instantiate(cfg.neighbours, "neighbours"),
        rule=rule,
        sharpen=instantiate(cfg.sharpen, "sharpen"),
        filter=instantiate(cfg.filter, "filter"),
    )


def build_select(cfg: DictConfig) -> Select:
    """Return how the public samples of a round are chosen."""
    select: Select = instantiate(cfg.select, "select")
    return select


def build_rounds(cfg: DictConfig, data: FederatedData) -> PublicRounds:
    """Return the public samples of each round."""
    return PublicRounds(build_select(cfg), data.public, Streams(cfg.seed))


def build_sharing(parts: Parts) -> Sharing:
    """Return what happens to predictions before they leave a client."""
    privacy = build_privacy(parts.cfg, build_rounds(parts.cfg, parts.data))
    if privacy is not None and parts.exchange.kind(parts.models, parts.data) != PREDICTIONS:
        raise ConfigError(
            "A privacy mechanism protects predictions, and this method exchanges something else",
            got=f"privacy={target_name(parts.cfg.privacy)}, exchange={brief(parts.cfg.exchange)}",
            next_step="Set privacy=none, or choose a method that exchanges predictions.",
        )
    attack = build_attack(parts.cfg, parts.data)
    if attack is not None and parts.exchange.kind(parts.models, parts.data) != PREDICTIONS:
        raise ConfigError(
            "An attack forges predictions, and this method exchanges something else",
            got=f"attack={target_name(parts.cfg.attack)}, exchange={brief(parts.cfg.exchange)}",
            next_step="Set attack=none, or choose a method that exchanges predictions.",
        )
    return Sharing(attack=attack, privacy=privacy)


def build_node(
    parts: Parts,
    client_ids: Sequence[int],
    on_client_done: Callable[[int], None] = lambda _: None,
) -> Node:
    """Return the node that hosts ``client_ids``."""
    cfg = parts.cfg
    client = cfg.client
    loss: DistillLoss | None = None
    if parts.pipeline is not None:
        loss = instantiate(cfg.distill, "distill")
    return Node(
        client_ids=tuple(client_ids),
        data=parts.data,
        models=parts.models,
        make_optimizer=fastest(instantiate(cfg.optimizer, "optimizer")),
        loss=loss,
        plan=ClientPlan(
            batch_size=client.batch_size,
            local_epochs=client.local_epochs,
            distill_epochs=client.distill_epochs,
            distill_batch_size=client.distill_batch_size,
            private_weight=client.private_weight,
            init=client.init,
            optimizer_state=client.optimizer_state,
            threads=client.threads,
            share_class_distribution=client.share_class_distribution,
            budget=cfg.budget,
            guard=client.guard,
            eval_batch_size=cfg.evaluation.batch_size,
        ),
        streams=Streams(cfg.seed),
        exchange=parts.exchange,
        select=build_select(cfg),
        familiarity=instantiate(cfg.familiarity, "familiarity"),
        sharing=build_sharing(parts),
        attacked=cfg.num_rounds if cfg.evaluation.membership else 0,
        shadows=cfg.evaluation.shadow_models,
        link=Link(parts.channel),
        trainer=build_trainer(cfg, parts.exchange),
        device=build_device(client.device, "client.device"),
        isolates=not cfg.server.fail_fast,
        on_client_done=on_client_done,
    )


def build_server(parts: Parts, reporter: Reporter) -> ServerSetup:
    """Return what the server needs, and check that it will get it."""
    cfg, data = parts.cfg, parts.data
    if parts.pipeline is not None:
        check_confidence(cfg, parts.pipeline)
        scorer = parts.pipeline.scorer
        if declared(scorer, "needs_labels", False) and data.public.labels is None:
            raise ConfigError(
                "The scorer needs labels of the public samples, and this public set has none",
                got=f"public set: {data.public.source}",
                next_step="Choose another scorer.epd, or public=held_out.",
            )
        needs_distribution = declared(scorer, "needs_class_distribution", False)
        if needs_distribution and not cfg.client.share_class_distribution:
            raise ConfigError(
                "The scorer needs each client's label histogram, which may not leave the client",
                got="client.share_class_distribution=false",
                next_step="Set client.share_class_distribution=true to allow it.",
            )
    public = build_rounds(cfg, data)
    device = build_device(cfg.server.device, "server.device")
    cache = build_cache(cfg, parts.pipeline, data.num_classes, public)
    combine = build_combine(parts, public, device, cache)
    arms, combines = arms_of(cfg, combine)
    return ServerSetup(
        info=RunInfo(
            method=cfg.method.name,
            arms=arms,
            num_clients=cfg.num_clients,
            num_rounds=cfg.num_rounds,
            dataset=data.name,
            partitioner=brief(cfg.partitioner) if cfg.sites._target_ is None else "own data",
            model=describe(parts.models, cfg.num_clients),
            # A server that sees nobody's private data has nothing to show.
            preview=preview(counts) if (counts := data.class_counts()).any() else "",
            config=cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True)),
        ),
        combines=combines,
        plan=ServerPlan(
            num_clients=cfg.num_clients,
            num_rounds=cfg.num_rounds,
            warmup_rounds=cfg.warmup_rounds,
            equal_steps=cfg.budget != "rounds",
            evaluate_every=cfg.evaluation.every,
            fail_fast=cfg.server.fail_fast,
            public=public,
            participants=build_participants(cfg, data),
            adversaries=attackers(cfg),
            device=device,
            link=ServerLink(parts.channel, cache),
            purse=Purse(cfg.budget_bytes or None),
        ),
        data=data,
        reporter=reporter,
        kind=parts.exchange.kind(parts.models, data),
        faults=instantiate(cfg.faults, "faults"),
    )


def build_participants(cfg: DictConfig, data: FederatedData) -> Participants:
    """Return who takes part in each round."""
    sizes = tuple(len(client.train) for client in data.clients)
    sampler = instantiate(cfg.participation, "participation")
    return Participants(sampler, sizes, Streams(cfg.seed))


def build_combine(
    parts: Parts, public: PublicRounds, device: torch.device, cache: TargetCache | None
) -> Combine | None:
    """Return what the server makes of the clients' knowledge; None if they learn alone."""
    own = parts.exchange.combine(parts.models, parts.data)
    fuse: Combine | None = own
    if own is None and parts.pipeline is not None:
        fuse = FusePredictions(parts.pipeline, public, device, cache)
    factory = instantiate(parts.cfg.student, "student")
    if factory is None:
        return fuse
    if own is not None or fuse is None:
        raise ConfigError(
            "A model on the server learns from fused predictions, and this method has none",
            got=f"student={target_name(parts.cfg.student)}, method={parts.cfg.method.name}",
            next_step="Set student=none, or choose a method that fuses predictions.",
        )
    student = build_student(parts, as_plan(factory), public, device)
    return AlsoTeach(fuse, student, relays=parts.cfg.server.student_teaches)


def build_student(
    parts: Parts, plan: ModelPlan, public: PublicRounds, device: torch.device
) -> ServerModel:
    """Return the server's own model; it starts from weights that no client has."""
    cfg, data, streams = parts.cfg, parts.data, Streams(parts.cfg.seed)
    entropy = streams.entropy("init", "server")
    model = build_checked(plan, 0, data.input_shape, data.num_classes, entropy)
    return ServerModel(
        model=model.to(device, memory_format=torch.channels_last),  # type: ignore[call-overload]
        make_optimizer=fastest(instantiate(cfg.optimizer, "optimizer")),
        loss=instantiate(cfg.distill, "distill"),
        data=data,
        rounds=public,
        streams=streams,
        epochs=cfg.server.student_epochs,
        batch_size=cfg.client.distill_batch_size,
        device=device,
    )


def arms_of(
    cfg: DictConfig, combine: Combine | None
) -> tuple[tuple[str, ...], dict[str, Combine | None]]:
    """Return the arms in the order they run, and what the server does in each.

    The baseline runs first, so that the gain over it can be shown while the method runs. A method
    that exchanges nothing is its own baseline.
    """
    method = cfg.method.name
    if combine is None or cfg.baseline == "none":
        return (method,), {method: combine}
    return (BASELINE, method), {BASELINE: None, method: combine}


def build_trainer(cfg: DictConfig, exchange: Exchange) -> Trainer:
    """Return who takes the optimiser steps; ``auto`` trains many clients at once on a GPU only."""
    precision = Precision(cfg.client.precision)
    loop = LoopTrainer(precision)
    if not exchange.batchable:
        if cfg.trainer == "batched":
            raise ConfigError(
                f"{type(exchange).__name__} trains more than the clients' own models, which "
                "cannot be done for many clients at once",
                got="trainer=batched",
                next_step="Set trainer=auto or trainer=loop.",
            )
        return loop
    on_gpu = build_device(cfg.client.device, "client.device").type == "cuda"
    if cfg.trainer == "loop" or (cfg.trainer == "auto" and not on_gpu):
        return loop
    return BatchedTrainer(precision, fallback=loop if cfg.trainer == "auto" else None)


def build_device(name: str, key: str) -> torch.device:
    """Return the device that ``key`` names; ``auto`` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(
            f"{key} names no device", got=repr(name), allowed="auto, cpu, cuda, cuda:0, ..."
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"{key} asks for a GPU and torch finds none",
            got=repr(name),
            next_step=f"Set {key}=auto.",
        )
    return device


def fastest(
    factory: Callable[..., torch.optim.Optimizer],
) -> Callable[..., torch.optim.Optimizer]:
    """Return the optimiser factory with the fused kernel where torch has one.

    One fused kernel replaces some ten small ones per parameter; with models this small that is a
    quarter of the step.
    """
    spare_compiler()
    cls = factory.func if isinstance(factory, partial) else factory
    chosen = factory.keywords if isinstance(factory, partial) else {}
    has_kernel = cls in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD)
    if has_kernel and not {"fused", "foreach", "differentiable"} & set(chosen):
        return partial(factory, fused=True)
    return factory


def target_name(node: DictConfig) -> str:
    """Return the last part of a group's ``_target_``, in lower case."""
    return str(node._target_).rsplit(".", 1)[-1].lower()


def brief(node: DictConfig) -> str:
    """Return a group's target and its numbers, as in ``dirichlet(alpha=0.5)``."""
    numbers = {
        name: value
        for name, value in cast("dict[str, object]", node).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    inside = ", ".join(f"{name}={value:g}" for name, value in numbers.items())
    return f"{target_name(node)}({inside})" if inside else target_name(node)
