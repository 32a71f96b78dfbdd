"""FCCL+: how like each other a model finds the samples of a batch, matched with all clients'."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from fedfuse.distill.relations import neighbourhoods
from fedfuse.shapes import Float


def similarities(features: Float[Tensor, "*batch m d"], width: int) -> Float[Tensor, "*batch m D"]:
    """Return the cosine of every two samples' features, with zeros behind up to ``width`` columns.

    >>> similarities(torch.tensor([[3.0, 4.0], [0.0, 2.0]]), width=3)
    tensor([[1.0000, 0.8000, 0.0000],
            [0.8000, 1.0000, 0.0000]])
    """
    unit = normalize(features, dim=-1)
    return pad(unit @ unit.mT, (0, width - features.shape[-2]))


@dataclass(frozen=True, slots=True)
class InstanceSimilarity:
    """``weight KL(mean || own)`` of each sample's softmax over the others of its batch.

    Of cosines over tau (Huang et al. 2023, arXiv 2309.16286, as their code has it).

    Args:
        weight: Of the divergence.
        tau: Temperature of the cosines.
    """

    weight: float
    tau: float

    def __call__(
        self, features: Float[Tensor, "B d"], told: Float[Tensor, "B E"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss.

        Args:
            features: Of the batch.
            told: Of each sample its mean cosine with each of the round, then its position among
                them.
        """
        among = told[:, -1].long()
        unit = normalize(features, dim=-1)
        theirs = told.index_select(1, among)
        return self.weight * neighbourhoods(unit @ unit.mT / self.tau, theirs / self.tau)


def with_positions(cosines: Float[Tensor, "m D"]) -> Float[Tensor, "m E"]:
    """Return what :class:`InstanceSimilarity` is told of the samples of a round."""
    positions = torch.arange(len(cosines), dtype=cosines.dtype, device=cosines.device)
    return torch.cat([cosines, positions.unsqueeze(1)], dim=1)
