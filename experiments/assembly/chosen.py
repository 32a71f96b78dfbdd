"""What a run is made of, as far as it is known, and what a combination that cannot work is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch

from clients.exchange import Predictions
from experiments.assembly.privacy import build_mechanism
from experiments.config.instantiate import instantiate
from experiments.config.targets import brief, target_name
from fedfuse.declarations import declared
from fedfuse.errors import ConfigError
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.predictions import PREDICTIONS
from fedfuse.fusion.pipeline import Pipeline
from fedfuse.protocols import ModelPlan
from fedfuse.types import FederatedData, KnowledgeBank, Space, Teachers
from fedfuse.user_code import is_foreign


@dataclass
class Chosen:
    """What a run is made of.

    Args:
        cfg: Its configuration.
        data: The federation's data; None as long as nothing but the configuration is known.
        models: Which client runs which architecture; None likewise.
        pipeline: Predictions to teachers; None likewise, and for a method without one.
    """

    cfg: Any
    data: FederatedData | None = None
    models: ModelPlan | None = None
    pipeline: Pipeline | None = None
    _built: dict[str, Any] = field(default_factory=dict)

    def part(self, slot: str) -> Any:
        """Return the part of a slot; None for none."""
        if slot not in self._built:
            node = self.cfg[slot]
            build = build_mechanism if slot == "privacy" else partial(instantiate, where=slot)
            self._built[slot] = build(node)
        return self._built[slot]

    def needs(self, slot: str, what: str) -> bool:
        """Tell whether the part of a slot declares that it needs something."""
        return bool(declared(self.part(slot), what, False))

    def space(self, slot: str) -> Space:
        """Return the space that the part of a slot works in."""
        return Space(declared(self.part(slot), "space", Space.PROBABILITIES))

    @property
    def fuses(self) -> bool:
        """Whether the server fuses predictions."""
        return self.cfg.rule._target_ is not None

    @cached_property
    def predicts(self) -> bool:
        """Whether predictions are exchanged, as far as is known."""
        exchange = self.part("exchange")
        if self.data is not None and self.models is not None:
            kind = exchange.kind(self.models, self.data)
            if not isinstance(kind, Kind):  # a part of one's own; it is told what is wrong later
                return False
            return (kind.upload, kind.download) == (PREDICTIONS.upload, PREDICTIONS.download)
        return isinstance(exchange, Predictions) or is_foreign(exchange)

    def named(self, *slots: str) -> str:
        """Return slots and their parts in words."""
        words = (
            f"{slot}={brief(self.cfg[slot]) if slot == 'exchange' else target_name(self.cfg[slot])}"
            for slot in slots
        )
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Clash:
    """A combination that cannot work.

    Args:
        what: What is wrong, in one sentence.
        got: Returns what there is of it in words; None where all is well.
        next_step: What to do.
        allowed: What would be right, where that says more.
        from_data: Whether it takes the data to tell.
    """

    what: str | Callable[[Chosen], str]
    got: Callable[[Chosen], str | None]
    next_step: str | Callable[[Chosen], str]
    allowed: Callable[[Chosen], str] | None = None
    from_data: bool = False

    def check(self, chosen: Chosen) -> None:
        """Raise ConfigError if this is what was chosen."""
        if (self.from_data and chosen.data is None) or (got := self.got(chosen)) is None:
            return
        raise ConfigError(
            self.what if isinstance(self.what, str) else self.what(chosen),
            got=got or None,
            allowed=None if self.allowed is None else self.allowed(chosen),
            next_step=self.next_step if isinstance(self.next_step, str) else self.next_step(chosen),
        )


def not_fused(chosen: Chosen, slot: str) -> str | None:
    """Return in words that a slot has a part and the method fuses no predictions."""
    if chosen.cfg[slot]._target_ is None or (chosen.fuses and chosen.predicts):
        return None
    return f"{chosen.named(slot)}, method={chosen.cfg.method.name}"


def one_for_all(pipeline: Pipeline, num_classes: int) -> bool:
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
