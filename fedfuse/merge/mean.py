"""FedAvg's merge: the mean of the models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.merge.protocol import Vectors
from fedfuse.shapes import Float


def weighted_average(
    states: Sequence[Mapping[str, Tensor]], shares: Float[Tensor, " K"]
) -> dict[str, Tensor]:
    """Return ``sum_k w_k state_k`` (FedAvg, McMahan et al. 2017, with w_k = n_k / n).

    Sums are taken in float64, in the order given: sort by ``client_id`` first. Whole numbers, such
    as a batch norm's count of batches, are rounded.

    Args:
        states: K states of one architecture, tensors by name.
        shares: From 0 upwards, of sum 1.

    >>> a, b = {"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([4.0, 6.0])}
    >>> weighted_average([a, b], torch.tensor([0.75, 0.25]))
    {'w': tensor([1.7500, 1.5000])}
    """
    return {name: _mean([state[name] for state in states], shares.double()) for name in states[0]}


def _mean(tensors: Sequence[Tensor], shares: Float[Tensor, " K"]) -> Tensor:
    """Return the weighted mean in the tensors' own type."""
    stacked = torch.stack(list(tensors)).double()
    mean = torch.einsum("k,k...->...", shares.to(stacked.device), stacked)
    first = tensors[0]
    return (mean if first.is_floating_point() else mean.round()).to(first.dtype)


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of the models by their weights: FedAvg."""

    needs_base: ClassVar[bool] = False

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "1 N"]:  # noqa: ARG002
        """Return one row for all, each tensor averaged in its own type."""
        states = [models.layout.unflatten(vector) for vector in models.vectors]
        return models.layout.pack(weighted_average(states, models.weights)).unsqueeze(0)
