"""Accuracy by how far a test sample is from the nearest public one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.probes.protocol import Asked

QUARTILES = 4


def nearest(inputs: Tensor, public: Tensor, *, rows: int = 256) -> Tensor:
    """Return how far each input [n, ...] is from the nearest public one, L2, float32 [n].

    >>> nearest(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [3.0]])).tolist()
    [1.0, 2.0]
    """
    others = public.flatten(1)
    parts = torch.split(inputs.flatten(1), rows)  # so that never all distances are held
    return torch.cat([torch.cdist(part, others).min(dim=1).values for part in parts])


def by_quartile(distances: Tensor, values: Tensor) -> list[float]:
    """Return the mean of each quarter of the samples, the nearest first; NaN of an empty one.

    Args:
        distances: [n]; of equal ones the first sample counts as nearer.
        values: [n].

    >>> by_quartile(torch.tensor([2.0, 1.0, 4.0, 3.0]), torch.tensor([3.0, 4.0, 1.0, 2.0]))
    [4.0, 3.0, 2.0, 1.0]
    """
    order = torch.argsort(distances, stable=True)
    quarters = torch.tensor_split(values.double()[order], QUARTILES)
    return [float(quarter.mean()) for quarter in quarters]


@dataclass(frozen=True, slots=True)
class ByDistance:
    """Tell apart test samples that lie near the public set and those that lie far from it.

    What an arm has more than another is its gain by distance. After the study of unseen links by
    Sakai et al. 2023 (https://arxiv.org/abs/2311.09109); this form is ours.
    """

    needs_numbers: ClassVar[bool] = True
    """Of texts nothing can be calculated."""

    def __call__(
        self,
        model: Asked,
        inputs: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> dict[str, float]:
        """Return accuracy and mean distance of each quarter, ``_1`` the nearest."""
        right = (model.predict(inputs).argmax(dim=1) == labels).double()
        distances = nearest(inputs, model.public)
        found = {"accuracy_distance": right, "distance": distances}
        return {
            f"{name}_{number}": value
            for name, values in found.items()
            for number, value in enumerate(by_quartile(distances, values), start=1)
        }
