"""Turn the parts of a run into its server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch
from omegaconf import DictConfig

from clients.exchange import CreamFL, FeaturePredictions
from experiments.assembly.attack import attackers
from experiments.assembly.merging import with_merge
from experiments.assembly.parts import (
    Parts,
    build_device,
    build_rates,
    build_rounds,
    fastest,
)
from experiments.assembly.privacy import draws_from_secrets
from experiments.assembly.saved_models import about_models
from experiments.config.instantiate import instantiate
from experiments.config.plain import plain
from experiments.config.prior_use import controls, trains_otherwise
from experiments.config.probe_options import configured
from experiments.config.targets import brief
from fedfuse.augment import Guided
from fedfuse.declarations import declared
from fedfuse.exchange.beside import AlsoFuseBeside
from fedfuse.exchange.creamfl import ContrastiveBeside
from fedfuse.exchange.kind import Combine
from fedfuse.exchange.models import SharedModels
from fedfuse.exchange.peers import PEERS, AlsoPeers
from fedfuse.models.features import feature_size
from fedfuse.models.plan import as_plan, build_checked, describe
from fedfuse.models.pooling import settled
from fedfuse.participation import Participants, Resting
from fedfuse.partition import preview
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds
from fedfuse.types import FederatedData
from server.app import ServerSetup
from server.fusion.byte_budget import ByteBudget
from server.fusion.combine import FusePredictions
from server.fusion.guided import GuidedSamples
from server.fusion.persuasion import AlsoMeasurePersuasion
from server.fusion.requests import Requests
from server.fusion.selection import RightAnswers
from server.fusion.student import AlsoTeach, ServerModel
from server.fusion.target_cache import TargetCache
from server.fusion.wishes import HeedWishes
from server.loop import ServerPlan
from server.reporters.protocol import Reporter, RunInfo
from server.transport.channel import ServerChannel


def build_server(parts: Parts, reporter: Reporter) -> ServerSetup:
    """Return what the server needs."""
    cfg, data = parts.cfg, parts.data
    public = build_rounds(cfg, data)
    device = build_device(cfg.server.device, "server.device")
    signals = instantiate(cfg.cache, "cache")
    cache = None if signals is None else TargetCache(signals, public, cfg.num_clients)
    asks = instantiate(cfg.request, "request")
    requests = None if asks is None else Requests(asks, public)
    combine, guided = build_combine(parts, public, device, cache, requests)
    arms, combines = arms_of(cfg, combine)
    accepts = accepted_by(combine)
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
            config=plain(cfg),
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
            resting=build_resting(cfg),
            adversaries=attackers(cfg),
            device=device,
            channel=ServerChannel(parts.channel, cache, accepts, requests, guided),
            byte_budget=ByteBudget(cfg.budget_bytes or None),
            when_needed=sends_when_needed(parts),
            probe_every=cfg.evaluation.probe_every if configured(cfg) else None,
        ),
        data=data,
        reporter=reporter,
        kind=parts.exchange.kind(parts.models, data),
        faults=instantiate(cfg.faults, "faults"),
        secrets=draws_from_secrets(cfg),
        models=about_models(cfg, data, parts.models),
    )


def accepted_by(combine: Combine | None) -> Callable[[Any], None]:
    """Return what refuses, on arrival, that of which the server can make nothing.

    The server's half of an exchange may say so with a ``check_bank``; predictions the pipeline's
    parts are asked about.
    """
    while combine is not None:
        if isinstance(combine, FusePredictions):
            return combine.pipeline.check_bank
        if (check := declared(combine, "check_bank", None)) is not None:
            return check
        combine = declared(combine, "combine", None)  # of what it stands around
    return lambda _: None


def sends_when_needed(parts: Parts) -> bool:
    """Return whether clients that rest get the last download alone, when they next need it.

    Where models come back. Not if each client's differs, since all would have to be held; nor if
    bytes are budgeted: what an exchange costs must be known when it is over.
    """
    alike = not declared(instantiate(parts.cfg.merge, "merge"), "personal", False)
    suffices = declared(parts.exchange, "last_suffices", False)
    models = parts.exchange.kind(parts.models, parts.data).download is SharedModels
    return models and suffices and alike and not parts.cfg.budget_bytes


def build_participants(cfg: DictConfig, data: FederatedData) -> Participants:
    """Return who takes part in each round."""
    sizes = tuple(len(client.train) for client in data.clients)
    sampler = instantiate(cfg.participation, "participation")
    return Participants(sampler, sizes, Streams(cfg.seed))


def build_resting(cfg: DictConfig) -> Resting:
    """Return which clients that rest are tested; the sample is the same in every arm and round."""
    tests, sample = cfg.evaluation, frozenset[int]()
    if tests.resting == "sample":
        generator = Streams(cfg.seed).torch("evaluation", "resting")
        drawn = torch.randperm(cfg.num_clients, generator=generator)
        sample = frozenset(drawn[: tests.resting_sample].tolist())
    return Resting(tests.resting, tests.resting_every, sample)


def build_combine(
    parts: Parts,
    public: PublicRounds,
    device: torch.device,
    cache: TargetCache | None,
    requests: Requests | None = None,
) -> tuple[Combine | None, GuidedSamples | None]:
    """Return what the server makes of the clients' knowledge; None if they learn alone.

    And what chooses, with the server's own model, what becomes of public samples.
    """
    own = with_merge(parts, parts.exchange.combine(parts.models, parts.data))
    fuse: Combine | None = own
    guided = student = None
    factory = instantiate(parts.cfg.student, "student")
    if factory is not None and (own is not None or parts.pipeline is not None):
        student = build_student(parts, as_plan(factory), public, device)
    if own is None and parts.pipeline is not None:
        fuse = FusePredictions(parts.pipeline, public, device, cache, requests)
        if isinstance(parts.exchange, FeaturePredictions):
            beside = parts.exchange.beside()
            if student is not None and student.of_features is not None:
                assert isinstance(beside, ContrastiveBeside)
                beside = replace(beside, ask=student.features)
            fuse = AlsoFuseBeside(fuse, beside)
        if parts.exchange.kind(parts.models, parts.data).down >= PEERS:
            fuse = AlsoFuseBeside(fuse, AlsoPeers(parts.data.num_clients))
        if parts.cfg.server.persuasion:
            fuse = AlsoMeasurePersuasion(fuse)
    if student is not None and fuse is not None:
        if declared(public.augment, "needs_student", False):
            guided = GuidedSamples(cast("Guided", public.augment), student)
        fuse = AlsoTeach(fuse, student, parts.cfg.server.student_teaches, guided)
    wishes = fuse is not None and parts.cfg.wish._target_ is not None
    return HeedWishes(fuse) if wishes and fuse is not None else fuse, guided


def build_student(
    parts: Parts, plan: ModelPlan, public: PublicRounds, device: torch.device
) -> ServerModel:
    """Return the server's own model; it starts from weights that no client has."""
    cfg, data, streams = parts.cfg, parts.data, Streams(parts.cfg.seed)
    entropy = streams.entropy("init", "server")
    model = build_checked(plan, 0, data.input_shape, data.num_classes, entropy)
    of_features, width = None, 0
    if isinstance(parts.exchange, CreamFL):
        of_features = parts.exchange.of_server
        width = cast("int", parts.exchange.kind(parts.models, data).sizes["D"])
        feature_size(model, data.num_classes)  # refused before training if it has none
    return ServerModel(
        model=settled(model, device),
        make_optimizer=fastest(instantiate(cfg.optimizer, "optimizer")),
        loss=instantiate(cfg.distill, "distill"),
        data=data,
        rounds=public,
        streams=streams,
        epochs=cfg.server.student_epochs,
        batch_size=cfg.client.distill_batch_size,
        device=device,
        left_out=cfg.client.left_out,
        of_features=of_features,
        width=width,
        rates=build_rates(cfg),
        clip_norm=cfg.client.clip_norm,
        right=RightAnswers(len(data.public), data.num_classes)
        if cfg.server.student_selects
        else None,
    )


def arms_of(
    cfg: DictConfig, combine: Combine | None
) -> tuple[tuple[str, ...], dict[str, Combine | None]]:
    """Return the arms in the order they run, and what the server does in each.

    The controls run first, so that the gain over them can be shown while the method runs. A method
    that neither exchanges anything nor trains otherwise is its own baseline.
    """
    method = cfg.method.name
    alone = combine is None and not trains_otherwise(cfg)
    beside = () if alone else tuple(name for name in controls(cfg) if name != method)
    return (*beside, method), {**dict.fromkeys(beside), method: combine}
