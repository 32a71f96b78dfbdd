"""Twin-Merging: a shared model for all, and what is each client's own, compressed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.merge.answers import likeness
from fedfuse.merge.mean import Mean
from fedfuse.merge.protocol import Vectors
from fedfuse.merge.task_arithmetic import TaskArithmetic
from fedfuse.merge.ties import trimmed
from fedfuse.shapes import Float
from fedfuse.validation import require_count, require_number, require_one_of

SPARSE = ("magnitude", "bernoulli", "svd")
SHARED = ("task_arithmetic", "mean")
WEIGHTS = ("own", "uniform", "predictions")
_EXACT = 1e-9
"""A share of a count that is a whole number but for rounding is that number."""


@dataclass(frozen=True, slots=True)
class Twin:
    """``shared + sum_k w_ik sparse(model_k - shared)`` (Lu et al. 2024, arXiv 2406.15479).

    The paper weighs the clients' parts by a router, for every input; here a receiver has its
    weights for a round. With ``weights=own`` it gets the shared model and its own part; one that
    sent nothing gets the shared model, with ``predictions``, too.

    Args:
        density: The share of a client's own part that is kept, above 0 up to 1.
        shared: The shared model: ``task_arithmetic`` with ``shared_scale``, or the ``mean``.
        shared_scale: From 0 upwards.
        sparse: ``magnitude`` keeps the largest entries of each tensor (of equal ones the first),
            ``bernoulli`` drawn ones, divided by ``density``, ``svd`` the largest singular values
            of each matrix (a convolution as outputs x the rest), at least one; what is no matrix
            stays whole.
        weights: ``own``; ``uniform``, all parts alike, one model for all; or ``predictions``, the
            softmax of ``-mean KL(p_i || p_k) / temperature`` over public samples.
        temperature: Of those weights, above 0: near 0 is ``own``, large is ``uniform``.
        samples: Of the public set, from the first, that they are told from.
    """

    density: float = 0.2
    shared: str = "task_arithmetic"
    shared_scale: float = 0.29
    sparse: str = "magnitude"
    weights: str = "own"
    temperature: float = 1.0
    samples: int = 100
    personal: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Twin", "density", self.density, above=0, at_most=1)
        require_number("Twin", "shared_scale", self.shared_scale, at_least=0)
        require_number("Twin", "temperature", self.temperature, above=0)
        require_count("Twin", "samples", self.samples)
        for name, options in (("shared", SHARED), ("sparse", SPARSE), ("weights", WEIGHTS)):
            require_one_of("Twin", name, getattr(self, name), options)

    @property
    def needs_base(self) -> bool:
        """Whether the shared model is made of differences to a common start."""
        return self.shared == "task_arithmetic"

    @property
    def by_weights(self) -> bool:
        """Whether the shared model depends on the clients' weights."""
        return not self.needs_base

    @property
    def needs_predictions(self) -> bool:
        """Whether models are asked for their predictions on public samples."""
        return self.weights == "predictions"

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "r N"]:
        """Return a row for each receiver; one for all with ``weights=uniform``."""
        make = TaskArithmetic(self.shared_scale) if self.needs_base else Mean()
        shared = make(models, receivers).double()
        own = self._sparse(models.vectors.double() - shared, models)
        if self.weights == "uniform":
            return (shared + own.mean(dim=0)).float()
        weights = (receivers.unsqueeze(1) == models.client_ids).to(own)  # [R, k]
        if self.needs_predictions:
            assert models.predict is not None
            scores = likeness(models.predict(self.samples)) / self.temperature
            weights = weights @ scores.softmax(dim=1).to(own)
        return (shared + weights @ own).float()

    def _sparse(self, own: Float[Tensor, "k N"], models: Vectors) -> Float[Tensor, "k N"]:
        if self.density == 1:
            return own
        if self.sparse == "bernoulli":
            drawn = [
                torch.rand(own.shape[1], generator=models.generator("twin", client))
                for client in models.client_ids.tolist()
            ]
            kept = torch.stack(drawn).to(own.device) < self.density
            return own * kept / self.density
        shapes = [shape for _, shape, _ in models.layout.entries]
        parts = torch.split(own, [math.prod(shape) for shape in shapes], dim=1)
        thin = low_rank if self.sparse == "svd" else largest
        thinned = [
            thin(part.reshape(-1, *shape), self.density).flatten(1)
            for part, shape in zip(parts, shapes, strict=True)
        ]
        return torch.cat(thinned, dim=1)


def largest(parts: Float[Tensor, "k ..."], density: float) -> Float[Tensor, "k ..."]:
    """Return tensors with all but their largest entries 0, as :func:`trimmed` does.

    >>> largest(torch.tensor([[0.5, -1.0, 1.0, 0.0]]), 0.25).tolist()
    [[0.0, -1.0, 0.0, 0.0]]
    """
    return trimmed(parts.flatten(1), density).reshape(parts.shape) if parts.numel() else parts


def low_rank(parts: Float[Tensor, "k ..."], density: float) -> Float[Tensor, "k ..."]:
    """Return matrices with the share ``density`` of their singular values, vectors as they are.

    >>> low_rank(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]), 0.5).tolist()
    [[[2.0, 0.0], [0.0, 0.0]]]
    """
    if parts.ndim < 3:
        return parts
    left, values, right = torch.linalg.svd(parts.flatten(2), full_matrices=False)
    rank = max(1, math.floor(density * values.shape[1] + _EXACT))
    scaled = left[:, :, :rank] * values[:, None, :rank]
    return torch.matmul(scaled, right[:, :rank]).reshape(parts.shape)
