"""Turn a configuration into what server and clients share; `build_node` and `build_server` go on.

Every process of a run builds its own parts from the same configuration, so nothing but the
configuration has to travel to a worker or another host.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from omegaconf import DictConfig, OmegaConf

from clients.exchange import Exchange
from clients.training.pretrain import Pretraining
from experiments.assembly.saved_models import SavedModels, continued
from experiments.config.domain_options import DOMAINS
from experiments.config.instantiate import instantiate
from experiments.config.plain import Settings
from experiments.config.probe_options import KEY, configured
from experiments.config.targets import target_name
from fedfuse.augment import Augment
from fedfuse.codec import Channel, channel_of
from fedfuse.data.frozen import Frozen
from fedfuse.data.known import check_known
from fedfuse.data.public import External, PublicSource, match
from fedfuse.data.raw import RawDataset
from fedfuse.data.sites import OwnData, Site, check_fits, federate_sites
from fedfuse.data.sources.domains import domains
from fedfuse.data.split import federate
from fedfuse.distill.targets import batchable
from fedfuse.errors import ConfigError, DataError, DataWarning
from fedfuse.files.paths import expand
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.models.plan import as_plan
from fedfuse.probes import Probe
from fedfuse.protocols import DistillLoss, Extract, ModelPlan, PlansAtShape
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds, Select
from fedfuse.train.batched import BatchedTrainer
from fedfuse.train.learning_rate import LearningRate, Rates, is_flat
from fedfuse.train.optimizers import spare_compiler
from fedfuse.train.precision import Precision
from fedfuse.train.trainer import LoopTrainer, Trainer
from fedfuse.types import FederatedData
from fedfuse.user_code import call, kind_of

SOURCES = "fedfuse.data.sources"
MNIST5K = f"{SOURCES}.mnist5k.mnist5k"


@dataclass(frozen=True, slots=True)
class Parts:
    """What server and clients share.

    Args:
        cfg: The configuration they came from.
        data: The federation's data.
        models: Which client runs which architecture.
        exchange: What clients send and receive.
        pipeline: Predictions to teachers; None for a method without them.
        channel: How predictions travel.
        pretraining: What comes before the first round; None for nothing.
        continued: The models that clients begin with; None for new ones.
    """

    cfg: DictConfig
    data: FederatedData
    models: ModelPlan
    exchange: Exchange
    pipeline: Pipeline | None
    channel: Channel = Channel()  # noqa: RUF009 - frozen
    pretraining: Pretraining | None = None
    continued: SavedModels | None = None


def build_parts(cfg: DictConfig, *, private: bool = True) -> Parts:
    """Build data, models and pipeline.

    Args:
        cfg: The configuration.
        private: Whether to open the data that sites own; the server of a deployment does not.
    """
    pipeline = build_pipeline(cfg)
    exchange: Exchange = instantiate(cfg.exchange, "exchange")
    data = build_data(cfg, private=private)
    pretraining: Pretraining | None = instantiate(cfg.pretrain, "pretrain")
    channel, models = build_channel(cfg), build_models(cfg, data)
    begun = continued(cfg, data, models)
    return Parts(cfg, data, models, exchange, pipeline, channel, pretraining, begun)


def build_data(cfg: DictConfig, *, private: bool = True) -> FederatedData:
    """Load the data set and deal it out, or set it beside the data that sites own."""
    source = build_source(cfg.dataset, "dataset")
    public = instantiate(cfg.public, "public")
    if isinstance(public, External):
        # Who sets public.dataset.path alone has not chosen the name that the option comes with.
        other = build_source(cfg.public.dataset, "public.dataset", rename=True)
        public = replace(public, dataset=other)
    owned: OwnData | None = instantiate(cfg.sites, "sites")
    raw = call(f"The dataset {cfg.dataset._target_}", source, {})
    if not isinstance(raw, RawDataset):
        raise ConfigError(
            f"The dataset {cfg.dataset._target_} returned no data set",
            got=kind_of(raw),
            allowed="a fedfuse.data.raw.RawDataset",
            next_step="fedfuse.data.raw.describe makes one of arrays.",
        )
    sites = owned.open(cfg.num_clients) if owned is not None and private else []
    features: Frozen | None = instantiate(cfg.features, "features")
    if features is not None:
        raw, sites, public = _featured(
            partial(features, threads=cfg.client.threads), raw, sites, public
        )
    if owned is None:
        divide = partial(federate, raw, own_test_shift=cfg.evaluation.own_test_shift)
    else:
        divide = partial(federate_sites, raw, sites)
    return divide(
        partitioner=instantiate(cfg.partitioner, "partitioner"),
        public=public,
        num_clients=cfg.num_clients,
        val_fraction=cfg.val_fraction,
        test_fraction=cfg.test_fraction,
        max_test_samples=cfg.evaluation.test_samples,
        own_test_size=cfg.evaluation.own_test_samples,
        batch_size=cfg.client.batch_size,
        seed=cfg.seed,
    )


def _featured(
    features: Callable[..., RawDataset], raw: RawDataset, sites: list[Site], public: PublicSource
) -> tuple[RawDataset, list[Site], PublicSource]:
    """Return the data set, the sites' data and another public set with features for samples."""
    for site in sites:
        check_fits(site.raw, raw)
    if isinstance(public, External):
        load = public.dataset

        def other() -> RawDataset:
            found = load if isinstance(load, RawDataset) else load()
            match(found.train.inputs[:1], found.columns, raw, found.name)  # or say what is wrong
            return features(found, like=raw)

        public = replace(public, dataset=other)
    sites = [replace(site, raw=features(site.raw)) for site in sites]
    return features(raw), sites, public


def build_source(node: DictConfig, where: str, *, rename: bool = False) -> Callable[[], RawDataset]:
    """Return how a data set is loaded; one that is called by a known name must be what it says.

    Args:
        node: The data set's configuration.
        where: Its dotted key.
        rename: Whether one at a path that is something else is called by its folder's name, with
            a warning, and not refused.
    """
    target = str(node._target_)
    if target == DOMAINS and OmegaConf.is_list(node.domains):
        each = [
            build_source(part, f"{where}.domains[{i}]") if OmegaConf.is_dict(part) else part
            for i, part in enumerate(node.domains)
        ]
        return partial(domains, each, node.name)
    load = instantiate(node, where)
    if not target.startswith(f"{SOURCES}."):
        return load  # type: ignore[no-any-return]
    name = node.get("name") or (target_name(node) if target == MNIST5K else None)

    def loaded() -> RawDataset:
        raw: RawDataset = load()
        try:
            check_known(raw, name, resized=node.get("image_size") is not None)
        except DataError:
            if not rename or node.get("path") is None:
                raise
            own = expand(node.path).resolve().stem
            warnings.warn(f"{where}.path holds no {raw.name}: called {own}.", DataWarning, 2)
            return replace(raw, name=own)
        return raw

    return loaded


def build_models(cfg: DictConfig, data: FederatedData) -> ModelPlan:
    """Return which client runs which architecture."""
    part = instantiate(cfg.model, "model")
    if isinstance(part, PlansAtShape):
        return part.at_shape(data.input_shape, data.num_classes)
    return as_plan(part, target_name(cfg.model))


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
        temperature=cfg.temperature,
    )


def build_channel(cfg: DictConfig) -> Channel:
    """Return how predictions travel: an option of ours, or a codec of the user's, both ways."""
    extract: Extract = instantiate(cfg.extract, "extract")
    return replace(channel_of(instantiate(cfg.codec, "codec")), extract=extract)


def build_select(cfg: DictConfig) -> Select:
    """Return how the public samples of a round are chosen."""
    select: Select = instantiate(cfg.select, "select")
    return select


def build_rounds(cfg: DictConfig, data: FederatedData) -> PublicRounds:
    """Return the public samples of each round, and what becomes of them."""
    augment: Augment | None = instantiate(cfg.augment, "augment")
    return PublicRounds(build_select(cfg), data.public, Streams(cfg.seed), augment)


def build_probes(cfg: DictConfig | Settings) -> list[Probe]:
    """Return what models are asked at evaluation."""
    probes: list[Probe] = instantiate(configured(cfg), KEY)
    return probes


def build_rates(cfg: DictConfig) -> Rates | None:
    """Return at which share of the learning rate steps are taken; None for all of it."""
    schedule: LearningRate = instantiate(cfg.lr_schedule, "lr_schedule")
    return None if is_flat(schedule) else Rates(schedule, cfg.num_rounds)


def build_trainer(cfg: DictConfig, exchange: Exchange, loss: DistillLoss | None) -> Trainer:
    """Return who takes the optimiser steps.

    ``auto`` trains many clients at once where that pays (on a GPU, and with other runs), as far as
    what is exchanged and how it is distilled allow.
    """
    precision, clip_norm = Precision(cfg.client.precision), cfg.client.clip_norm
    loop = LoopTrainer(precision, clip_norm=clip_norm)
    if not exchange.batchable or (loss is not None and not batchable(loss)):
        return loop
    on_gpu = build_device(cfg.client.device, "client.device").type == "cuda"
    pays = on_gpu or cfg.engine.get("pack", False)
    if cfg.trainer == "loop" or (cfg.trainer == "auto" and not pays):
        return loop
    fallback = loop if cfg.trainer == "auto" else None
    return BatchedTrainer(precision, fallback=fallback, clip_norm=clip_norm)


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
