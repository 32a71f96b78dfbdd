"""What is measured of clients, and what a round leaves behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.failure import Failure
from fedfuse.payload import ArrayField, Payload, TextField
from fedfuse.payload.fields import OR_NAN
from fedfuse.payload.payload import join_clients


class Phase(StrEnum):
    """When in a round a metric was taken."""

    LOCAL = "local"
    """After local training, before any knowledge came back."""
    FUSE = "fuse"
    """On the server, while fusing."""
    FUSED = "fused"
    """After the client has distilled its teacher (for a method without one: at the same moment)."""
    ASIDE = "aside"
    """As ``fused``, of clients or in rounds that means leave out (``evaluation.resting``)."""
    PROBED = "probed"
    """At the end of a round, in answer to ``evaluation.probes``."""
    SPENT = "spent"
    """In the whole round: what the client's training has cost."""


MOST_BITS = 2**20
"""The most bytes that say which tests are right: a bit each of 8 million."""


@dataclass(frozen=True, slots=True)
class ClientMetrics(Payload):
    """Metrics of several clients at one moment, as a dense table.

    Args:
        client_ids: int64 [K], ascending.
        names: M metric names.
        values: float64 [K, M].
        right_own: uint8 [K, bytes], which samples of its own test set each client gets right, a
            bit each in their order, zeros behind the last; None unless they were asked for.
        right_global: The same of the balanced test set.
    """

    names: Annotated[tuple[str, ...], TextField(dim="M")]
    values: Annotated[Tensor, ArrayField("K M", torch.float64, OR_NAN)]
    right_own: Annotated[Tensor | None, ArrayField("K O", torch.uint8, most=MOST_BITS)] = None
    right_global: Annotated[Tensor | None, ArrayField("K G", torch.uint8, most=MOST_BITS)] = None

    @classmethod
    def stack(cls, parts: Sequence[ClientMetrics]) -> ClientMetrics:
        """Join the metrics of several nodes into one table, ordered by ``client_id``.

        A metric that all clients of one node lack is NaN for them. Bits are kept if every node
        sent them, the shorter rows with zeros behind.
        """
        names = tuple(sorted({name for part in parts for name in part.names}))
        aligned = [part.aligned(names) for part in parts]
        own = _as_wide([part.right_own for part in parts])
        both = _as_wide([part.right_global for part in parts])
        aligned = [
            replace(part, right_own=mine, right_global=whole)
            for part, mine, whole in zip(aligned, own, both, strict=True)
        ]
        return join_clients(cls, aligned)

    def without(self, names: Collection[str]) -> ClientMetrics | None:
        """Return the table without some columns; None if nothing is left."""
        kept = tuple(name for name in self.names if name not in names)
        return self.aligned(kept) if kept else None

    def aligned(self, names: tuple[str, ...]) -> ClientMetrics:
        """Return the table with the columns ``names``; those it has no values for are NaN."""
        if names == self.names:
            return self
        values = torch.full((len(self.client_ids), len(names)), torch.nan, dtype=torch.float64)
        for column, name in enumerate(names):
            if name in self.names:
                values[:, column] = self.values[:, self.names.index(name)]
        return replace(self, names=names, values=values)


def _as_wide(bits: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return rows of bits with zeros behind, all as wide as the widest; None if any is missing."""
    there = [item for item in bits if item is not None]
    if len(there) < len(bits):
        return [None] * len(bits)
    width = max(item.shape[1] for item in there)
    return [functional.pad(item, (0, width - item.shape[1])) for item in there]


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One tidy row of ``metrics.parquet``; ``client_id`` is -1 for the federation as a whole."""

    round: int
    client_id: int
    phase: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """Everything one round left behind.

    ``metrics`` are reproducible to the bit; ``seconds`` (phase name to wall time) are not and are
    kept apart for that reason. ``failures`` names the clients the round went on without;
    ``model`` holds the weights of the server's own model, if it has one. ``right`` holds, after the
    last round, which test samples every client gets right: per test metric (``accuracy_own``,
    ``accuracy_global``) uint8 [K, bytes], a bit a sample; zeros for clients that were not tested.
    ``weights`` [k, k] are those of the k clients that were fused, ``weight_clients`` int64 [k] who
    they are, ascending; None for all of them, k = K. Where weights differ by class they are the
    mean over the classes, and ``class_shares`` [k, C] says how much each source counted for each
    class, the mean over the receivers.
    """

    round: int
    metrics: tuple[MetricRow, ...]
    weights: Tensor | None
    seconds: dict[str, float] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    model: Mapping[str, Tensor] | None = None
    right: Mapping[str, Tensor] | None = None
    weight_clients: Tensor | None = None
    class_shares: Tensor | None = None
