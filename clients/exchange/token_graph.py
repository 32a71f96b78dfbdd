"""TRG: cells of the last feature map go up, their mean comes back, and clients match the graph."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from clients.exchange.feature_predictions import FeaturePredictions
from clients.exchange.protocol import Task, Tools
from fedfuse.exchange.beside import FEATURES
from fedfuse.exchange.token_graph import TokenGraph
from fedfuse.models.cells import WithCells, map_size
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData, Teachers
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class TokenGraphs(FeaturePredictions):
    """Send cells of the last feature map; match how they lie to each other and inside each image.

    Args:
        width: D, the numbers of a cell; None for the channels of the smallest map.
        side: Cells in a row of an image; side * side * D numbers travel per sample.
        neighbours: Cells nearest to each in the teacher's graph that count; None for all.
        sigma: Of the adjacency.
        alpha: Weight of the graph.
        beta: Weight of the contrast of each cell with the teacher's.
        gamma: Weight of what lies inside each image.
        tau: Temperature of the contrast in the first round.
        tau_end: Temperature that it falls to, on a straight line.
        fall_rounds: Rounds in which it does.
    """

    side: int = 2
    neighbours: int | None = 10
    sigma: float = 1.0
    alpha: float = 1.0
    beta: float = 1.0
    gamma: float = 1.0
    tau: float = 1.0
    tau_end: float = 0.1
    fall_rounds: int = 10
    up: ClassVar[frozenset[str]] = FEATURES
    down: ClassVar[frozenset[str]] = FEATURES
    batchable: ClassVar[bool] = False
    relational: ClassVar[bool] = True

    def __post_init__(self) -> None:
        FeaturePredictions.__post_init__(self)
        require_count("TokenGraphs", "side", self.side)
        require_number("TokenGraphs", "tau", self.tau, above=0)
        require_number("TokenGraphs", "tau_end", self.tau_end, above=0)
        require_count("TokenGraphs", "fall_rounds", self.fall_rounds)
        self.term(1)

    def term(self, round_: int) -> TokenGraph:
        """Return what is added to the lesson of a round."""
        left = max(0.0, 1 - (round_ - 1) / self.fall_rounds)
        return TokenGraph(
            cells=self.side**2,
            neighbours=self.neighbours,
            sigma=self.sigma,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            tau=self.tau_end + left * (self.tau - self.tau_end),
        )

    def size(self, models: ModelPlan, data: FederatedData) -> int:
        """Return the numbers of a sample's cells.

        Raises:
            ModelError: If there is a model without such a map.
        """
        each = one_of_each(models, data).values()
        sizes = [map_size(model, data.input_shape, self.side) for model in each]
        return self.side**2 * (min(sizes) if self.width is None else self.width)

    def showing(self, student: Student, tools: Tools) -> Student:
        """Return a client whose model returns its cells beside its logits."""
        entropy = tools.streams.entropy("exchange", "projection", student.architecture)
        width = tools.width // self.side**2
        return replace(student, model=WithCells(student.model, self.side, width, entropy))

    def lesson(
        self, tasks: list[Task], tools: Tools, round_: int, received: Teachers
    ) -> list[Task]:
        """Return the steps of distillation with what the cells add to them."""
        if not (self.alpha or self.beta or self.gamma):
            return tasks
        assert received.features is not None
        return self.with_term(tasks, tools, self.term(round_), received.features)
