"""The sections of the kit, by order of worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from experiments.benchmarks.gpu import correctness, fusing, packing, tiles, training, whole
from experiments.benchmarks.rows import Row


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the kit.

    Args:
        name: Its name.
        seconds: Its time limit.
        measure: Yields rows as they are found. Takes ``device``, ``tiny`` (as little as shows that
            it works: the kit's dry run) and ``repeats`` (timed rounds).
    """

    name: str
    seconds: float
    measure: Callable[..., Iterator[Row]]


SECTIONS = (
    Section("correctness", 120, correctness.measure),
    Section("fusion_1m", 75, partial(fusing.measure, 1_000_000)),
    Section("merging", 30, fusing.merging),
    Section("lenet", 75, training.lenet),
    Section("profile", 40, training.profile),
    Section("tiles", 20, tiles.measure),
    Section("whole_run", 90, whole.measure),
    Section("resnet8", 60, training.resnets),
    Section("mlp", 45, training.mlps),
    Section("packed", 60, packing.measure),
    Section("lenet_grouped", 45, training.lenet_grouped),
    Section("fusion_100k", 30, partial(fusing.measure, 100_000)),
)
