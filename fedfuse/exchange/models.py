"""Models go up, what is merged of them comes back: FedAvg and its kin.

What a vector holds is a :class:`fedfuse.layout.Layout`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import KnowledgeError
from fedfuse.fusion.weights import DENSE_BYTES
from fedfuse.layout import Layout
from fedfuse.merge import Base, Mean, Merge, Vectors, merged
from fedfuse.payload import COUNTS, NOT_NEGATIVE, ArrayField, Payload
from fedfuse.rng import Streams
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class ModelBank(Payload):
    """Models as flat vectors, one after the other; they may be of different lengths.

    Args:
        client_ids: int64 [K], ascending.
        num_examples: int64 [K], private training samples.
        sizes: int64 [K], numbers per model.
        values: float32 [sum(sizes)], in the order of the clients.

    >>> a = ModelBank.of([1], [10], [torch.tensor([1.0, 1.0])])
    >>> b = ModelBank.of([0], [20], [torch.tensor([0.0])])
    >>> ModelBank.stack([a, b]).values
    tensor([0., 1., 1.])
    """

    num_examples: Annotated[Tensor, ArrayField("K", torch.int64, COUNTS, own=True)]
    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    values: Annotated[Tensor, ArrayField("N", lengths="sizes")]

    def vectors(self) -> list[Tensor]:
        """Return each client's vector, a view."""
        return self.split("values")

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


@dataclass(frozen=True, slots=True)
class SharedModels(ModelBank):
    """Models that come back: what several clients get alike is held, and sent, once.

    Args:
        values: float32 [sum(sizes)], each model once; the size of whoever gets one that is there
            already is 0.
        like: int64 [K], the row whose model is this client's too; its own row where it is held.

    >>> mean = torch.tensor([1.0, 2.0])
    >>> sent = SharedModels.of([0, 3, 7], [0, 0, 0], [mean, torch.tensor([9.0]), mean])
    >>> sent.values, sent.sizes, sent.rows(torch.tensor([1, 2])).vectors()
    (tensor([1., 2., 9.]), tensor([2, 1, 0]), [tensor([9.]), tensor([1., 2.])])
    """

    values: Annotated[Tensor, ArrayField("N", lengths="sizes", may_be_empty=True)]
    like: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE, own=True)]

    def vectors(self) -> list[Tensor]:
        """Return each client's vector, a view; of the same model always the same tensor.

        Raises:
            KnowledgeError: If a client is to get a model that is not there.
        """
        like = self.like.tolist()
        held = sorted(set(like))
        there = held[-1] < len(like) and all(like[row] == row for row in held)
        if not there or int(self.sizes[held].sum()) != len(self.values):
            raise KnowledgeError("Models that came back are not there", got=f"rows {like[:20]}")
        parts = torch.split(self.values, self.sizes[held].tolist())
        models = dict(zip(held, parts, strict=True))
        return [models[row] for row in like]

    def rows(self, index: Tensor | slice) -> SharedModels:
        """Return the clients at the positions ``index`` [k], in that order."""
        vectors = self.vectors()
        chosen = [vectors[row] for row in torch.arange(self.num_clients)[index].tolist()]
        return self.of(self.client_ids[index], self.num_examples[index], chosen)

    @classmethod
    def of(
        cls,
        client_ids: Sequence[int] | Tensor,
        num_examples: Sequence[int] | Tensor,
        vectors: Sequence[Tensor],
    ) -> SharedModels:
        """Return the models of these clients; one tensor is one model, whoever gets it."""
        first: dict[int, int] = {}
        like = [first.setdefault(id(vector), row) for row, vector in enumerate(vectors)]
        held = [vectors[row] for row in first.values()]
        sizes = [len(v) if like[row] == row else 0 for row, v in enumerate(vectors)]
        return cls(
            client_ids=torch.as_tensor(client_ids),
            num_examples=torch.as_tensor(num_examples),
            sizes=torch.tensor(sizes, dtype=torch.int64),
            values=torch.cat(held) if len(held) > 1 else held[0],
            like=torch.tensor(like, dtype=torch.int64),
        )

    @classmethod
    def exchanged_bytes(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> int:
        """Return the bytes of the models, one for each client, and of their samples."""
        models = arrays["values"].itemsize * int(arrays["sizes"][arrays["like"]].sum())
        return models + arrays["num_examples"].nbytes


@dataclass(frozen=True, slots=True)
class AverageModels:
    """FedAvg: the mean of the models that came, within each architecture; or another merge of them.

    Every client of an architecture gets what was made, also one that did not take part in the
    round: nobody goes on from a model that is out of date. Buffers are averaged whatever the merge.

    Args:
        architectures: Each client's architecture, by client id.
        layouts: Architecture to how its models are laid out.
        by_samples: Weigh models by their clients' private samples (FedAvg) instead of equally.
        merge: What becomes of parameters.
        base: What the models began from, for a merge that needs it. Where there is none yet, the
            models are averaged.
        streams: The run's random streams, for a merge that draws.
        predict: What models of an architecture (its name, vectors with their buffers, how many
            samples) predict of public samples, for a merge that asks.
    """

    architectures: tuple[str, ...]
    layouts: Mapping[str, Layout]
    by_samples: bool = True
    merge: Merge = Mean()  # noqa: RUF009 - frozen
    base: Base | None = None
    streams: Streams = Streams(0)  # noqa: RUF009 - frozen
    predict: Callable[[str, Tensor, int], Tensor] | None = None

    def __call__(self, bank: ModelBank, round_: int) -> Fusion:
        """Return each client's merged model and the shares in its architecture's mean.

        Of personal merges that is the mean from which they begin, not what they keep of a
        receiver's own model or take from other architectures.
        """
        groups = self._groups(bank, round_)
        if not groups:
            raise KnowledgeError(
                f"No model arrived in round {round_} that could be averaged",
                got=f"models of {bank.num_clients} clients, all without weight",
            )
        who = [torch.tensor(self._clients(group.architecture)) for group in groups]
        merge = self._merge_of(groups)
        parameters = merged(merge, [self._parameters(group) for group in groups], who)
        models: dict[int, Tensor] = {}
        shares: list[tuple[Tensor, Vectors, Tensor]] = []
        for group, ids, rows in zip(groups, who, parameters, strict=True):
            if self.base is not None:
                self.base.note(group.architecture, rows)
            made = self._with_buffers(group, rows)
            each = made if len(made) == len(ids) else [made[0]] * len(ids)
            models |= zip(ids.tolist(), each, strict=True)
            share = group.weights.float()
            if not declared(merge, "by_weights", True):
                share = torch.full_like(share, 1 / len(share))
            shares.append((ids, group, share))
        receivers = torch.tensor(sorted(models))
        down = SharedModels.of(
            receivers, torch.zeros_like(receivers), [models[i] for i in sorted(models)]
        )
        return Fusion(down, _shares(receivers, shares))

    def _clients(self, architecture: str) -> list[int]:
        return [i for i, own in enumerate(self.architectures) if own == architecture]

    def _groups(self, bank: ModelBank, round_: int) -> list[Vectors]:
        """Return the models of each architecture of which any has weight, buffers and all."""
        senders, vectors = bank.client_ids.tolist(), bank.vectors()
        sizes = bank.num_examples if self.by_samples else torch.ones(len(senders))
        groups = []
        for name, layout in self.layouts.items():
            rows = [row for row, i in enumerate(senders) if self.architectures[i] == name]
            own = sizes[rows].double()
            if float(own.sum()) == 0:
                continue
            base = None if self.base is None else self.base.of(name)
            models, ids = torch.stack([vectors[row] for row in rows]), bank.client_ids[rows]
            ask = None if self.predict is None else partial(self.predict, name, models)
            told = layout, name, round_, self.streams, float(own.sum()), ask
            groups.append(Vectors(ids, models, own / own.sum(), base, *told))
        return groups

    def _parameters(self, group: Vectors) -> Vectors:
        if not group.layout.buffers:
            return group
        vectors = group.vectors[:, ~group.layout.in_buffers()]
        return replace(group, vectors=vectors, layout=group.layout.part(buffers=False))

    def _merge_of(self, groups: Sequence[Vectors]) -> Merge:
        """Return the merge; the mean where it needs a base and there is none yet."""
        begins = declared(self.merge, "needs_base", False) and any(g.base is None for g in groups)
        return Mean() if begins else self.merge

    def _with_buffers(self, group: Vectors, rows: Tensor) -> Tensor:
        """Return merged models with the mean of the buffers in their places."""
        if not group.layout.buffers:
            return rows
        inside = group.layout.in_buffers()
        buffers = replace(
            group, vectors=group.vectors[:, inside], layout=group.layout.part(buffers=True)
        )
        whole = rows.new_empty(len(rows), len(inside))
        whole[:, ~inside] = rows
        whole[:, inside] = Mean()(buffers, group.client_ids)
        return whole


def _shares(receivers: Tensor, groups: Sequence[tuple[Tensor, Vectors, Tensor]]) -> Tensor:
    """Return who counts how much in whose mean, [R, R]; sparse where that is too large to hold.

    Args:
        receivers: All that get a model, ascending.
        groups: Of each architecture who gets its model, whose models it is made of, and their
            shares in its mean.
    """
    size = len(receivers)
    if 4 * size**2 <= DENSE_BYTES:
        shares = torch.zeros(size, size)
        for ids, group, share in groups:
            rows, columns = (torch.searchsorted(receivers, who) for who in (ids, group.client_ids))
            shares[rows.unsqueeze(1), columns] = share
        return shares
    found = [
        torch.cartesian_prod(*(torch.searchsorted(receivers, w) for w in (ids, group.client_ids)))
        for ids, group, _ in groups
    ]
    values = torch.cat([share.repeat(len(ids)) for ids, _, share in groups])
    in_order = len(groups) == 1
    sparse = torch.sparse_coo_tensor(
        torch.cat(found).T,
        values,
        (size, size),
        is_coalesced=in_order or None,
        check_invariants=False,
    )
    return sparse if in_order else sparse.coalesce()
