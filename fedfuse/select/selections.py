"""Choose the public samples of a round: ascending indices [m] out of P."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError, ParameterError
from fedfuse.shapes import Int
from fedfuse.validation import require_count, require_number


def random_subset(num_public: int, size: int, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Return ``size`` different indices, each set of them as likely as any other."""
    return torch.randperm(num_public, generator=generator)[:size].sort().values


def class_balanced(
    labels: Int[Tensor, " P"], size: int, generator: torch.Generator
) -> Int[Tensor, " m"]:
    """Return ``size`` indices with as equal a number of every class as the set allows.

    Class sizes differ by at most one, except that a class which runs out gives all it has. Which
    samples are taken, and which classes give the odd ones, is drawn.

    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 2, 2, 2])
    >>> chosen = class_balanced(labels, 5, torch.Generator().manual_seed(0))
    >>> labels[chosen].bincount()
    tensor([2, 1, 2])
    """
    order = torch.randperm(len(labels), generator=generator)
    labels = labels.to(order.device)
    num_classes = int(labels.max()) + 1
    # Take the first of every class, then the second of every class, and so on.
    grouped = order[labels[order].argsort(stable=True)]
    counts = labels.bincount(minlength=num_classes)
    turn = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[grouped]]
    tie_break = torch.randperm(num_classes, generator=generator)[labels[grouped]]
    chosen = grouped[(turn * num_classes + tie_break).argsort()[:size]]
    return chosen.sort().values


def stratified(
    labels: Int[Tensor, " P"], size: int, generator: torch.Generator
) -> Int[Tensor, " m"]:
    """Return ``size`` different indices that hold every class in the proportion of the whole set.

    A class gets its share rounded down, and what is left goes to the largest remainders, of equals
    to those that are drawn.

    >>> labels = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2])
    >>> labels[stratified(labels, 5, torch.Generator().manual_seed(0))].bincount()
    tensor([3, 1, 1])
    """
    order = torch.randperm(len(labels), generator=generator)
    labels = labels.to(order.device)
    counts = labels.bincount()
    quota, remainder = size * counts // len(labels), size * counts % len(labels)
    tie_break = torch.randperm(len(counts), generator=generator)
    first = (-remainder * len(counts) + tie_break).argsort()[: size - int(quota.sum())]
    quota[first] += 1
    grouped = order[labels[order].argsort(stable=True)]
    turn = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[grouped]]
    return grouped[turn < quota[labels[grouped]]].sort().values


@dataclass(frozen=True, slots=True)
class All:
    """Share predictions on every public sample in every round."""

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        num_public: int,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
        generator: torch.Generator,  # noqa: ARG002
    ) -> Int[Tensor, " m"]:
        """Return all indices."""
        return torch.arange(num_public)


@dataclass(frozen=True, slots=True)
class RandomSubset:
    """Draw a new subset for each round (DS-FL, SCARLET).

    Args:
        size: m, public samples a round.
    """

    size: int = 250

    def __post_init__(self) -> None:
        require_count("RandomSubset", "size", self.size)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        num_public: int,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
        generator: torch.Generator,
    ) -> Int[Tensor, " m"]:
        """Return the indices of the round.

        Raises:
            ParameterError: If the public set is smaller than ``size``.
        """
        _require_enough("RandomSubset", self.size, num_public)
        return random_subset(num_public, self.size, generator)


@dataclass(frozen=True, slots=True)
class ClassBalanced:
    """Draw a new subset with equal classes for each round.

    Args:
        size: m, public samples a round.
    """

    size: int = 250
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("ClassBalanced", "size", self.size)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        num_public: int,
        labels: Int[Tensor, " P"] | None,
        generator: torch.Generator,
    ) -> Int[Tensor, " m"]:
        """Return the indices of the round.

        Raises:
            ParameterError: If the public set is smaller than ``size``.
            KnowledgeError: If nobody knows the public labels.
        """
        _require_enough("ClassBalanced", self.size, num_public)
        if labels is None:
            raise KnowledgeError(
                "A class-balanced selection needs the labels of the public set; there are none",
                next_step="Choose select=random, which needs none.",
            )
        return class_balanced(labels, self.size, generator)


@dataclass(frozen=True, slots=True)
class Stratified:
    """Draw a new subset with the classes' own proportions for each round (FedMD).

    Args:
        fraction: Share of the public set, above 0 and at most 1; one sample at least.
    """

    fraction: float = 0.5
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Stratified", "fraction", self.fraction, above=0, at_most=1)

    def __call__(
        self,
        round: int,  # noqa: A002, ARG002
        num_public: int,
        labels: Int[Tensor, " P"] | None,
        generator: torch.Generator,
    ) -> Int[Tensor, " m"]:
        """Return the indices of the round.

        Raises:
            KnowledgeError: If nobody knows the public labels.
        """
        if labels is None:
            raise KnowledgeError(
                "A stratified selection needs the labels of the public set; there are none",
                next_step="Choose select=random, which needs none.",
            )
        return stratified(labels, max(1, round_half_up(self.fraction * num_public)), generator)


def round_half_up(value: float) -> int:
    """Return the nearest integer, of two the larger.

    >>> round_half_up(2.5), round_half_up(0.4)
    (3, 0)
    """
    return math.floor(value + 0.5)


def _require_enough(owner: str, size: int, num_public: int) -> None:
    """Raise unless there are as many public samples as are asked for."""
    if size > num_public:
        raise ParameterError(
            owner, "size", size, f"at most the {num_public} samples of the public set"
        )
