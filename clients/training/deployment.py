"""What clients deploy: fused answers, their local twins' or both mixed; and how good that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from clients.training.answers import Answers, Joined, Pair
from clients.training.evaluation import Evaluation
from clients.training.tested import Tested
from clients.training.twins import LocalTwins
from fedfuse.declarations import part_name
from fedfuse.guard import Choice, Guard, Paired, mixed
from fedfuse.rng import Streams
from fedfuse.train.trainer import Student
from fedfuse.types import FederatedData
from fedfuse.user_code import PartError, kind_of


@dataclass(frozen=True, slots=True)
class Deployment:
    """Let a guard decide what each client deploys, and test that.

    Both models answer every test once; the decision is made on samples that the client holds back
    and changes nothing of what is trained. The metrics are of what is deployed; ``..._unguarded``
    are those of the fused model, ``..._local`` those of the twin as the arm of local training
    tests it: the prior is taken out of its logits only where they are deployed.

    Args:
        guard: Who decides.
        evaluate: Asks models.
        twins: The clients' local twins.
        public: Labelled public samples that speak for a balanced distribution; None where there
            are none, or models have learned their labels: then validation data speaks for it.
    """

    guard: Guard
    evaluate: Evaluation
    twins: LocalTwins
    public: Tensor | None = None

    def __call__(self, students: Sequence[Student]) -> list[Tested]:
        """Test what each client deploys.

        Args:
            students: The clients with the models that fusion made.
        """
        own, told = len(self.evaluate.inputs.data.test), self.public
        samples = 2 * (own + (0 if told is None else len(told)))  # of both models
        each = self.evaluate.at_once(students, samples)
        return [tested for some in each for tested in self._tested(some)]

    def _tested(self, students: Sequence[Student]) -> list[Tested]:
        """Test what some clients deploy, all of them at once."""
        of_twins = replace(self.evaluate, prior=self.evaluate.prior.of_local_twins())
        sides = (self.evaluate, students), (of_twins, self.twins.of(students))
        fused, local = (evaluate.answers(models) for evaluate, models in sides)
        theirs, mine = (
            told.validation_balanced.pairs()
            if self.public is None
            else evaluate.public(models, self.public)
            for told, (evaluate, models) in zip((fused, local), sides, strict=True)
        )
        num_clients = self.evaluate.inputs.data.num_clients
        own = zip(local.validation.pairs(), fused.validation.pairs(), strict=True)
        choices = [
            _checked(self.guard(_paired(*own), _alike(_paired(*balanced)), num_clients), self.guard)
            for own, balanced in zip(own, zip(mine, theirs, strict=True), strict=True)
        ]
        for_own, for_balanced = zip(*choices, strict=True)
        deployed = Answers(
            balanced=_mixed(local.balanced, fused.balanced, for_balanced),
            own=_mixed(local.own, fused.own, for_own),
            validation=_mixed(local.validation, fused.validation, for_own),
            validation_balanced=fused.validation_balanced,
            plain=fused.plain,
        )
        tested = self.evaluate.judged([student.client_id for student in students], deployed)
        # The plain answers of the twins are what local training is worth.
        for name, answers, whole in (
            ("unguarded", fused, fused.balanced),
            ("local", local, local.plain),
        ):
            for test, told in (
                ("own", answers.own), ("global", whole), ("val", answers.validation)
            ):  # fmt: skip
                for row, value in zip(tested, told.accuracies(), strict=True):
                    if value is not None:
                        row.metrics[f"accuracy_{test}_{name}"] = value
        for row, chosen in zip(tested, choices, strict=True):
            for name, choice in zip(("own", "global"), chosen, strict=True):
                row.metrics[f"deployed_{name}"] = choice.share
                if choice.decided is not None:
                    row.metrics[f"decided_{name}"] = float(choice.decided)
        return tested


def fold_of(guard: object, data: FederatedData, streams: Streams) -> Tensor | None:
    """Return the public samples that a guard keeps out of all lessons, bool [P]; None for none."""
    labels, share = data.public.labels, getattr(guard, "public_fold", 0.0)
    if labels is None or share == 0:
        return None
    order = torch.randperm(len(labels), generator=streams.torch("guard", "public fold"))
    held_out = torch.zeros(len(labels), dtype=torch.bool)
    held_out[order[: round(share * len(labels))]] = True
    return held_out


def speaking(data: FederatedData, held_out: Tensor | None) -> Tensor | None:
    """Return which labelled public samples speak for a balanced distribution; None if none does.

    Args:
        data: The federation's data.
        held_out: Those that are kept out of all lessons; None to take all.
    """
    if data.public.labels is None:
        return None
    labels = torch.from_numpy(np.array(data.public.labels))
    known = (labels >= 0) & (labels < data.num_classes)  # a set of another origin may have more
    index = torch.nonzero(known if held_out is None else known & held_out)[:, 0]
    return index if len(index) else None


def _checked(told: object, guard: Guard) -> tuple[Choice, Choice]:
    """Return what a guard says, if it is one; a part of the user's own may say anything."""
    if isinstance(told, tuple) and [type(choice) for choice in told] == [Choice, Choice]:
        return told
    raise PartError(
        f"The guard {part_name(guard)} does not say what answers two questions",
        got=kind_of(told),
        allowed="a tuple of two fedfuse.guard.Choice, the own distribution's first",
    )


def _mixed(local: Joined, fused: Joined, choices: Sequence[Choice]) -> Joined:
    """Return what clients deploy: of each its own mixture."""
    ours, theirs = (torch.split(told.logits, list(told.sizes)) for told in (local, fused))
    shares = [choice.share for choice in choices]
    each = [mixed(*three) for three in zip(ours, theirs, shares, strict=True)]
    return replace(fused, logits=torch.cat(each))


def _paired(local: Pair | None, fused: Pair | None) -> Paired:
    """Return both models' answers to the same samples, each of which counts once."""
    if local is None or fused is None:
        nothing = torch.zeros(0, 1, dtype=torch.float64)
        return Paired(nothing, nothing, torch.zeros(0, dtype=torch.int64), nothing[:, 0])
    ours, theirs = (logits.double().log_softmax(dim=1) for logits in (local[0], fused[0]))
    return Paired(ours, theirs, fused[1], torch.ones(len(ours), dtype=torch.float64))


def _alike(pairs: Paired) -> Paired:
    """Return the answers with weights that make all classes of theirs count alike."""
    return replace(pairs, weight=1 / torch.bincount(pairs.labels)[pairs.labels].double())
