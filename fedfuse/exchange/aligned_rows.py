"""A model shown to others with rows of its classifier made alike (weight aligning).

A classifier trained on skewed labels has long rows for frequent classes and short ones for rare
classes, so that it names the former too often. Weight aligning (arXiv 1911.07053) makes up for it
after training, in class-incremental learning: the new classes' rows are scaled as one. Scaling each
row to the mean length, for clients that hold all classes in unlike numbers, is ours.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedfuse.errors import ModelError, require
from fedfuse.fusion.estimators import mean_soft
from fedfuse.models.features import last_linear
from fedfuse.shapes import Bool, Float
from fedfuse.validation import require_count, require_flag, require_number


def row_factors(norms: Float[Tensor, " C"], tau: float = 1.0) -> Float[Tensor, " C"]:
    """Return ``(mean norm / norm)**tau`` for each row; 1 for a row of zeros.

    >>> row_factors(torch.tensor([3.0, 1.0]))
    tensor([0.6667, 2.0000])
    """
    empty = norms == 0
    return torch.where(empty, 1.0, (norms.mean() / norms.masked_fill(empty, 1.0)) ** tau)


def group_factors(
    norms: Float[Tensor, " C"], new: Sequence[int], tau: float = 1.0
) -> Float[Tensor, " C"]:
    """Return ``(mean norm of the other rows / of the new ones)**tau`` for new rows, 1 for others.

    1 for all where the new rows are zeros.

    >>> group_factors(torch.tensor([2.0, 4.0, 6.0]), new=[2])
    tensor([1.0000, 1.0000, 0.5000])
    """
    chosen = torch.zeros_like(norms, dtype=torch.bool)
    chosen[list(new)] = True
    theirs = norms[chosen].mean()
    gamma = 1.0 if theirs == 0 else (norms[~chosen].mean() / theirs) ** tau
    return torch.where(chosen, gamma, torch.ones_like(norms))


@dataclass(frozen=True, slots=True)
class AlignedRows:
    """Return a copy of a model whose classifier's rows are aligned; biases stay.

    Args:
        tau: How much of it: 0 shows the model as it is, 1 makes all rows equally long.
        new: Classes whose rows are scaled as one to the mean length of the others, as published;
            without any each row is scaled to the mean length of all.
        estimate: Whether the mean prediction of the model as it is goes with what is shown, 4C
            bytes: KnFu's estimated distribution is to be that of the client, not of what it shows.
        temperature: Of that mean prediction.
    """

    tau: float = 1.0
    new: Sequence[int] = ()
    estimate: bool = True
    temperature: float = 1.0
    needs_linear_head: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("AlignedRows", "tau", self.tau, at_least=0)
        listed = isinstance(self.new, Sequence) and not isinstance(self.new, str)
        require(listed, "AlignedRows", "new", self.new, "a list of classes, which may be empty")
        for class_id in self.new:
            require_count("AlignedRows", "new", class_id, at_least=0)
        require_flag("AlignedRows", "estimate", self.estimate)
        require_number("AlignedRows", "temperature", self.temperature, above=0)

    def __call__(self, model: nn.Module) -> nn.Module:
        """Return the copy.

        Raises:
            ModelError: If the model has no linear layer, or fewer or no other classes than ``new``.
        """
        # Parameters may be views of a matrix of all clients', which would be copied with each.
        own = {id(p): nn.Parameter(p.detach().clone()) for p in model.parameters()}
        shown = copy.deepcopy(model, dict(own))
        weight = last_linear(shown).weight
        if self.new and not (max(self.new) < len(weight) and len(set(self.new)) < len(weight)):
            raise ModelError(
                "AlignedRows scales the rows of classes that are not there, or of all classes",
                got=f"new = {list(self.new)} of {len(weight)} classes",
                allowed=f"some of the classes 0 to {len(weight) - 1}",
                next_step="Set exchange.shown.new=[] to scale each row by itself.",
            )
        with torch.no_grad():
            norms = weight.norm(dim=1)
            factors = (
                group_factors(norms, self.new, self.tau)
                if self.new
                else row_factors(norms, self.tau)
            )
            weight.mul_(factors.unsqueeze(1))
        return shown

    def told(
        self, logits: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None
    ) -> Float[Tensor, "K C"]:
        """Return what goes with it: the mean prediction of models as they are."""
        return mean_soft(logits, mask, self.temperature)
