"""Task arithmetic: add up how far each model came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedfuse.merge.protocol import Vectors
from fedfuse.shapes import Float
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class TaskArithmetic:
    """``base + scale * sum_k (model_k - base)`` (Ilharco et al. 2022, arXiv 2212.04089).

    Every model counts alike. With k models, ``scale = 1/k`` is their plain mean, and any other
    scale, from what was sent last, FedAvg with the server's rate ``k * scale``.

    Args:
        scale: From 0 upwards.
    """

    scale: float = 0.3
    needs_base: ClassVar[bool] = True
    by_weights: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_number("TaskArithmetic", "scale", self.scale, at_least=0)

    def __call__(self, models: Vectors, receivers: Tensor) -> Float[Tensor, "1 N"]:  # noqa: ARG002
        """Return one row for all."""
        return models.moved(self.scale * models.task_vectors().sum(dim=0))
