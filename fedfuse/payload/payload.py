"""Knowledge of several clients: how it is joined, divided and counted, whatever it consists of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Self, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.payload.fields import ArrayField, flat_fields, schema


@dataclass(frozen=True, slots=True)
class Payload:
    """Knowledge of several clients, or for several, one row each in ascending order of their ids.

    Args:
        client_ids: int64 [K], ascending.
    """

    client_ids: Annotated[Tensor, ArrayField("K", torch.int64)]

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.client_ids)

    def to(self, device: torch.device | str) -> Self:
        """Return the same with every tensor on ``device``."""
        return map_tensors(
            self, lambda t: for_all(t[0].to(device), len(t)) if is_for_all(t) else t.to(device)
        )

    def rows(self, index: Tensor | slice) -> Self:
        """Return the clients at the positions ``index`` [k], in that order.

        A slice copies nothing, and nobody copies what is one row :func:`for_all`.
        """
        flat = flat_fields(type(self))
        chosen: dict[str, Tensor] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in flat:
                parts, order = self.split(f.name), torch.arange(self.num_clients)[index]
                chosen[f.name] = torch.cat([parts[row] for row in order.tolist()])
            elif isinstance(value, Tensor) and isinstance(index, Tensor) and is_for_all(value):
                chosen[f.name] = for_all(value[0], len(index))
            elif isinstance(value, Tensor):
                chosen[f.name] = value[index]
        return replace(self, **chosen)

    def split(self, name: str) -> list[Tensor]:
        """Return each client's part of a field that declares ``lengths``, as views."""
        lengths = getattr(self, flat_fields(type(self))[name])
        return list(torch.split(getattr(self, name), lengths.tolist()))

    def messages(self) -> Iterator[bytes]:
        """Yield what each client's part is worth on the wire, less what is the client's own."""
        flat = flat_fields(type(self))
        parts: list[Sequence[Tensor]] = []
        for name, declared in schema(type(self)).items():
            value = getattr(self, name)
            counts = isinstance(declared.field, ArrayField) and not declared.field.own
            if counts and not declared.addresses and value is not None:
                parts.append(self.split(name) if name in flat else value)
        for row in range(self.num_clients):
            yield b"".join(part[row].contiguous().numpy().tobytes() for part in parts)

    @classmethod
    def exchanged_bytes(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return the bytes of the exchanged knowledge: all but what addresses and names it.

        Those are per message, and results must not depend on how many clients share one.
        """
        fields = schema(cls)
        return sum(array.nbytes for name, array in arrays.items() if not fields[name].addresses)

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Join what several nodes sent into one, ordered by ``client_id``.

        Raises:
            KnowledgeError: If parts do not fit together.
        """
        return join_clients(cls, parts)


P = TypeVar("P", bound=Payload)


def for_all(row: Tensor, num_clients: int) -> Tensor:
    """Return what is the same for all clients, [K, ...], of one of them [...]: a view of it."""
    return row.expand(num_clients, *row.shape)


def is_for_all(tensor: Tensor) -> bool:
    """Tell whether the rows of several clients are one, as :func:`for_all` makes them.

    >>> is_for_all(for_all(torch.zeros(2), 3)), is_for_all(torch.zeros(3, 2))
    (True, False)
    """
    return tensor.ndim > 0 and len(tensor) > 1 and tensor.stride(0) == 0


def map_tensors(value: P, fn: Callable[[Tensor], Tensor]) -> P:
    """Return a copy of a payload with ``fn`` applied to each of its tensors."""
    changed = {
        f.name: fn(item)
        for f in fields(value)
        if isinstance(item := getattr(value, f.name), Tensor)
    }
    return replace(value, **changed)


def join_clients(cls: type[P], parts: Sequence[P]) -> P:
    """Concatenate the tensors of ``parts`` along the clients and sort by ``client_id``.

    Sorting is what makes every later reduction independent of the order in which nodes answered.
    """
    if not parts:
        raise KnowledgeError("No client answered, so there is nothing to stack")
    ids = torch.cat([part.client_ids for part in parts])
    order = None if bool((ids[1:] > ids[:-1]).all()) else torch.argsort(ids)
    values, counts = torch.unique(ids, return_counts=True)
    if bool((counts > 1).any()):
        raise KnowledgeError(
            "Two nodes answered for the same client",
            got=f"client ids {values[counts > 1].tolist()}",
        )
    flat = flat_fields(cls)
    joined: dict[str, Any] = {}
    for f in fields(cls):
        items = [getattr(part, f.name) for part in parts]
        present = [item for item in items if item is not None]
        if not present:
            joined[f.name] = None
        elif len(present) != len(items):
            raise KnowledgeError(
                f"Some clients sent '{f.name}' and others did not",
                next_step="Run the same configuration on every node.",
            )
        elif f.name in flat:
            each = [vector for part in parts for vector in part.split(f.name)]
            joined[f.name] = torch.cat(each if order is None else [each[i] for i in order.tolist()])
        elif isinstance(items[0], Tensor):
            shapes = {tuple(item.shape[1:]) for item in items}
            if len(shapes) != 1:
                raise KnowledgeError(
                    f"Clients sent '{f.name}' of different shapes", got=sorted(shapes)
                )
            together = items[0] if len(items) == 1 else torch.cat(items)
            joined[f.name] = together if order is None else together[order]
        elif any(item != items[0] for item in items):
            raise KnowledgeError(f"Clients disagree on '{f.name}'", got=items)
        else:
            joined[f.name] = items[0]
    return cls(**joined)
