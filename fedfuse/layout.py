"""A model as one flat vector of float32, and back.

What is laid out is a conscious choice: all parameters (those of GroupNorm and BatchNorm layers
among them), and the buffers if they are to travel. A BatchNorm's running mean and variance are
buffers: averaging them mixes the clients' statistics, leaving them out keeps each client's own.
GroupNorm has none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedfuse.shapes import Bool, Float


@dataclass(frozen=True, slots=True)
class Layout:
    """Names, shapes and types of what travels, in the order of the model's own state.

    Args:
        entries: Name, shape and dtype of each tensor.
        buffers: Names of those that are no parameters.
    """

    entries: tuple[tuple[str, tuple[int, ...], torch.dtype], ...]
    buffers: frozenset[str] = frozenset()

    @classmethod
    def of(cls, model: nn.Module, *, buffers: bool = True) -> Layout:
        """Return the layout of a model, with or without its buffers.

        >>> Layout.of(nn.BatchNorm1d(2)).size, Layout.of(nn.BatchNorm1d(2), buffers=False).size
        (9, 4)
        """
        parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        entries = tuple(
            (name, tuple(value.shape), value.dtype)
            for name, value in model.state_dict().items()
            if buffers or name in parameters
        )
        return cls(entries, frozenset(name for name, *_ in entries) - parameters)

    @property
    def size(self) -> int:
        """Return how many numbers the vector has."""
        return sum(math.prod(shape) for _, shape, _ in self.entries)

    def part(self, *, buffers: bool) -> Layout:
        """Return the layout of the buffers alone, or of the parameters alone.

        >>> Layout.of(nn.BatchNorm1d(2)).part(buffers=True).size
        5
        """
        kept = tuple(entry for entry in self.entries if (entry[0] in self.buffers) is buffers)
        return Layout(kept, self.buffers if buffers else frozenset())

    def in_buffers(self) -> Bool[Tensor, " N"]:
        """Return which numbers of a vector are of buffers."""
        sizes = torch.tensor([math.prod(shape) for _, shape, _ in self.entries])
        return torch.tensor([name in self.buffers for name, *_ in self.entries]).repeat_interleave(
            sizes
        )

    def flatten(self, model: nn.Module) -> Float[Tensor, " N"]:
        """Return a copy of the model's state as one vector, on the CPU.

        Whole numbers (a BatchNorm's count of batches) travel as float32, exact to 2**24.
        """
        state = model.state_dict()
        return self.pack({name: state[name].detach().cpu() for name, *_ in self.entries})

    def pack(self, tensors: Mapping[str, Tensor]) -> Float[Tensor, " N"]:
        """Return tensors, by name, as one vector: what :meth:`unflatten` takes apart."""
        return torch.cat([tensors[name].reshape(-1).float() for name, *_ in self.entries])

    def unflatten(self, vector: Float[Tensor, " N"]) -> dict[str, Tensor]:
        """Return the tensors that a vector holds, by name."""
        sizes = [math.prod(shape) for _, shape, _ in self.entries]
        return {
            name: part.reshape(shape).to(dtype)
            for (name, shape, dtype), part in zip(
                self.entries, torch.split(vector, sizes), strict=True
            )
        }

    def load(self, model: nn.Module, vector: Float[Tensor, " N"]) -> None:
        """Write a vector into a model, in place; what the layout leaves out stays as it is."""
        state = model.state_dict()
        with torch.no_grad():
            for name, value in self.unflatten(vector).items():
                state[name].copy_(value)
