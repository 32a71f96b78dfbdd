"""Layer swapping: some layers stay each client's own, the others are shared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError, ParameterError
from fedfuse.layout import Layout
from fedfuse.merge.mean import Mean
from fedfuse.merge.protocol import Vectors
from fedfuse.shapes import Float
from fedfuse.validation import require_number

STEM, HEAD = "stem", "head"
"""Patterns for the first and the last layer that has a matrix, with what normalises its outputs."""


@dataclass(frozen=True, slots=True)
class LayerSwap:
    """Own layers and shared ones (Bandarkar et al. 2024, arXiv 2410.01335; on clients as FedRep).

    The paper swaps the lowest and highest layers of two fine-tuned models; here each client swaps
    its own layers into the mean. A client that sent nothing keeps the own layers that it sent
    last; one that never did has the mean.

    Args:
        own: Patterns of layers that stay each client's own: ``stem``, ``head``, a module's name
            (``layers.0``), or a name with ``*``. None of them: the mean.
        transition: Patterns of layers that are between own and shared.
        transition_weight: How much a transition layer is the client's own, 0 to 1.
    """

    own: Sequence[str] = (HEAD,)
    transition: Sequence[str] = ()
    transition_weight: float = 0.5
    _kept: dict[str, dict[int, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    needs_base: ClassVar[bool] = False
    personal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("own", "transition"):
            words = getattr(self, name)
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise ParameterError("LayerSwap", name, words, "a list of patterns, such as [head]")
        require_number(
            "LayerSwap", "transition_weight", self.transition_weight, at_least=0, at_most=1
        )

    def misfit(self, layouts: Mapping[str, Layout]) -> str | None:
        """Return in words which pattern does not fit which architecture."""
        for architecture, layout in layouts.items():
            names = {name for name, *_ in layout.entries}
            for pattern in (*self.own, *self.transition):
                found = matched(pattern, layout)
                if not found:
                    layers = ", ".join(dict.fromkeys(_module(name) for name in sorted(names)))
                    return f"'{pattern}', which no layer of {architecture} is called ({layers})"
                if found == names:
                    return f"'{pattern}', which is every layer of {architecture}"
            both = self._names(self.own, layout) & self._names(self.transition, layout)
            if both:
                return f"{min(both)} of {architecture} as own and as a transition"
        return None

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "R N"]:
        """Return a row for each receiver."""
        share = self._own_share(models.layout).to(models.vectors.device)
        mean = Mean()(models, receivers)
        inside = share > 0
        kept = self._kept.setdefault(models.architecture, {})
        kept |= zip(models.client_ids.tolist(), models.vectors[:, inside], strict=True)
        rows = mean.repeat(len(receivers), 1)
        share = share[inside]
        for row, client in zip(rows, receivers.tolist(), strict=True):
            if client in kept:
                mixed = share * kept[client].double() + (1 - share) * row[inside].double()
                row[inside] = mixed.float()
        return rows

    def state(self) -> dict[str, Tensor]:
        """Return the layers that are clients' own, by architecture and client."""
        return {
            f"{architecture}/{client}": layers.clone()
            for architecture, kept in self._kept.items()
            for client, layers in kept.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned.

        Raises:
            FedfuseError: If it is something else.
        """
        self._kept.clear()
        for name, layers in state.items():
            architecture, slash, client = name.rpartition("/")
            if not slash or not client.isdecimal() or layers.ndim != 1:
                raise FedfuseError("The checkpoint holds no layers of clients", got=name)
            self._kept.setdefault(architecture, {})[int(client)] = layers.clone()

    def _own_share(self, layout: Layout) -> Float[Tensor, " N"]:
        """Return how much of each number is the client's own, float64."""
        own, between = self._names(self.own, layout), self._names(self.transition, layout)
        shares = [
            1.0 if name in own else self.transition_weight if name in between else 0.0
            for name, *_ in layout.entries
        ]
        sizes = torch.tensor([math.prod(shape) for _, shape, _ in layout.entries])
        return torch.tensor(shares, dtype=torch.float64).repeat_interleave(sizes)

    def _names(self, patterns: Sequence[str], layout: Layout) -> set[str]:
        return {name for pattern in patterns for name in matched(pattern, layout)}


def matched(pattern: str, layout: Layout) -> set[str]:
    """Return the names of the tensors that a pattern means.

    >>> from torch import nn
    >>> net = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2), nn.Linear(2, 2)))
    >>> sorted(matched("head", net)), sorted(matched("*.bias", net)), sorted(matched("1", net))
    (['2.bias', '2.weight'], ['0.bias', '1.bias', '2.bias'], ['1.bias', '1.weight'])
    """
    names = [name for name, *_ in layout.entries]
    found = {name for name in names if fnmatchcase(name, pattern) or name.startswith(f"{pattern}.")}
    if found or pattern not in (STEM, HEAD):
        return found
    layers = _layers(layout)
    return layers[0 if pattern == STEM else -1] if layers else set()


def _layers(layout: Layout) -> list[set[str]]:
    """Return the tensors of each layer: a module with a matrix, and those without one behind it."""
    modules: dict[str, set[str]] = {}
    matrices = set()
    for name, shape, _ in layout.entries:
        modules.setdefault(_module(name), set()).add(name)
        if len(shape) > 1:
            matrices.add(_module(name))
    layers: list[set[str]] = []
    for module, names in modules.items():
        if module in matrices or not layers:
            layers.append(names)
        else:
            layers[-1] |= names
    return layers


def _module(name: str) -> str:
    return name.rpartition(".")[0] or name
