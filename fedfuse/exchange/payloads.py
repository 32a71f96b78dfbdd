"""What travels where clients exchange something else than predictions.

Like every value that flows (:mod:`fedfuse.types`), a container holds several clients, stacked in
ascending order of ``client_id``, and has one type for both directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.stacking import join_clients, map_tensors


@dataclass(frozen=True, slots=True)
class ClassKnowledge:
    """One vector per class: mean logits (FD, D = C) or mean features (FedProto, D = d).

    Args:
        client_ids: int64 [K], ascending.
        values: float32 [K, C, D]; rows of classes that are not present are zero.
        present: bool [K, C], whether the sender has anything to say about the class.
        num_examples: int64 [K, C], the samples behind each row; None unless the method needs
            them, because they are the client's label histogram.
    """

    client_ids: Tensor
    values: Tensor
    present: Tensor
    num_examples: Tensor | None = None

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.client_ids)

    def to(self, device: torch.device | str) -> ClassKnowledge:
        """Return the same with every tensor on ``device``."""
        return map_tensors(self, lambda tensor: tensor.to(device))

    def rows(self, index: Tensor) -> ClassKnowledge:
        """Return the clients at the positions ``index`` [k], in that order."""
        return map_tensors(self, lambda tensor: tensor[index])

    def messages(self) -> list[Tensor]:
        """Return what each client's part of this is worth on the wire, uint8 [bytes]."""
        values = self.values.flatten(1).contiguous().view(torch.uint8)
        return list(torch.cat([values, self.present.to(torch.uint8)], dim=1))

    @classmethod
    def stack(cls, parts: Sequence[ClassKnowledge]) -> ClassKnowledge:
        """Join what several nodes sent, ordered by ``client_id``."""
        return join_clients(cls, parts)


@dataclass(frozen=True, slots=True)
class ModelBank:
    """Models as flat vectors, one after the other; they may be of different lengths.

    Args:
        client_ids: int64 [K], ascending.
        num_examples: int64 [K], private training samples.
        sizes: int64 [K], numbers per model.
        values: float32 [sum(sizes)], in the order of the clients; how a vector is laid out is
            :class:`fedfuse.exchange.layout.Layout`'s to say.
    """

    client_ids: Tensor
    num_examples: Tensor
    sizes: Tensor
    values: Tensor

    @property
    def num_clients(self) -> int:
        """Return K."""
        return len(self.client_ids)

    def vectors(self) -> list[Tensor]:
        """Return each client's vector, a view."""
        return list(torch.split(self.values, self.sizes.tolist()))

    def messages(self) -> list[Tensor]:
        """Return what each client's part of this is worth on the wire: its vector."""
        return self.vectors()

    @classmethod
    def of(
        cls, client_ids: Sequence[int], num_examples: Sequence[int], vectors: Sequence[Tensor]
    ) -> ModelBank:
        """Return the bank of these vectors, one per client."""
        return cls(
            client_ids=torch.tensor(client_ids),
            num_examples=torch.tensor(num_examples),
            sizes=torch.tensor([len(vector) for vector in vectors]),
            values=torch.cat(list(vectors)),
        )

    def to(self, device: torch.device | str) -> ModelBank:
        """Return the same with every tensor on ``device``."""
        return map_tensors(self, lambda tensor: tensor.to(device))

    def rows(self, index: Tensor) -> ModelBank:
        """Return the clients at the positions ``index`` [k], in that order."""
        vectors = self.vectors()
        return ModelBank(
            self.client_ids[index],
            self.num_examples[index],
            self.sizes[index],
            torch.cat([vectors[position] for position in index.tolist()]),
        )

    @classmethod
    def stack(cls, parts: Sequence[ModelBank]) -> ModelBank:
        """Join what several nodes sent, ordered by ``client_id``.

        >>> a = ModelBank.of([1], [10], [torch.tensor([1.0, 1.0])])
        >>> b = ModelBank.of([0], [20], [torch.tensor([0.0])])
        >>> ModelBank.stack([a, b]).values
        tensor([0., 1., 1.])
        """
        heads = join_clients(_Head, [_Head(p.client_ids, p.num_examples, p.sizes) for p in parts])
        owned = {
            client_id: vector
            for part in parts
            for client_id, vector in zip(part.client_ids.tolist(), part.vectors(), strict=True)
        }
        values = torch.cat([owned[client_id] for client_id in heads.client_ids.tolist()])
        return cls(heads.client_ids, heads.num_examples, heads.sizes, values)


@dataclass(frozen=True, slots=True)
class _Head:
    """The part of a :class:`ModelBank` that has one row per client."""

    client_ids: Tensor
    num_examples: Tensor
    sizes: Tensor
