"""Mix what a receiver has sent itself with what is fused, by the round: TAID on the server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedfuse.fusion.around import AroundRule, of_round, require_inner
from fedfuse.fusion.gate import inner_probabilities
from fedfuse.interpolation import between, linear, require_ramp
from fedfuse.protocols import Fused, Rule
from fedfuse.shapes import Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class MixByRound(AroundRule):
    """Move each receiver's target from its own prediction to the fused one as rounds pass.

    ``target = softmax((1 - t) log own + t log fused)``, where t goes on a straight line from
    ``t_start`` in the first round with a fusion to ``t_end``, ``ramp_rounds`` later. At t = 1 it is
    the inner rule. The clients' clocks, that look at what each of them learns, are
    ``uptake=clock``. A receiver that did not answer a sample gets what is fused. The round's metric
    ``clock`` is t.

    Args:
        inner: The rule that fuses.
        t_start: Of the first fusion, from 0 (own) to 1 (fused).
        t_end: Where it stops, at least ``t_start``.
        ramp_rounds: Rounds from start to end.
        warmup_rounds: Rounds without a fusion, before the first one.
        temperature: Of the softmaxes; an inner rule that has a temperature fuses at this one.
        round: Which round it is; the pipeline sets it.
    """

    inner: Rule
    t_start: float = 0.4
    t_end: float = 1.0
    ramp_rounds: int = 10
    warmup_rounds: int = 0
    temperature: float = 1.0
    round: int = 1
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_inner("MixByRound", self.inner)
        require_ramp("MixByRound", self.t_start, self.t_end, self.ramp_rounds)
        require_count("MixByRound", "warmup_rounds", self.warmup_rounds, at_least=0)
        require_number("MixByRound", "temperature", self.temperature, above=0)
        require_count("MixByRound", "round", self.round, at_least=0)

    def at_round(self, round: int) -> MixByRound:  # noqa: A002
        """Return the rule of this round."""
        return replace(self, round=round, inner=of_round(self.inner, round))

    def __call__(
        self, bank: KnowledgeBank, weights: Any, labels: Int[Tensor, " P"] | None = None
    ) -> Fused:
        """Return one target per receiver."""
        fused, counted, told = inner_probabilities(self, bank, weights, labels)
        over = (self.round - self.warmup_rounds - 1) / self.ramp_rounds
        t = linear(self.t_start, self.t_end, over)
        mixed = between(bank.logits / self.temperature, fused, t)
        if bank.mask is not None:
            mixed = torch.where(bank.mask.unsqueeze(-1), mixed, fused)
        return Fused(mixed, counted, {**told, "clock": t})
