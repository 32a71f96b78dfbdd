"""Keep what a teacher taught only if the client's own validation data does not object."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from clients.training.evaluation import Evaluation
from clients.training.tested import Tested
from fedfuse.guard import Validation
from fedfuse.train.trainer import Student

KEPT = "kept"
"""Metric: 1 if the client kept what it learned in the round, 0 if it went back."""

UNGUARDED = ("accuracy_own", "accuracy_global")
"""Metrics of what was learned, also where it was not kept; named with the suffix ``_unguarded``."""

EvaluationModels = Callable[[], Sequence[Student]]
"""The models whose accuracy counts, read anew whenever it is called."""


@dataclass(frozen=True, slots=True)
class Undo:
    """Let clients go back from distillations that a guard refuses.

    What a client is after a refused distillation is what it was before it: model and optimiser;
    the next round's local training goes on from there. ``accuracy_own_unguarded`` is what this
    round's distillation would have given from the guarded past; for "with and without", run
    ``-m guard=none,validation``.

    Args:
        guard: Who refuses.
        evaluate: Tests models.
    """

    guard: Validation
    evaluate: Evaluation

    def before(self, held: Sequence[Student], evaluation_models: EvaluationModels) -> _Snapshot:
        """Remember the clients as they are, and how they do on their validation data."""
        return _Snapshot(
            states=[_snapshot(student) for student in held],
            validation=self.evaluate.validation(evaluation_models()),
        )

    def after(
        self,
        held: Sequence[Student],
        evaluation_models: EvaluationModels,
        memory: _Snapshot,
        *,
        evaluate: bool,
    ) -> list[Tested]:
        """Send back the clients that lost; return everybody's tests, if they are wanted.

        Args:
            held: The clients, in the order of :meth:`before`.
            evaluation_models: Their models.
            memory: What :meth:`before` returned.
            evaluate: Whether metrics are wanted; rounds without evaluation decide and tell nothing.
        """
        tested = self.evaluate(evaluation_models()) if evaluate else []
        learned = (
            [row.metrics.get("accuracy_val") for row in tested]
            if evaluate
            else self.evaluate.validation(evaluation_models())
        )
        lost = [
            index
            for index, (now, then) in enumerate(zip(learned, memory.validation, strict=True))
            if self.guard.refuses(now, then, self._validation_size(held[index]))
        ]
        for index in lost:
            _restore(held[index], memory.states[index])
        if not evaluate:
            return []
        told = [
            {f"{name}_unguarded": row.metrics[name] for name in UNGUARDED if name in row.metrics}
            | {KEPT: 0.0 if index in lost else 1.0}
            for index, row in enumerate(tested)
        ]
        if lost:
            everybody = evaluation_models()
            again = self.evaluate([everybody[index] for index in lost])
            for index, now_ in zip(lost, again, strict=True):
                tested[index] = now_
        for row, own in zip(tested, told, strict=True):
            row.metrics.update(own)
        return tested

    def _validation_size(self, student: Student) -> int:
        return len(self.evaluate.inputs.data.clients[student.client_id].val)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Clients before their distillation: their states and validation accuracies."""

    states: list[tuple[dict[str, Any], dict[str, Any]]]
    validation: list[float | None]


def _snapshot(student: Student) -> tuple[dict[str, Any], dict[str, Any]]:
    weights = {name: value.clone() for name, value in student.model.state_dict().items()}
    return weights, copy.deepcopy(student.optimizer.state_dict())


@torch.no_grad()
def _restore(student: Student, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    weights, optimizer = state
    student.model.load_state_dict(weights)
    student.optimizer.load_state_dict(optimizer)
