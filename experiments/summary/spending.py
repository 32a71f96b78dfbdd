"""What the arms of a run spent, counted where the steps were taken, and what differs by design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from omegaconf import DictConfig

from experiments.config.instantiate import instantiate
from fedfuse.declarations import declared
from fedfuse.wire.messages import TWIN


@dataclass(frozen=True, slots=True)
class Spending:
    """The optimiser steps of a run, and the samples that they saw.

    Args:
        budget: What the arms spend alike.
        steps: Steps of a client in all rounds, mean over the clients.
        samples: Samples that they saw, likewise.
        baseline_steps: The same of the baseline; None without one.
        baseline_samples: Likewise.
        unlike: Clients that spent another number than their twins of what arms spend alike; None
            without a baseline, or where nothing is to be alike.
        by_design: What the method spends beyond, in words.
    """

    budget: str
    steps: float
    samples: float
    baseline_steps: float | None
    baseline_samples: float | None
    unlike: int | None
    by_design: tuple[str, ...]

    def lines(self) -> list[str]:
        """Return it in words."""
        text = (
            f"a client took {_count(self.steps)} optimiser steps on {_count(self.samples)} samples"
        )
        if self.baseline_steps is not None and self.baseline_samples is not None:
            alike = (self.steps, self.samples) == (self.baseline_steps, self.baseline_samples)
            text += (
                ", as in local training"
                if alike
                else (
                    f",\n  in local training {_count(self.baseline_steps)} on "
                    f"{_count(self.baseline_samples)} (budget={self.budget})"
                )
            )
        lines = [text]
        if self.unlike:
            what = "samples" if self.budget == "samples" else "steps"
            who = "1 client" if self.unlike == 1 else f"{self.unlike} clients"
            lines.append(f"  {who} took other {what} than in local training")
        return [*lines, *(f"  by design: {reason}" for reason in self.by_design)]


def by_design(cfg: DictConfig) -> tuple[str, ...]:
    """Return what a configuration spends beyond what its budget makes equal, in words.

    This is the one place where it is declared; an exchange, and who chooses the clients that take
    part, say of themselves what differs with the attribute ``extra``.
    """
    exchange = instantiate(cfg.exchange, "exchange")
    parts = exchange, instantiate(cfg.participation, "participation")
    reasons = [declared(part, "extra", "") for part in parts]
    if cfg.budget == "rounds":
        reasons.append("with budget=rounds local training does nothing in distillation's place")
    own = declared(exchange, "budget", cfg.budget)
    if own != cfg.budget:
        reasons.append(f"exchange.budget={own}, and budget={cfg.budget}")
    return tuple(reason for reason in reasons if reason)


def spending(
    cfg: DictConfig,
    ours: Mapping[str, Mapping[int, float]],
    twins: Mapping[str, Mapping[int, float]] | None,
) -> Spending | None:
    """Return what was spent; None where nobody counted (runs of an earlier version).

    Args:
        cfg: The configuration.
        ours: Metric (``steps``, ``samples``) to each client's sum over the rounds.
        twins: The same of the baseline; None without one.
    """
    if not ours["steps"]:
        return None
    known = twins if twins is not None and twins["steps"] else None
    unit = "samples" if cfg.budget == "samples" else "steps"
    unlike = None
    if known is not None and cfg.budget != "rounds":
        unlike = sum(ours[unit].get(i, 0.0) != known[unit].get(i, 0.0) for i in known[unit])
    return Spending(
        budget=cfg.budget,
        steps=_mean(ours["steps"]),
        samples=_mean(ours["samples"]),
        baseline_steps=None if known is None else _mean(known["steps"]),
        baseline_samples=None if known is None else _mean(known["samples"]),
        unlike=unlike,
        by_design=(*by_design(cfg), *_of_twins(ours)),
    )


def _of_twins(ours: Mapping[str, Mapping[int, float]]) -> tuple[str, ...]:
    """Return what the local twins of a guard took, in words."""
    steps, samples = (ours.get(f"{TWIN}{name}") for name in ("steps", "samples"))
    if not steps or not samples:
        return ()
    return (
        f"the guard's local twin of a client took {_count(_mean(steps))} steps on "
        f"{_count(_mean(samples))} samples",
    )


def _mean(values: Mapping[int, float]) -> float:
    return float(np.mean(list(values.values())))


def _count(value: float) -> str:
    """Return a mean of counts.

    >>> _count(308.0), _count(84.25), _count(12345.678)
    ('308', '84.2', '12,346')
    """
    return f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.1f}"
