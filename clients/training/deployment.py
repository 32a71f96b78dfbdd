"""What clients deploy: fused answers, their local twins' or both mixed; and how good that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

import torch

from clients.training.evaluation import Answers, Evaluation, Pair, Tested
from clients.training.twins import LocalTwins
from fedfuse.guard import Choice, Guard, Paired, mixed
from fedfuse.metrics import accuracy
from fedfuse.train.trainer import Student


@dataclass(frozen=True, slots=True)
class Deployment:
    """Let a guard decide what each client deploys, and test that.

    Both models answer every test once; the decision is made on the client's validation data alone
    and changes nothing of what is trained. The metrics are of what is deployed; ``..._unguarded``
    are those of the fused model, ``..._local`` those of the twin.

    Args:
        guard: Who decides.
        evaluate: Asks models.
        twins: The clients' local twins.
    """

    guard: Guard
    evaluate: Evaluation
    twins: LocalTwins

    def __call__(self, students: Sequence[Student]) -> list[Tested]:
        """Test what each client deploys.

        Args:
            students: The clients with the models that fusion made.
        """
        evaluate = self.evaluate
        of_twins = replace(evaluate, prior=evaluate.prior.of_local_twins())
        answers = zip(
            evaluate.answers(students), of_twins.answers(self.twins.of(students)), strict=True
        )
        return [
            self._tested(student.client_id, fused, local)
            for student, (fused, local) in zip(students, answers, strict=True)
        ]

    def _tested(self, client_id: int, fused: Answers, local: Answers) -> Tested:
        own, balanced = self._choices(fused, local)
        tested = self.evaluate.judged(
            client_id,
            Answers(
                balanced=_mixed(local.balanced, fused.balanced, balanced),
                own=_mixed(local.own, fused.own, own),
                validation=_mixed(local.validation, fused.validation, own),
                validation_balanced=None,
            ),
        )
        for name, answers in (("unguarded", fused), ("local", local)):
            tested.metrics[f"accuracy_own_{name}"] = accuracy(*answers.own)
            tested.metrics[f"accuracy_global_{name}"] = accuracy(*answers.balanced)
            if answers.validation is not None:
                tested.metrics[f"accuracy_val_{name}"] = accuracy(*answers.validation)
        for name, choice in (("own", own), ("global", balanced)):
            tested.metrics[f"deployed_{name}"] = choice.share
            if choice.decided is not None:
                tested.metrics[f"decided_{name}"] = float(choice.decided)
        return tested

    def _choices(self, fused: Answers, local: Answers) -> tuple[Choice, Choice]:
        """Return what the guard says of the own distribution and of a balanced one."""
        own = _paired(local.validation, fused.validation)
        balanced = _paired(local.validation_balanced, fused.validation_balanced)
        alike = torch.bincount(balanced.labels)[balanced.labels]
        balanced = replace(balanced, weight=1 / alike.double())
        return self.guard(own, balanced, self.evaluate.inputs.data.num_clients)


@overload
def _mixed(local: Pair, fused: Pair, choice: Choice) -> Pair: ...
@overload
def _mixed(local: Pair | None, fused: Pair | None, choice: Choice) -> Pair | None: ...
def _mixed(local: Pair | None, fused: Pair | None, choice: Choice) -> Pair | None:
    if local is None or fused is None:
        return None
    return mixed(local[0], fused[0], choice.share), fused[1]


def _paired(local: Pair | None, fused: Pair | None) -> Paired:
    """Return both models' answers to the same samples, each of which counts once."""
    if local is None or fused is None:
        nothing = torch.zeros(0, 1, dtype=torch.float64)
        return Paired(nothing, nothing, torch.zeros(0, dtype=torch.int64), nothing[:, 0])
    ours, theirs = (logits.double().log_softmax(dim=1) for logits in (local[0], fused[0]))
    return Paired(ours, theirs, fused[1], torch.ones(len(ours), dtype=torch.float64))
