"""A node's clients in one arm of a run: what they exchange, with what, and who tests them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from clients.exchange import Exchange, Predictions, Tools
from clients.failure_isolation import Spent, take_steps
from clients.state.state import ClientState
from clients.training.arm import ArmSettings
from clients.training.deployment import Deployment, speaking
from clients.training.pace import paced
from clients.training.pretrain import STEPS
from clients.training.probing import Probing
from clients.training.tested import Tested
from clients.training.twins import Task
from clients.training.work_plan import honest
from fedfuse.guard import Validation
from fedfuse.probes import Probes
from fedfuse.protocols import Relabels
from fedfuse.train.trainer import Student
from fedfuse.train.work import SampleLoss
from fedfuse.wire.messages import Header

if TYPE_CHECKING:
    from clients.node import Node


class InArm:
    """A node's clients as one request asks for them.

    Args:
        node: Who hosts them.
        header: The arm (see :class:`~clients.state.states.ClientStates`), the round, and what is
            wanted.
    """

    def __init__(self, node: Node, header: Header) -> None:
        self._node, self._header = node, header
        settings = node.arms.get(header.arm, ArmSettings())
        self.way: Exchange = node.exchange if header.exchange else Predictions()
        """The arm's way to exchange; clients that learn alone hold nothing but models."""
        self.twins = node.twins if header.exchange else None
        """What trains the clients' local twins; None for nobody."""
        self.evaluation = replace(node.evaluate, prior=settings.test_prior)
        """What tests the clients."""
        self.work_plan = replace(node.work_plan, local_loss=settings.local_loss)
        """The steps of clients that are honest."""
        self.tools = self._tools()
        """What an exchange works with."""

    def _tools(self) -> Tools:
        node, header = self._node, self._header
        # Whoever attacks does so where knowledge is exchanged; alone, all clients are honest.
        attack = node.sharing.attack if header.exchange else None
        relabel = attack.relabel if isinstance(attack, Relabels) else honest
        return Tools(
            arm=header.arm,
            inputs=node.inputs,
            models=node.models,
            work_plan=replace(self.work_plan, relabel=relabel),
            trainer=node.trainer,
            plan=node.plan,
            streams=node.streams,
            familiarity_stage=node.familiarity_stage,
            sharing=node.sharing,
            memory=node.states.memory,
            pretrains=node.pretraining is not None
            and (header.exchange or node.pretraining.baseline),
            taught=header.teaches,
            present=header.present,
            uptake=node.uptake,
            width=size if isinstance(size := node.kind.sizes.get("D", 0), int) else 0,
            own_choice=node.own_choice,
        )

    def take_steps(self, tasks: Sequence[Task], *, trained: bool = False) -> Spent:
        """Let students take their steps of a phase at the rates that hold then.

        ``trained`` says whether it is the second one: local training is over.
        """
        node, round_ = self._node, self._header.round
        if node.rates is not None:
            tasks = paced(node.rates, tasks, node.work_plan, round_, trained=trained)
        return take_steps(node.trainer, tasks, round_)

    def judge(self) -> Callable[[Sequence[Student]], list[Tested]]:
        """Return what tests clients as they end a round: what they deploy, if a guard decides."""
        node = self._node
        if self.twins is None or node.guard is None or isinstance(node.guard, Validation):
            return self.evaluation
        labelled = None  # public labels that pre-training taught say nothing new
        if node.pretraining is None:
            labelled = speaking(node.data, node.work_plan.held_out)
        return Deployment(node.guard, self.evaluation, self.twins, labelled)

    def probing(self) -> Probing:
        """Return what asks models the probes."""
        probes = Probes(self._node.probes, self._node.streams)
        return Probing(probes, self._node.probe_samples, self.evaluation, self._header.round)

    def student(self, client_id: int, *, begins: bool = True, distils: bool = False) -> Student:
        """Return the client; a new one pre-trains, unless its state is replaced next.

        Where it distils, its optimiser may be another than in private steps.
        """
        node, tools = self._node, self.tools

        def make(new: bool) -> ClientState:
            twin = None
            if self.twins is not None:  # not in an arm that learns alone
                twin = self.twins.begin(client_id, new=new and begins)
            if not (new and begins and tools.pretrains):
                model = self.way.hold(client_id, node.beginning.model(client_id), tools)
                return ClientState(model, twin=twin)

            def lesson(client_id: int, labels: Tensor) -> tuple[Tensor, SampleLoss]:
                return tools.work_plan.lesson(tools.work_plan.relabel(client_id, labels))

            model, steps = node.beginning.pretrained(client_id, lesson)
            extras = {STEPS: torch.tensor(steps)}
            return ClientState(self.way.hold(client_id, model, tools), extras=extras, twin=twin)

        state = node.states.get(tools.arm, client_id, make)
        if node.plan.optimizer_state == "reset":
            state.forget_optimizers()
        apart = distils and node.plan.optimizer_state == "separate"
        optimizer = state.optimizer("distill" if apart else "main", node.make_optimizer)
        if apart and node.plan.distill_lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = node.plan.distill_lr
        return Student(client_id, node.models.name(client_id), state.model, optimizer)
