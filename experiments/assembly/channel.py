"""What clients send and how it travels: the codec, and whether it holds what the rule needs."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig

from experiments.config.instantiate import instantiate
from fedfuse.codec import Channel
from fedfuse.declarations import declared
from fedfuse.errors import ConfigError
from fedfuse.familiarity import KuLSIFSelector
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.protocols import Extract
from fedfuse.select import All, PublicRounds
from fedfuse.types import KnowledgeBank, Teachers
from server.fusion.target_cache import TargetCache


def check_confidence(cfg: DictConfig, pipeline: Pipeline) -> None:
    """Refuse a rule that weighs by what clients do not send."""
    measure = instantiate(cfg.familiarity, "familiarity")
    wanted = declared(pipeline.rule, "needs_confidence", False)
    if wanted and (measure is None or isinstance(measure, KuLSIFSelector)):
        raise ConfigError(
            "The rule weighs answers by the confidence that clients send with them, and they send "
            "none",
            got=f"familiarity={'none' if measure is None else 'kulsif, which is a mask'}",
            next_step="Set familiarity=gaussian or familiarity=auxiliary.",
        )


def build_cache(
    cfg: DictConfig, pipeline: Pipeline | None, num_classes: int, public: PublicRounds
) -> TargetCache | None:
    """Return the server's cache of targets, or None.

    Raises:
        ConfigError: If the method has not one target for all clients.
    """
    signals = instantiate(cfg.cache, "cache")
    if signals is None:
        return None
    if pipeline is None or not _one_for_all(pipeline, num_classes):
        raise ConfigError(
            "The cache keeps one target for all clients, and the method makes one for each",
            got=f"method={cfg.method.name}, cache={str(cfg.cache._target_).rsplit('.', 1)[-1]}",
            next_step="Set cache=none, or a scorer and a rule alike for all, as in method=mean.",
        )
    return TargetCache(signals, public, cfg.num_clients)


def _one_for_all(pipeline: Pipeline, num_classes: int) -> bool:
    """Return whether clients that differ get the same targets, by trying."""
    draw = torch.Generator().manual_seed(0)
    shares = torch.rand(4, num_classes, generator=draw)
    bank = KnowledgeBank(
        client_ids=torch.arange(4),
        logits=3 * torch.randn(4, 8, num_classes, generator=draw),
        num_examples=torch.tensor([10, 40, 20, 30]),
        class_distribution=shares / shares.sum(dim=1, keepdim=True),
        confidence=torch.rand(4, 8, generator=draw) + 0.1,
    )
    labels = torch.arange(8) % num_classes
    teachers = copy.deepcopy(pipeline)(bank, labels).teachers
    assert isinstance(teachers, Teachers)
    return bool((teachers.targets == teachers.targets[:1]).all())


def build_channel(cfg: DictConfig) -> Channel:
    """Return how predictions travel: an option of ours, or a codec of the user's, both ways.

    Raises:
        ConfigError: If the codec cannot work with the choice of public samples.
    """
    part = instantiate(cfg.codec, "codec")
    extract: Extract = instantiate(cfg.extract, "extract")
    if part is None:
        return Channel(extract=extract)
    made = part() if isinstance(part, partial) else part
    channel = made if isinstance(made, Channel) else Channel(made, made)
    if channel.needs_fixed_public_set and not isinstance(instantiate(cfg.select, "select"), All):
        raise ConfigError(
            "The codec sends what has changed since the last round, and the public samples differ "
            "from round to round",
            got=f"select={str(cfg.select._target_).rsplit('.', 1)[-1]}",
            next_step="Set codec.delta=false, or select=all.",
        )
    return replace(channel, extract=extract)
