"""What clients and server exchange in a method, and how large it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedfuse.errors import ConfigError
from fedfuse.payload import ArrayField, Payload
from fedfuse.payload.fields import schema
from fedfuse.types import Fusion
from fedfuse.wire.schema import Expectation

Combine = Callable[[Any, int], Fusion]
"""The server's half: what clients sent in a round (and its number) to what they get back."""


OF_METRICS = ("M", "O", "G")
"""Dimensions of the clients' metrics, which travel beside an exchange's own."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What travels up and down in a round.

    Args:
        upload: The payload that clients send.
        download: The payload that comes back.
        sizes: Size of each dimension of theirs that is neither K, P nor C; where a field declares
            lengths, one for each client, by client id.
        up: Names of the upload's fields that travel only if they are asked for, and are.
        down: The same of the download's.
        counted: Whether the bytes count as the method's; those of a bound that no federation
            could reach do not.
        pooled: Whether one client of each architecture trains for all, on everybody's data.

    Raises:
        ConfigError: If one of them is no payload, or a size is missing: what arrives is compared
            with what was asked for, so nothing may be as large as its sender likes.
    """

    upload: type[Payload]
    download: type[Payload]
    sizes: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    counted: bool = True
    pooled: bool = False
    up: frozenset[str] = frozenset()
    down: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for cls, asked in ((self.upload, self.up), (self.download, self.down)):
            declares = {
                name: declared.field
                for name, declared in schema(cls).items()
                if isinstance(declared.field, ArrayField)
            }
            if unknown := sorted(name for name in asked if not _may_be_asked(declares.get(name))):
                raise ConfigError(
                    f"The payload {cls.__name__} has no such fields to ask for",
                    got=", ".join(unknown),
                    allowed=", ".join(n for n, f in declares.items() if f.asked) or "none",
                )
            for name, field_ in declares.items():
                if not field_.asked or name in asked:
                    self._check(f"'{name}' of payload {cls.__name__}", field_)

    def expect(
        self,
        client_ids: tuple[int, ...],
        num_public: int,
        num_classes: int,
        *,
        down: bool = False,
    ) -> Expectation:
        """Return what must arrive from these clients, or ``down`` at them."""
        sizes = {
            dim: size if isinstance(size, int) else tuple(size[i] for i in client_ids)
            for dim, size in self.sizes.items()
        }
        asked = self.down if down else self.up
        return Expectation(client_ids, num_public, num_classes, sizes, asked)

    def _check(self, where: str, declared: ArrayField) -> None:
        wanted = int if declared.lengths is None else tuple
        for dim in declared.dims.split():
            if dim in OF_METRICS:
                raise ConfigError(
                    f"The dimension {dim} of {where} has the name of another",
                    allowed="any letter but K, P, C, M, O and G",
                )
            known = dim in ("K", "P", "C") or dim.isdigit()
            if not known and not isinstance(self.sizes.get(dim), wanted):
                per_client = "(...)  # one per client, by client id"
                raise ConfigError(
                    f"Nobody says how large the dimension {dim} of {where} is",
                    allowed=f'Kind(..., sizes={{"{dim}": {"8" if wanted is int else per_client}}})',
                )


def _may_be_asked(declared: ArrayField | None) -> bool:
    return declared is not None and declared.asked
