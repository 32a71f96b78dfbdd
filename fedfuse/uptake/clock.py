"""How far each client is on its way from its own predictions to its teacher's (TAID)."""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from fedfuse.arrival import Arrival
from fedfuse.distill.losses import KL
from fedfuse.distill.taid import taid
from fedfuse.distill.targets import as_targets
from fedfuse.interpolation import linear, require_ramp
from fedfuse.shapes import Float
from fedfuse.types import Teachers
from fedfuse.uptake.chain import T
from fedfuse.validation import require_flag, require_number


class Ticked(NamedTuple):
    """What a clock shows after it was set on, and how fast the client learns."""

    t: float
    momentum: float


@dataclass(frozen=True, slots=True)
class Clock:
    """Say how far each client is, for a loss that wants ``clock``; its teacher stays as it is.

    TAID's clock (arXiv 2501.16937), there one tick an optimiser step, here one a lesson, which is
    ours. t of the first lesson is ``t_start``. Before each lesson the mean loss L of the client's
    own prediction against what it is about to learn at its t is compared with that of the lesson
    before, L'::

        momentum <- beta momentum + (1 - beta) (L' - L) / L'
        t        <- min(t_end, max(linear, t + alpha sigmoid(momentum) (1 - t)))

    The new t is that of the next lesson; the first lesson leaves L alone. ``linear`` goes from
    start to end within ``ramp_rounds`` lessons, so that every clock arrives.

    A clock is the client's own and counts its lessons: rounds that it misses do not move it, nor
    does one of which no sample counts for it. Samples count by their weight in L.

    Args:
        t_start: Of the first lesson, from 0 (its own prediction) to 1 (the teacher's).
        t_end: Where it stops, at least ``t_start``.
        ramp_rounds: Lessons until ``linear`` is at its end.
        adaptive: False takes ``linear`` alone and does not ask the client's model.
        alpha: Most that one tick adds of what is left of the way; the authors' 5e-4 is per step.
        beta: How much of the momentum stays.
        temperature: Of the client's softmax.
    """

    t_start: float = 0.4
    t_end: float = 1.0
    ramp_rounds: int = 10
    adaptive: bool = True
    alpha: float = 0.05
    beta: float = 0.99
    temperature: float = 1.0
    sets_clock: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_ramp("Clock", self.t_start, self.t_end, self.ramp_rounds)
        require_flag("Clock", "adaptive", self.adaptive)
        require_number("Clock", "alpha", self.alpha, at_least=0, at_most=1)
        require_number("Clock", "beta", self.beta, at_least=0, at_most=1)
        require_number("Clock", "temperature", self.temperature, above=0)

    def tick(
        self, t: float, momentum: float, before: float, loss: float, progress: float
    ) -> Ticked:
        """Return what the clock shows next.

        Args:
            t: What it shows.
            momentum: Of the relative changes of the loss.
            before: The loss of the lesson before.
            loss: That of this one.
            progress: How much of the ramp is over, from 0.

        >>> ticked = Clock().tick(t=0.4, momentum=0.0, before=1.0, loss=0.8, progress=0.0)
        >>> round(ticked.t, 6), round(ticked.momentum, 6)
        (0.415015, 0.002)
        """
        change = (before - loss) / (before + 1e-15) if before > 0 else 0.0
        momentum = self.beta * momentum + (1 - self.beta) * change
        sigmoid = (1 + math.tanh(momentum / 2)) / 2
        further = t + self.alpha * sigmoid * (1 - t)
        floor = linear(self.t_start, self.t_end, progress)
        return Ticked(min(self.t_end, max(floor, further)), momentum)

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Set each client's clock; return the teachers as they came."""
        memories = [at.memory[client_id] for client_id in teachers.client_ids.tolist()]
        shown = torch.tensor([self._shown(memory) for memory in memories])
        counts = torch.ones(teachers.targets.shape[:2])
        if teachers.sample_weight is not None:
            counts = teachers.sample_weight.cpu()
        losses = self._losses(teachers, at, shown) if self.adaptive else torch.zeros_like(counts)
        for memory, t, weights, loss in zip(
            memories, shown, counts.double(), losses.double(), strict=True
        ):
            memory[T] = t.clone()
            if (total := float(weights.sum())) > 0:
                self._learn(memory, float(t), float((weights * loss).sum()) / total)
        at.report["clock"] = shown
        return teachers

    def _shown(self, memory: Mapping[str, Tensor]) -> float:
        if self.adaptive:
            return float(memory.get("clock/next", self.t_start))
        return linear(self.t_start, self.t_end, self._progress(memory))

    def _progress(self, memory: Mapping[str, Tensor]) -> float:
        return int(memory.get("clock/lessons", 0)) / self.ramp_rounds

    def _losses(
        self, teachers: Teachers, at: Arrival, t: Float[Tensor, " k"]
    ) -> Float[Tensor, "k m"]:
        """Return the loss of each client's own prediction on each sample."""
        own, targets = at.own(), as_targets(teachers, KL(self.temperature)).cpu()
        rows = t.repeat_interleave(own.shape[1]).unsqueeze(1)
        losses = taid(own.flatten(0, 1), targets.flatten(0, 1), rows, self.temperature)
        return losses.view(own.shape[:2])

    def _learn(self, memory: MutableMapping[str, Tensor], t: float, loss: float) -> None:
        """Set the clock on for the lesson after this one."""
        ticked = Ticked(t, 0.0)
        if "clock/loss" in memory:
            told = float(memory["clock/momentum"]), float(memory["clock/loss"])
            ticked = self.tick(t, *told, loss, self._progress(memory))
        memory["clock/lessons"] = torch.tensor(int(memory.get("clock/lessons", 0)) + 1)
        if self.adaptive:
            memory["clock/next"] = torch.tensor(ticked.t)
            memory["clock/momentum"] = torch.tensor(ticked.momentum)
            memory["clock/loss"] = torch.tensor(loss)
