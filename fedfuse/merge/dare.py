"""DARE: drop most of how far each model came, at random, and rescale what is left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import require
from fedfuse.layout import Layout
from fedfuse.merge.protocol import ChecksLayouts, Merge, MergesAcross, Vectors
from fedfuse.merge.task_arithmetic import TaskArithmetic
from fedfuse.shapes import Float
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Dare:
    """Another merge of models thinned at random (Yu et al. 2023, arXiv 2311.03099).

    Each number of a task vector is dropped with probability ``drop``, and what is left is divided
    by ``1 - drop``: in the mean over the draws nothing changes. Each client draws by itself, anew
    in every round.

    Args:
        drop: Probability, from 0 to below 1.
        then: The merge of what is left.
    """

    drop: float = 0.5
    then: Merge = field(default_factory=TaskArithmetic)
    needs_base: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("Dare", "drop", self.drop, at_least=0, below=1)
        require(callable(self.then), "Dare", "then", self.then, "a merge, such as TaskArithmetic")

    @property
    def personal(self) -> bool:
        """Whether each receiver gets a model of its own."""
        return declared(self.then, "personal", False)

    @property
    def by_weights(self) -> bool:
        """Whether models count by their weights."""
        return declared(self.then, "by_weights", True)

    @property
    def needs_predictions(self) -> bool:
        """Whether the inner merge asks models for predictions."""
        return declared(self.then, "needs_predictions", False)

    def misfit(self, layouts: Mapping[str, Layout]) -> str | None:
        """Return in words what the inner merge cannot merge; each architecture is thinned alone."""
        if len(layouts) > 1 and isinstance(self.then, MergesAcross):
            return f"{', '.join(layouts)}: thinned models of several architectures stay apart"
        return self.then.misfit(layouts) if isinstance(self.then, ChecksLayouts) else None

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "r N"]:
        """Return what the inner merge makes of the thinned models."""
        size = models.vectors.shape[1]
        draws = [
            torch.rand(size, generator=models.generator("drop", client_id))
            for client_id in models.client_ids.tolist()
        ]
        kept = (torch.stack(draws) >= self.drop).to(models.vectors.device)
        thinned = torch.where(kept, models.task_vectors() / (1 - self.drop), 0)
        return self.then(replace(models, vectors=models.moved(thinned)), receivers)
