"""Pre-training of a run: whether it can be had, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig

from clients.training.pretrain import Pretraining
from experiments.config.instantiate import instantiate
from fedfuse.errors import ConfigError
from fedfuse.types import FederatedData


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What came before the first round.

    Args:
        steps: Optimiser steps of a client before the first round, mean over the clients.
        baseline_steps: The same of the baseline, 0 if it did not pre-train; None without one.
    """

    steps: float
    baseline_steps: float | None

    def line(self) -> str:
        """Return it in words."""
        told = f"pre-trained on the labelled public set: {self.steps:.0f} steps a client"
        if self.baseline_steps is None:
            return told
        if self.baseline_steps == 0:
            return f"{told};\n  the baseline was not, so the gain is of both together"
        return f"{told}, the baseline too"


def build_pretraining(
    cfg: DictConfig, data: FederatedData, *, exchanges: bool
) -> Pretraining | None:
    """Return what comes before the first round; None for nothing.

    Args:
        cfg: The configuration.
        data: The federation's data.
        exchanges: Whether the method's clients exchange anything.

    Raises:
        ConfigError: If there are no labels to learn from, or nobody who is to learn.
    """
    pretraining: Pretraining | None = instantiate(cfg.pretrain, "pretrain")
    if pretraining is None:
        return None
    labels, allowed = data.public.labels, "labels of the private data's classes"
    if labels is None:
        raise ConfigError(
            "Pre-training needs labels of the public set, and this one has none",
            got=f"public set: {data.public.source}",
            allowed=allowed,
            next_step="Set pretrain=none, or public=held_out.",
        )
    if int(np.max(labels)) >= data.num_classes or int(np.min(labels)) < 0:
        raise ConfigError(
            "The labels of the public set are of other classes than the private data",
            got=f"{int(np.min(labels))} to {int(np.max(labels))}",
            allowed=f"{allowed}, 0 to {data.num_classes - 1}",
            next_step="Set pretrain=none, or public=held_out.",
        )
    if not exchanges and not pretraining.baseline:
        raise ConfigError(
            "Nobody would pre-train: the method is the baseline itself",
            got=f"pretrain.baseline=false with method={cfg.method.name}",
            next_step="Set pretrain.baseline=true.",
        )
    return pretraining


def pretrained(
    steps: Mapping[int, float], baseline_steps: Mapping[int, float] | None
) -> Pretrained | None:
    """Return what came before the first round, from the clients' steps; None if nothing did."""
    if not steps:
        return None
    return Pretrained(
        float(np.mean(list(steps.values()))),
        None if baseline_steps is None else float(np.mean(list(baseline_steps.values()) or [0.0])),
    )
