"""Values of several clients put together: one row per client, in ascending order of its id."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.errors import KnowledgeError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)

    class _OfClients(DataclassInstance, Protocol):
        @property
        def client_ids(self) -> Tensor: ...

    Stacked = TypeVar("Stacked", bound=_OfClients)


def map_tensors(value: T, fn: Callable[[Tensor], Tensor]) -> T:
    """Return a copy of the dataclass ``value`` with ``fn`` applied to each of its tensors."""
    changed = {
        f.name: fn(item)
        for f in fields(value)
        if isinstance(item := getattr(value, f.name), Tensor)
    }
    return replace(value, **changed)


def join_clients(cls: type[Stacked], parts: Sequence[Stacked]) -> Stacked:
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


def as_wide(bits: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return rows of bits with zeros behind, all as wide as the widest; None if any is missing."""
    there = [item for item in bits if item is not None]
    if len(there) < len(bits):
        return [None] * len(bits)
    width = max(item.shape[1] for item in there)
    return [functional.pad(item, (0, width - item.shape[1])) for item in there]
