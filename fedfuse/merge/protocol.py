"""What a merge is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fedfuse.declarations import declared, part_name
from fedfuse.layout import Layout
from fedfuse.rng import Name, Streams
from fedfuse.shapes import Float, Int
from fedfuse.user_code import PartError, kind_of


@dataclass(frozen=True, slots=True)
class Vectors:
    """Models of one architecture that arrived in a round: their parameters, as flat vectors.

    Args:
        client_ids: Whose they are, int64 [k], ascending.
        vectors: float32 [k, N].
        weights: The clients' shares in a mean, float64 [k]; they sum to 1.
        base: What the models began from, float32 [N]: see :class:`fedfuse.merge.Base`. None for a
            merge that does not need it.
        layout: How a vector is laid out: names, shapes and types.
        architecture: Its name; whatever a merge remembers, it remembers by it.
        round: The round, from 1.
        streams: The run's random streams.
        total: What the weights are shares of, samples or models: of several architectures one
            that sums to more counts more.
        predict: Returns the models' logits float32 [k, m, C] for the first m public samples, at
            most as many as there are; None for a merge that does not declare
            ``needs_predictions``.
    """

    client_ids: Int[Tensor, " k"]
    vectors: Float[Tensor, "k N"]
    weights: Float[Tensor, " k"]
    base: Float[Tensor, " N"] | None
    layout: Layout
    architecture: str
    round: int
    streams: Streams
    total: float = 1.0
    predict: Callable[[int], Float[Tensor, "k m C"]] | None = None

    def task_vectors(self) -> Float[Tensor, "k N"]:
        """Return how far each model is from the base, float64."""
        assert self.base is not None
        return self.vectors.double() - self.base.double()

    def moved(self, task_vector: Float[Tensor, "... N"]) -> Float[Tensor, "r N"]:
        """Return the base moved by task vectors [N] or [r, N], as float32 rows."""
        assert self.base is not None
        return (self.base.double() + task_vector).float().reshape(-1, len(self.base))

    def generator(self, *name: Name) -> torch.Generator:
        """Return the random numbers of this round for a purpose, by name, and a client, by id."""
        return self.streams.torch("merge", self.architecture, self.round, *name)


class Merge(Protocol):
    """Make one model of several, or one for each receiver.

    ``receivers`` int64 [R], ascending, are the ids of all clients of the architecture, also of
    those that sent nothing. Returns float32 [R, N], a row for each, or [1, N], one for all;
    finite. Buffers (the statistics of batch norm layers) are no part of the vectors: they are
    averaged whatever the merge. A merge that takes differences to a common start declares
    ``needs_base = True``; one that asks models for predictions, ``needs_predictions = True``; one
    whose rows may differ, ``personal = True``; one that takes every model alike, whatever the
    weights, ``by_weights = False``. What is random is drawn from
    ``models.generator(...)``; a merge with a memory is :class:`fedfuse.protocols.Stateful`.
    """

    def __call__(self, models: Vectors, receivers: Tensor) -> Tensor:
        """Return merged parameters."""
        ...


@runtime_checkable
class MergesAcross(Protocol):
    """A merge over architectures, which sees all of them at once."""

    def across(self, groups: Sequence[Vectors], receivers: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return for each architecture what :class:`Merge` does, in their order."""
        ...


@runtime_checkable
class ChecksLayouts(Protocol):
    """A merge that does not take all models, and says so before anything is trained."""

    def misfit(self, layouts: Mapping[str, Layout]) -> str | None:
        """Return in words what of the architectures' parameters it cannot merge; None if nothing.

        Args:
            layouts: By architecture, parameters alone.
        """
        ...


def merged(
    merge: Merge, groups: Sequence[Vectors], receivers: Sequence[Tensor]
) -> list[Float[Tensor, "_ N"]]:
    """Return what a merge makes of the models of each architecture, [1, N] or [R, N].

    Raises:
        PartError: If it is something else.
    """
    if isinstance(merge, MergesAcross):
        made = list(merge.across(groups, receivers))
    else:
        made = [merge(group, who) for group, who in zip(groups, receivers, strict=True)]
    for rows, group, who in zip(made, groups, receivers, strict=True):
        size = group.vectors.shape[1]
        shapes = (
            {(1, size), (len(who), size)} if declared(merge, "personal", False) else {(1, size)}
        )
        right = isinstance(rows, Tensor) and rows.dtype == torch.float32
        right = right and tuple(rows.shape) in shapes
        if not right or not bool(rows.isfinite().all()):
            raise PartError(
                f"The merge {part_name(merge)} did not return models in round {group.round}",
                got="NaN or infinite values" if right else kind_of(rows),
                allowed="finite float32 of shape "
                + " or ".join(str(list(shape)) for shape in sorted(shapes)),
            )
    return made
