"""Run a stage of uptake and hold it to its contract; run several as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fedfuse.arrival import Arrival
from fedfuse.declarations import declared, part_name
from fedfuse.errors import require
from fedfuse.payload.fields import SIMPLEX_TOLERANCE
from fedfuse.protocols import Uptake
from fedfuse.types import Space, Teachers
from fedfuse.user_code import PartError, kind_of

T = "clock/t"
"""Where in a client's memory the time of the round's lesson stands: a tensor of one float from 0 to
1, which a stage that declares ``sets_clock`` writes for losses that want ``clock``."""


def take_up(stage: Uptake, teachers: Teachers, at: Arrival) -> Teachers:
    """Return what the clients will learn from.

    Args:
        stage: What they make of their teachers.
        teachers: Those.
        at: What is known beside them. The labels are handed on only to a stage that declares
            ``needs_labels``.

    Raises:
        PartError: If the stage breaks a promise of :class:`fedfuse.protocols.Uptake`.
    """
    if not declared(stage, "needs_labels", False):
        at = replace(at, labels=None)
    made = stage(teachers, at)
    what = f"The uptake {part_name(stage)}"
    if not isinstance(made, Teachers):
        raise PartError(f"{what} did not return teachers", got=kind_of(made), allowed="Teachers")
    _check_targets(what, teachers, made)
    _check_weights(what, teachers, made)
    _check_clock(stage, what, teachers, at)
    for name, values in at.report.items():
        told = isinstance(values, Tensor) and values.shape == teachers.client_ids.shape
        if not told or not bool(values.isfinite().all()):
            raise PartError(
                f"{what} reports '{name}', which is no metric of its clients",
                got=kind_of(values),
                allowed=f"finite numbers of shape {list(teachers.client_ids.shape)}",
            )
    return made


def _check_targets(what: str, teachers: Teachers, made: Teachers) -> None:
    if made.client_ids.tolist() != teachers.client_ids.tolist():
        raise PartError(
            f"{what} did not return the teachers of its clients",
            got=f"those of the clients {made.client_ids.tolist()[:20]}",
            allowed=f"those of {teachers.client_ids.tolist()[:20]}",
        )
    targets, shape = made.targets, teachers.targets.shape
    right = isinstance(targets, Tensor) and targets.shape == shape and targets.is_floating_point()
    if not right or not bool(targets.isfinite().all()):
        raise PartError(
            f"{what} did not return targets",
            got="NaN or infinite values" if right else kind_of(targets),
            allowed=f"finite floats of shape {list(shape)}",
        )
    if made.space not in (teachers.space, Space.PROBABILITIES):
        raise PartError(
            f"{what} made logits of probabilities, which do not hold them",
            got=f"space={made.space!r}",
            allowed="the space of what came, or probabilities",
        )
    if made.space == Space.PROBABILITIES:
        off = float((targets.sum(dim=-1) - 1).abs().max())
        least = float(targets.min())
        if off > SIMPLEX_TOLERANCE or least < -SIMPLEX_TOLERANCE:
            raise PartError(
                f"{what} left the simplex",
                got=f"a smallest value of {least:g} and a sum {off:g} away from 1",
                allowed="values from 0 that sum to 1 over the classes",
            )


def _check_weights(what: str, teachers: Teachers, made: Teachers) -> None:
    before, now = teachers.sample_weight, made.sample_weight
    if now is None and before is None:
        return
    shape = teachers.targets.shape[:2]
    right = isinstance(now, Tensor) and now.shape == shape and now.is_floating_point()
    if not right or not bool((now.isfinite() & (now >= 0)).all()):  # type: ignore[union-attr, operator]
        raise PartError(
            f"{what} did not return sample weights",
            got="negative or infinite ones" if right else kind_of(now),
            allowed=f"finite floats from 0 of shape {list(shape)}, those that came multiplied",
        )
    if before is not None and bool((now[before == 0] > 0).any()):  # type: ignore[index]
        raise PartError(
            f"{what} counts samples that nobody answered",
            got="a weight above 0 where 0 came",
            allowed="the weights that came, multiplied",
        )


def _check_clock(stage: Uptake, what: str, teachers: Teachers, at: Arrival) -> None:
    """Raise unless a stage that declares ``sets_clock`` has set the clock of every client."""
    if not declared(stage, "sets_clock", False):
        return
    for client_id in teachers.client_ids.tolist():
        t = at.memory[client_id].get(T)
        right = isinstance(t, Tensor) and t.numel() == 1 and t.is_floating_point()
        if not right or not 0 <= float(t) <= 1:  # type: ignore[arg-type]
            raise PartError(
                f"{what} did not set the clock of client {client_id}, '{T}' in its memory",
                got=f"{float(t):g}" if right else kind_of(t),  # type: ignore[arg-type]
                allowed="a tensor of one float from 0 to 1",
            )


def weighed(teachers: Teachers, factor: Tensor) -> Teachers:
    """Return the teachers with every sample's weight multiplied by a factor [k, m]."""
    before = teachers.sample_weight
    return replace(teachers, sample_weight=factor if before is None else before * factor)


def taught_share(teachers: Teachers, at: Arrival) -> Tensor:
    """Return how much of a round's lesson is the teacher's, [k] from 0 to 1.

    The mean over the round's samples: 0 for one without weight, otherwise how much of its target
    the teacher has.
    """
    counts = torch.ones(teachers.targets.shape[:2])
    if teachers.sample_weight is not None:
        counts = (teachers.sample_weight > 0).float().cpu()
    return (counts if at.taken is None else counts * at.taken.float().cpu()).mean(dim=1)


@dataclass(frozen=True, slots=True)
class Chain:
    """Several stages, each given what the one before it has made.

    Args:
        stages: At least one, in their order; by name, so that a configuration can name each.
    """

    stages: Mapping[str, Uptake] | Sequence[Uptake]

    def __post_init__(self) -> None:
        ok = isinstance(self.stages, Mapping | list | tuple) and len(self.stages) > 0
        ok = ok and all(map(callable, self._all))
        require(ok, "Chain", "stages", self.stages, "stages by name, one or more")
        clocks = [part_name(stage) for stage in self._all if declared(stage, "sets_clock", False)]
        require(len(clocks) <= 1, "Chain", "stages", clocks, "one clock at most")

    @property
    def _all(self) -> tuple[Any, ...]:
        given = self.stages
        return tuple(given.values() if isinstance(given, Mapping) else given)

    @property
    def needs_labels(self) -> bool:
        """Whether any stage does."""
        return any(declared(stage, "needs_labels", False) for stage in self._all)

    @property
    def remembers_samples(self) -> bool:
        """Whether any stage does."""
        return any(declared(stage, "remembers_samples", False) for stage in self._all)

    @property
    def sets_clock(self) -> bool:
        """Whether any stage does."""
        return any(declared(stage, "sets_clock", False) for stage in self._all)

    def __call__(self, teachers: Teachers, at: Arrival) -> Teachers:
        """Return what comes out of the last stage."""
        for stage in self._all:
            teachers = take_up(stage, teachers, at)
        return teachers
