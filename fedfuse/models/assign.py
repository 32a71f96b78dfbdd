"""Which client runs which architecture: one for all, a cycle, a table or tiers.

Each plan satisfies :class:`fedfuse.protocols.ModelPlan`. Architectures go by name, and equal
names mean equal architectures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from fedfuse.errors import ModelError, did_you_mean, require
from fedfuse.models.factory import as_factory, target_name
from fedfuse.protocols import ModelFactory
from fedfuse.validation import require_count


@dataclass(frozen=True, slots=True)
class Same:
    """One architecture for all clients.

    Args:
        factory: Anything that :func:`~fedfuse.models.factory.as_factory` accepts.
        architecture: Its name; the factory's own name if left out.
    """

    factory: ModelFactory
    architecture: str = ""

    def __post_init__(self) -> None:
        name = self.architecture or target_name(self.factory)
        object.__setattr__(self, "factory", as_factory(self.factory))
        object.__setattr__(self, "architecture", name)

    def name(self, client_id: int) -> str:  # noqa: ARG002 - every client has the same
        """Return the architecture's name."""
        return self.architecture

    def build(self, client_id: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:  # noqa: ARG002
        """Build the client's model with freshly drawn weights."""
        return self.factory(input_shape, num_classes)


@dataclass(frozen=True, slots=True)
class Cycle:
    """Deal the architectures out in turn: client k runs number k modulo their count.

    Args:
        factories: Name to factory, in the order in which they are dealt.
    """

    factories: Mapping[str, ModelFactory]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factories", adapted("Cycle", "factories", self.factories))

    def name(self, client_id: int) -> str:
        """Return the name of the client's architecture."""
        return list(self.factories)[client_id % len(self.factories)]

    def build(self, client_id: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Build the client's model with freshly drawn weights."""
        return self.factories[self.name(client_id)](input_shape, num_classes)


@dataclass(frozen=True, slots=True)
class Table:
    """Say for each client by hand what it runs.

    Args:
        factories: Name to factory.
        table: Names in order of the client ids, or client id to name.
    """

    factories: Mapping[str, ModelFactory]
    table: Mapping[int, str] | Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "factories", adapted("Table", "factories", self.factories))
        entries: dict[object, str] = {}
        if isinstance(self.table, Mapping):
            entries.update(self.table.items())
        elif isinstance(self.table, Sequence) and not isinstance(self.table, str):
            entries.update(enumerate(self.table))
        ok = len(entries) > 0 and all(str(key).isdecimal() for key in entries)
        allowed = "a list of names, or client ids with their names"
        require(ok, "Table", "table", self.table, allowed)
        table = {int(str(key)): name for key, name in entries.items()}
        for name in table.values():
            if name not in self.factories:
                near = did_you_mean(str(name), self.factories)
                raise ModelError(
                    "The model table names an architecture that does not exist",
                    got=repr(name),
                    allowed=", ".join(self.factories),
                    next_step=f"Did you mean '{near}'?" if near else None,
                )
        object.__setattr__(self, "table", table)

    def name(self, client_id: int) -> str:
        """Return the name of the client's architecture."""
        if client_id not in self.table:
            raise ModelError(
                f"The model table has no entry for client {client_id}",
                got=f"entries for {len(self.table)} clients",
                next_step="Give one name for each of the num_clients clients in model.table.",
            )
        return self.table[client_id]

    def build(self, client_id: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Build the client's model with freshly drawn weights."""
        return self.factories[self.name(client_id)](input_shape, num_classes)


@dataclass(frozen=True, slots=True)
class Tiers:
    """Give the first share of the clients the first architecture, the next share the second, ...

    A tier ends at its cumulative share of ``num_clients``, rounded to the nearest client (a half
    goes up); with few clients a small share can come out empty.

    Args:
        factories: Name to factory, one per tier.
        num_clients: K.
        shares: One share of the clients per tier, summing to 1; None makes them equal.
    """

    factories: Mapping[str, ModelFactory]
    num_clients: int
    shares: Sequence[float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "factories", adapted("Tiers", "factories", self.factories))
        require_count("Tiers", "num_clients", self.num_clients)
        count = len(self.factories)
        shares = [1 / count] * count if self.shares is None else self.shares
        ok = (
            isinstance(shares, Sequence)
            and len(shares) == count
            and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in shares)
            and all(0 <= share <= 1 for share in shares)
            and abs(sum(shares) - 1) < 1e-6
        )
        allowed = f"{count} numbers from 0 to 1 that sum to 1, one per architecture"
        require(ok, "Tiers", "shares", self.shares, allowed)
        object.__setattr__(self, "shares", tuple(float(share) for share in shares))

    def name(self, client_id: int) -> str:
        """Return the name of the client's architecture."""
        if not 0 <= client_id < self.num_clients:
            raise ModelError(
                f"The model tiers have no place for client {client_id}",
                got=f"num_clients = {self.num_clients}",
                allowed=f"client ids 0 to {self.num_clients - 1}",
            )
        names = list(self.factories)
        total = 0.0
        for name, share in zip(names, self.shares or (), strict=True):
            total += share
            # The small term keeps a half a half where the shares are not exact in binary.
            if client_id < math.floor(total * self.num_clients + 0.5 + 1e-9):
                return name
        return names[-1]

    def build(self, client_id: int, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
        """Build the client's model with freshly drawn weights."""
        return self.factories[self.name(client_id)](input_shape, num_classes)


def adapted(
    owner: str, name: str, factories: Mapping[str, ModelFactory]
) -> dict[str, ModelFactory]:
    """Return the factories of a plan, each adapted to its target's signature."""
    ok = isinstance(factories, Mapping) and len(factories) > 0
    require(ok, owner, name, factories, "names with their model factories, at least one")
    return {str(name): as_factory(factory) for name, factory in factories.items()}
