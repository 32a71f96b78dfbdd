"""A model's change by its leading singular directions: what FedKD sends in the model's place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedfuse.exchange.models import AverageModels, ModelBank
from fedfuse.layout import Layout
from fedfuse.shapes import Float
from fedfuse.types import Fusion


@dataclass(frozen=True, slots=True)
class LowRank:
    """How a vector that is laid out as a model becomes a shorter one, and back.

    A tensor with more than one dimension is a matrix [a, b] of its first one and the rest. Of it
    travel ``U_r S_r`` [a, r] and ``V_r`` [r, b], r a share of its rank, where these are fewer
    numbers than the matrix; everything else travels as it is. The length is known beforehand.

    Args:
        layout: The model's.
        share: Of each matrix's min(a, b) directions, rounded up.
    """

    layout: Layout
    share: float

    def rank(self, shape: tuple[int, ...]) -> int:
        """Return r; 0 for a tensor that travels as it is.

        >>> LowRank(Layout(()), 0.25).rank((50, 784)), LowRank(Layout(()), 0.25).rank((50,))
        (13, 0)
        """
        if len(shape) < 2 or not math.prod(shape):
            return 0
        a, b = shape[0], math.prod(shape[1:])
        r = math.ceil(self.share * min(a, b))
        return r if r * (a + b) < a * b else 0

    @property
    def size(self) -> int:
        """Return how many numbers travel."""
        return sum(sum(self._sizes(shape)) for _, shape, _ in self.layout.entries)

    def shorten(self, vector: Float[Tensor, " N"]) -> Float[Tensor, " M"]:
        """Return what travels of a vector; of equal ones always the same."""
        parts = []
        whole = torch.split(vector, [math.prod(shape) for _, shape, _ in self.layout.entries])
        for (_, shape, _), part in zip(self.layout.entries, whole, strict=True):
            if not (r := self.rank(shape)):
                parts.append(part)
                continue
            u, s, vh = torch.linalg.svd(part.reshape(shape[0], -1).double(), full_matrices=False)
            parts += [(u[:, :r] * s[:r]).flatten().float(), vh[:r].flatten().float()]
        return torch.cat(parts)

    def restore(self, short: Float[Tensor, " M"]) -> Float[Tensor, " N"]:
        """Return the vector that what travelled stands for."""
        shapes = [shape for _, shape, _ in self.layout.entries]
        parts = iter(torch.split(short, [n for shape in shapes for n in self._sizes(shape)]))
        whole = []
        for shape in shapes:
            part = next(parts)
            if r := self.rank(shape):
                part = (part.view(-1, r) @ next(parts).view(r, -1)).flatten()
            whole.append(part)
        return torch.cat(whole)

    def _sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        r = self.rank(shape)
        return (shape[0] * r, r * math.prod(shape[1:])) if r else (math.prod(shape),)


@dataclass(frozen=True, slots=True)
class AverageChanges:
    """The mean of the clients' changes, shortened on the way there and on the way back.

    Args:
        average: How changes are averaged: as models are.
        codes: Architecture to how its changes are shortened.
    """

    average: AverageModels
    codes: Mapping[str, LowRank]

    def __call__(self, bank: ModelBank, round_: int) -> Fusion:
        """Return each client's mean change, shortened, and the shares in it."""
        ids = bank.client_ids.tolist()
        names = self.average.architectures
        vectors = [
            self.codes[names[i]].restore(short)
            for i, short in zip(ids, bank.vectors(), strict=True)
        ]
        fusion = self.average(ModelBank.of(ids, bank.num_examples.tolist(), vectors), round_)
        assert isinstance(fusion.teachers, ModelBank)
        down, made = fusion.teachers, dict[str, Tensor]()
        receivers = down.client_ids.tolist()
        for i, vector in zip(receivers, down.vectors(), strict=True):
            if names[i] not in made:  # the mean is one for all clients of an architecture
                made[names[i]] = self.codes[names[i]].shorten(vector)
        short = [made[names[i]] for i in receivers]
        return replace(fusion, teachers=ModelBank.of(receivers, [0] * len(receivers), short))
