"""How the cells of many images' feature maps lie to each other (TRG).

Knowledge Distillation via Token-level Relationship Graph (arXiv 2306.12442): a graph of all cells
of a batch, each cell against the teacher's cells, and the cells inside each image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedfuse.distill.relations import neighbourhoods
from fedfuse.exchange.creamfl import inter
from fedfuse.shapes import Float
from fedfuse.validation import require_count, require_number


def squared_distances(points: Float[Tensor, "N D"]) -> Float[Tensor, "N N"]:
    """Return ``||u - v||**2`` of every two points.

    >>> squared_distances(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]]))
    tensor([[ 0.,  1.,  9.],
            [ 1.,  0., 10.],
            [ 9., 10.,  0.]])
    """
    lengths = points.square().sum(dim=1)
    return (lengths.unsqueeze(1) + lengths - 2 * points @ points.T).clamp_min(0)


def cell_graph(
    student: Float[Tensor, "N D"],
    teacher: Float[Tensor, "N D"],
    sigma: float,
    neighbours: int | None,
) -> Float[Tensor, " N"]:
    """Return KL of each cell's adjacency, teacher || student.

    The adjacency is exp(-||u - v||**2 / (2 sigma)) over the cells that are nearest to each in the
    teacher's graph, with rows that sum to 1. Of unit cells that is
    :func:`~fedfuse.distill.relations.relation_graph` at tau = sigma.
    """
    ours, theirs = (-squared_distances(cells) / (2 * sigma) for cells in (student, teacher))
    return neighbourhoods(ours, theirs, neighbours)


def inside(student: Float[Tensor, "B S D"], teacher: Float[Tensor, "B S D"]) -> Float[Tensor, " B"]:
    """Return the mean squared difference of ``softmax(F F^T / sqrt(D))`` inside each image."""

    def attention(cells: Tensor) -> Tensor:
        products: Tensor = cells @ cells.mT / math.sqrt(cells.shape[2])
        return products.softmax(dim=2)

    return (attention(student) - attention(teacher)).square().mean(dim=(1, 2))


@dataclass(frozen=True, slots=True)
class TokenGraph:
    """``alpha graph + beta contrastive + gamma inside`` of S cells a sample, each D numbers.

    Graph and contrast are of unit cells, the mean over a sample's; a batch is compared.

    Args:
        cells: S.
        neighbours: Cells nearest to each in the teacher's graph that count; None for all.
        sigma: Of the adjacency.
        alpha: Weight of the graph.
        beta: Weight of the contrast of each cell with the teacher's cells of the batch.
        gamma: Weight of what lies inside each image.
        tau: Temperature of the contrast.
    """

    cells: int
    neighbours: int | None = 10
    sigma: float = 1.0
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        require_count("TokenGraph", "cells", self.cells)
        if self.neighbours is not None:
            require_count("TokenGraph", "neighbours", self.neighbours)
        for name in ("sigma", "tau"):
            require_number("TokenGraph", name, getattr(self, name), above=0)
        for name in ("alpha", "beta", "gamma"):
            require_number("TokenGraph", name, getattr(self, name), at_least=0)

    def __call__(
        self, features: Float[Tensor, "B E"], told: Float[Tensor, "B E"]
    ) -> Float[Tensor, " B"]:
        """Return what is added to each sample's loss; E is S * D."""
        batch, loss = len(features), torch.zeros_like(features[:, 0])
        ours, theirs = (side.view(batch, self.cells, -1) for side in (features, told))
        own, others = (normalize(side.flatten(0, 1), dim=1) for side in (ours, theirs))
        if self.alpha:
            graph = cell_graph(own, others, self.sigma, self.neighbours)
            loss = loss + self.alpha * graph.view(batch, -1).mean(dim=1)
        if self.beta:
            contrast = inter(own, others, self.tau)
            loss = loss + self.beta * contrast.view(batch, -1).mean(dim=1)
        if self.gamma:
            loss = loss + self.gamma * inside(ours, theirs)
        return loss
