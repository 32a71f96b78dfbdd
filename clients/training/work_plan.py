"""What a phase consists of: the optimiser steps of local training and of distillation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from torch import Tensor

from clients.training.samples import ModelInputs
from clients.training.settings import ClientPlan
from fedfuse.codec import Parcel
from fedfuse.declarations import declared
from fedfuse.distill.targets import as_targets
from fedfuse.errors import FedfuseError
from fedfuse.local_loss import cross_entropy
from fedfuse.payload import Payload
from fedfuse.prior import FLOOR, log_prior
from fedfuse.protocols import DistillLoss, LocalLoss
from fedfuse.rng import Streams
from fedfuse.train.facts import Facts, as_trained, told, wants, widen
from fedfuse.train.work import (
    SampleLoss,
    Work,
    samples_processed,
    schedule,
    schedule_over,
    steps_per_epoch,
    steps_to_process,
)
from fedfuse.types import Teachers


def honest(client_id: int, labels: Tensor) -> Tensor:  # noqa: ARG001
    """Return the labels as they are."""
    return labels


@dataclass(frozen=True, slots=True)
class WorkPlan:
    """Write down the steps that clients take.

    Args:
        inputs: Their samples.
        plan: How they train.
        loss: What distillation minimises; None for a method without teachers.
        streams: The run's random streams.
        relabel: The labels that a client learns from, given its id and its own labels.
        local_loss: What steps on private data minimise.
        held_out: Public samples that nobody is taught on, bool [P]; None for none.
    """

    inputs: ModelInputs
    plan: ClientPlan
    loss: DistillLoss | None
    streams: Streams
    relabel: Callable[[int, Tensor], Tensor] = honest
    local_loss: LocalLoss = cross_entropy
    held_out: Tensor | None = None

    def local(self, client_ids: Sequence[int], round_: int) -> list[Work]:
        """Return ``local_epochs`` passes of each client over its private data."""
        return self.private(client_ids, "train", round_, self.passes(client_ids))

    def budget_matched(self, client_ids: Sequence[int], round_: int) -> list[Work]:
        """Return as many steps as distillation takes, or as many samples, on private data."""
        return self.private(client_ids, "distill", round_, self.spare(client_ids, round_))

    def distillation(
        self,
        client_ids: Sequence[int],
        round_: int,
        teachers: Teachers,
        facts: Facts | None = None,
    ) -> list[Work]:
        """Return the steps of each client towards its own teacher (one row of ``teachers``).

        Samples that do not count cost none of them; a client for whom none does has those on its
        private data left.

        Args:
            client_ids: Whose steps.
            round_: The round.
            teachers: What they learn from.
            facts: What the loss wants to know of the round's samples, with a row for each client
                in front: labels [k, m], own logits [k, m, C].

        Raises:
            FedfuseError: If there is no loss, if it wants to know more than the facts tell, or if
                it cannot use what the teachers hold.
        """
        if self.loss is None:
            raise FedfuseError(
                "A teacher arrived, but this node has no distillation loss",
                next_step="Run server and clients with the same configuration.",
            )
        steps, private_weight = self.distill_steps(round_), self.plan.private_weight
        teachers = teachers.to(self.inputs.device)
        targets, weights = as_targets(teachers, self.loss), teachers.sample_weight
        if wants(self.loss):
            targets = widen(targets, told(self.loss, facts).to(targets.device))
        loss = as_trained(self.loss)
        if self.held_out is not None:
            taught = (~self.held_out[self.inputs.rounds.index(round_)]).float().to(targets.device)
            weights = taught.expand(len(targets), -1) * (1.0 if weights is None else weights)
        anchors: Sequence[Work | None] = [None] * len(client_ids)
        if private_weight > 0:
            anchors = self._steps(client_ids, "distill", round_, [steps] * len(client_ids))
        public = self.inputs.lesson(round_)
        counts = None
        if weights is not None and self.plan.left_out == "skip":
            counts = weights.cpu()
        batch_size, works = self.plan.distill_batch_size, []
        for row, client_id in enumerate(client_ids):
            generator = self.streams.torch("client", client_id, "public", round_)
            over = batch_size, steps, generator
            works.append(
                Work(
                    inputs=public,
                    targets=targets[row],
                    loss=loss,
                    schedule=schedule(len(public), *over)
                    if counts is None
                    else schedule_over(counts[row], *over),
                    sample_weight=None if weights is None else weights[row],
                    anchor=anchors[row],
                    anchor_weight=private_weight,
                    entropy=self._layers(client_id, "distill", round_),
                )
            )
        return works

    def passes(self, client_ids: Sequence[int], epochs: int | None = None) -> list[int]:
        """Return the cost of so many passes over the private data.

        If None of ``local_steps``, or of ``local_epochs`` passes without those.

        Costs are in what the arms of a comparison spend alike: samples with ``budget=samples``,
        steps with any other.
        """
        sizes = self._sizes(client_ids)
        if epochs is None and (steps := self.plan.local_steps) is not None:
            if self.plan.budget == "samples":
                return [samples_processed(size, self.plan.batch_size, steps) for size in sizes]
            return [steps] * len(sizes)
        epochs = self.plan.local_epochs if epochs is None else epochs
        if self.plan.budget == "samples":
            return [epochs * size for size in sizes]
        return [epochs * steps_per_epoch(size, self.plan.batch_size) for size in sizes]

    def spare(self, client_ids: Sequence[int], round_: int) -> list[int]:
        """Return what distillation costs each client in the round; see :meth:`passes`."""
        if self.plan.budget == "samples":
            return self.distill_samples(client_ids, round_)
        return [self.distill_steps(round_)] * len(client_ids)

    def private(
        self,
        client_ids: Sequence[int],
        phase: str,
        round_: int,
        costs: Sequence[int],
        more: Sequence[tuple[Tensor, Tensor] | None] = (),
    ) -> list[Work]:
        """Return the steps of each client on its private data that cost so much.

        Args:
            client_ids: Whose steps.
            phase: Names the stream that shuffles the samples.
            round_: The round.
            costs: Samples with ``budget=samples``, and the last batch ends where they do; steps
                with any other budget.
            more: Inputs and labels that each also learns from, or None for a client without.
        """
        if self.plan.budget != "samples":
            return self._steps(client_ids, phase, round_, costs, more)
        sizes = [
            size + (0 if also is None else len(also[1]))
            for size, also in zip_longest(self._sizes(client_ids), more)
        ]
        steps = [
            steps_to_process(size, self.plan.batch_size, cost)
            for size, cost in zip(sizes, costs, strict=True)
        ]
        return [
            replace(work, schedule=work.schedule.cut(cost))
            for work, cost in zip(
                self._steps(client_ids, phase, round_, steps, more), costs, strict=True
            )
        ]

    def lesson(self, labels: Tensor) -> tuple[Tensor, SampleLoss]:
        """Return the targets and the loss by which a client learns labels [N].

        A loss that wants the prior gets that of these very labels, whoever they come from.
        """
        if not wants(self.local_loss):
            return labels, as_trained(self.local_loss)
        counts = torch.bincount(labels, minlength=self.inputs.data.num_classes).cpu()
        prior = log_prior(counts, declared(self.local_loss, "floor", FLOOR)).to(labels.device)
        targets = widen(labels, Facts(prior=prior.expand(len(labels), -1)))
        return targets, as_trained(self.local_loss)

    def _sizes(self, client_ids: Sequence[int]) -> list[int]:
        return [len(self.inputs.data.clients[i].train) for i in client_ids]

    def _steps(
        self,
        client_ids: Sequence[int],
        phase: str,
        round_: int,
        num_steps: Sequence[int],
        more: Sequence[tuple[Tensor, Tensor] | None] = (),
    ) -> list[Work]:
        """Return so many steps of each client on its private data."""
        rows = self.inputs.private([self.inputs.data.clients[i] for i in client_ids])
        rows = [
            own if also is None else (torch.cat([own[0], also[0]]), torch.cat([own[1], also[1]]))
            for own, also in zip_longest(rows, more)
        ]
        works = []
        for client_id, (inputs, labels), steps in zip(client_ids, rows, num_steps, strict=True):
            generator = self.streams.torch("client", client_id, phase, round_)
            targets, loss = self.lesson(self.relabel(client_id, labels))
            work = Work(
                inputs=inputs,
                targets=targets,
                loss=loss,
                schedule=schedule(len(labels), self.plan.batch_size, steps, generator),
                entropy=self._layers(client_id, phase, round_),
            )
            of_round = "client", client_id, phase, round_
            works.append(self.inputs.augmented(work, self.streams, *of_round))
        return works

    def distill_steps(self, round_: int) -> int:
        """Return the steps of distillation in the round."""
        num_public = self.inputs.rounds.size(round_)
        per_epoch = steps_per_epoch(num_public, self.plan.distill_batch_size)
        return self.plan.distill_epochs * per_epoch

    def distill_samples(self, client_ids: Sequence[int], round_: int) -> list[int]:
        """Return the samples that each client processes in distillation.

        The public ones, and with a ``private_weight`` the private batch of every step.
        """
        public = self.plan.distill_epochs * self.inputs.rounds.size(round_)
        if self.plan.private_weight == 0:
            return [public] * len(client_ids)
        steps, batch_size = self.distill_steps(round_), self.plan.batch_size
        return [
            public + samples_processed(size, batch_size, steps) for size in self._sizes(client_ids)
        ]

    def _layers(self, client_id: int, phase: str, round_: int) -> int:
        """Return the seed of layers that draw random numbers, such as dropout."""
        return self.streams.entropy("client", client_id, phase, round_, "layers")


def rows_of(
    received: Payload | Parcel, wanted: Sequence[int], order: Sequence[int]
) -> Payload | Parcel:
    """Return what came for the clients ``wanted``, which sit in the order ``order``."""
    position = {client_id: row for row, client_id in enumerate(order)}
    return received.rows(torch.tensor([position[client_id] for client_id in wanted]))
