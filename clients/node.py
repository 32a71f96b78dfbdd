"""What a client does in a round: learn alone, share what it knows, learn from what comes back.

No Flower here: ``clients.app`` turns messages into calls of :class:`Node` and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from clients.exchange import Exchange, Predictions
from clients.exchange.protocol import check_shared, kind_of_exchange
from clients.failure_isolation import Alone, Attempt, Step
from clients.in_arm import InArm
from clients.membership import Membership
from clients.sharing.chain import Sharing
from clients.sharing.channel import ClientChannel, Remember
from clients.sharing.familiarity import FamiliarityStage
from clients.sharing.own_choice import OwnChoice
from clients.state.state import OptimizerFactory
from clients.state.states import ClientStates
from clients.training.arm import ArmSettings
from clients.training.deployment import fold_of
from clients.training.evaluation import Evaluation
from clients.training.guard import Undo
from clients.training.pretrain import STEPS, Beginning, Initial, Pretraining
from clients.training.samples import ModelInputs
from clients.training.settings import ClientPlan
from clients.training.tested import Tested, stacked, with_spending, with_twins
from clients.training.twins import LocalTwins
from clients.training.work_plan import WorkPlan, rows_of
from fedfuse.augment import Augment, Guided
from fedfuse.codec import Parcel
from fedfuse.exchange.kind import Kind
from fedfuse.failure import Failure
from fedfuse.familiarity import Familiarity
from fedfuse.guard import Guard, Validation
from fedfuse.payload import Payload
from fedfuse.probes import Probe
from fedfuse.protocols import DistillLoss, ModelPlan, Uptake
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds, Select
from fedfuse.train.learning_rate import Rates
from fedfuse.train.trainer import LoopTrainer, Trainer
from fedfuse.train.views import PrivateAugment
from fedfuse.types import ClientMetrics, FederatedData, KnowledgeBank, Phase
from fedfuse.wire.messages import Header

__all__ = ["ClientPlan", "Node"]


@dataclass(slots=True)
class Node:
    """The clients that one process hosts.

    Args:
        client_ids: Which clients these are.
        data: The data of the federation; only the hosted clients' rows are ever read.
        models: Which client runs which architecture.
        make_optimizer: Parameters to optimiser.
        loss: What distillation minimises; None for a method without teachers.
        plan: How clients train.
        streams: The run's random streams.
        exchange: What clients send and receive.
        select: Which public samples each round is about.
        familiarity: Which public samples a client answers for, or how surely; None for all alike.
        sharing: What happens to predictions before they leave.
        channel: How predictions are written and teachers read.
        augment: What public samples are changed by before everybody answers; None for nothing.
        uptake: What clients make of their teachers before they learn; None for what they are.
        own_choice: What clients answer for and wish for by their own predictions; None for all.
        pretraining: What comes before the first round; None for nothing.
        initial: Client id to the weights that its model begins with; None draws them.
        attacked: The round in which membership inference is tried on what clients share; 0 never.
        shadows: Shadow models per client that it trains.
        arms: What an arm does about its clients' label priors, by name; nothing in those left out.
        probes: What models are asked beside the tests.
        probe_samples: The most samples that they are asked with.
        private_augment: What changes private samples each time that a step sees one.
        rates: At which share of the learning rate steps are taken; None for all of it.
        guard: Who undoes distillations or decides what is deployed; None for nobody.
        trainer: Who takes the steps.
        device: Where models and their inputs live.
        hands_over: Whether a server may have all that the clients remember, and replace it.
        isolates: Whether a cohort in which a client fails is tried again client by client.
        on_client_done: Called with the id of each client that has finished a phase.
    """

    client_ids: tuple[int, ...]
    data: FederatedData
    models: ModelPlan
    make_optimizer: OptimizerFactory
    loss: DistillLoss | None
    plan: ClientPlan
    streams: Streams
    exchange: Exchange = field(default_factory=Predictions)
    select: Select = field(default_factory=All)
    familiarity: Familiarity | None = None
    sharing: Sharing = field(default_factory=Sharing)
    channel: ClientChannel = field(default_factory=ClientChannel)
    augment: Augment | Guided | None = None
    uptake: Uptake | None = None
    own_choice: OwnChoice | None = None
    pretraining: Pretraining | None = None
    initial: Initial | None = None
    attacked: int = 0
    shadows: int = 0
    arms: Mapping[str, ArmSettings] = field(default_factory=dict)
    probes: Sequence[Probe] = ()
    probe_samples: int = 500
    private_augment: PrivateAugment | None = None
    rates: Rates | None = None
    guard: Guard | Validation | None = None
    trainer: Trainer = field(default_factory=LoopTrainer)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    hands_over: bool = True
    isolates: bool = False
    on_client_done: Callable[[int], None] = lambda _: None
    states: ClientStates = field(default_factory=ClientStates)
    inputs: ModelInputs = field(init=False)
    beginning: Beginning = field(init=False)
    work_plan: WorkPlan = field(init=False)
    evaluate: Evaluation = field(init=False)
    membership: Membership = field(init=False)
    twins: LocalTwins | None = field(init=False, default=None)
    kind: Kind = field(init=False)
    familiarity_stage: FamiliarityStage | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rounds = PublicRounds(self.select, self.data.public, self.streams, self.augment)
        self.inputs = ModelInputs(self.data, rounds, self.device, self.private_augment)
        fold = fold_of(self.guard, self.data, self.streams)
        self.work_plan = WorkPlan(self.inputs, self.plan, self.loss, self.streams, held_out=fold)
        self.evaluate = Evaluation(self.inputs, self.trainer, self.plan.eval_batch_size)
        self.beginning = Beginning(
            self.models,
            self.inputs,
            self.plan,
            self.make_optimizer,
            self.trainer,
            self.streams,
            self.pretraining,
            self.initial,
        )
        begin = self.beginning.after_public
        self.membership = Membership(
            self.attacked, self.shadows, begin, self.make_optimizer, self.rates
        )
        if self.guard is not None and not isinstance(self.guard, Validation):
            pretrains = self.pretraining is not None and self.pretraining.baseline
            self.twins = LocalTwins(
                self.states, self.beginning, self.work_plan, self.make_optimizer, pretrains
            )
        self.kind = kind_of_exchange(self.exchange, self.models, self.data)
        if self.familiarity is not None:
            batch_size = self.plan.eval_batch_size
            self.familiarity_stage = FamiliarityStage(
                self.familiarity, self.inputs, self.trainer, batch_size, self.streams
            )

    def train(
        self, header: Header, client_ids: Sequence[int]
    ) -> tuple[Payload | Parcel | None, ClientMetrics | None, list[Failure]]:
        """Train each client on its private data; share and evaluate if the header says so.

        Args:
            header: The arm (see :class:`ClientStates`), the round, and what is wanted.
            client_ids: Which of the hosted clients take part.

        Returns:
            The knowledge and the metrics of the clients that finished, and the failures.
        """
        arm = self.in_arm(header)
        way, tools, round_ = arm.way, arm.tools, header.round
        shared: list[Payload | Parcel] = []
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            held = [arm.student(client_id) for client_id in cohort]
            spent = arm.take_steps(way.train(held, tools, round_, exchanging=header.share))
            if arm.twins is not None:
                spent = with_twins(spent, arm.take_steps(arm.twins.local(held, round_)))
            remember: Remember = {}
            if header.share:
                made = check_shared(way.share(held, tools, round_), way, self.kind, cohort)
                knowledge, remember = self.channel.write(made, self._memory(cohort))
            evaluation_models = way.evaluation_models(held, tools, Phase.LOCAL)
            tested = arm.evaluation(evaluation_models) if header.evaluate else []
            for row, client_id in zip(tested, cohort, strict=False):
                if STEPS in (extras := self.states.memory(client_id)):
                    row.metrics["pretrain_steps"] = float(extras[STEPS])
            tested = with_spending(tested, cohort, spent)
            if header.share and header.evaluate:
                attacks = self.membership(evaluation_models, tools, round_)
                for row, found in zip(tested, attacks, strict=False):
                    row.metrics.update(found)
            # Nothing may fail from here on: a client is done, or it is not.
            self._remember(remember)
            if header.share:
                self.inputs.keep_told(self._memory(cohort))
                shared.append(knowledge)
            table.update(zip(cohort, tested, strict=True))

        failures = self._each(client_ids, header, "train", step)
        together = type(shared[0]).stack(shared) if shared else None  # type: ignore[arg-type]
        return together, stacked(table, answers=header.answers), failures

    def distil(
        self, header: Header, client_ids: Sequence[int], received: Payload | Parcel | None
    ) -> tuple[ClientMetrics | None, list[Failure]]:
        """Let each client learn from what came back, then evaluate.

        Where nothing did, each client takes as many steps on its private data as distillation
        takes (or as many samples: ``budget``), so that a method that fuses and one that does not
        spend the same.
        """
        arm = self.in_arm(header)
        way, tools, round_ = arm.way, arm.tools, header.round
        judge = arm.judge()
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            distils = received is not None and self.kind.upload is KnowledgeBank
            held = [arm.student(i, distils=distils) for i in cohort]
            evaluation_models = partial(way.evaluation_models, held, tools, Phase.FUSED)
            undo = None
            if received is not None and isinstance(self.guard, Validation):
                undo = Undo(self.guard, arm.evaluation)
            memory = undo.before(held, evaluation_models) if undo is not None else None
            if received is None:
                alone = arm.work_plan.budget_matched(cohort, round_)
                tasks = [
                    (student, work)
                    for student, work in zip(evaluation_models(), alone, strict=True)
                    if not tools.is_ahead(student.client_id, round_)
                ]
            else:
                self.inputs.recall_told(self._memory(cohort))
                theirs = rows_of(received, cohort, client_ids)
                if isinstance(theirs, Parcel):
                    theirs, remember = self.channel.read(
                        theirs,
                        self._memory(cohort),
                        self.inputs.rounds.index(round_),
                        len(self.data.public),
                    )
                    self._remember(remember)
                tasks = way.learn(held, tools, round_, theirs)
                # Who rests takes in an average; steps are for those whose twins take them too.
                tasks = [task for task in tasks if tools.taught(task[0].client_id)]
            spent = arm.take_steps(tasks, trained=True)
            if arm.twins is not None:
                learning = [student for student in held if tools.taught(student.client_id)]
                also = arm.take_steps(arm.twins.instead(learning, round_), trained=True)
                spent = with_twins(spent, also)
            if undo is not None and memory is not None:
                tested = undo.after(held, evaluation_models, memory, evaluate=header.evaluate)
            else:
                tested = judge(evaluation_models()) if header.evaluate else []
            self.inputs.forget_told(self._memory(cohort))
            table.update(
                zip(cohort, with_spending(tested, cohort, spent, tools.found), strict=True)
            )

        failures = self._each(client_ids, header, "distill", step)
        return stacked(table, answers=header.answers), failures

    def test(
        self, header: Header, client_ids: Sequence[int]
    ) -> tuple[ClientMetrics | None, list[Failure]]:
        """Evaluate clients as they are: those that rest in this round, or whom probes ask."""
        arm = self.in_arm(header)
        judge = arm.probing() if header.probe else arm.judge()
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            # Who has not done anything yet is made for the test; pre-training is kept, it is dear.
            looked_at = self.states.looked_at(header.arm, cohort, keep_new=arm.tools.pretrains)
            with looked_at:
                held = [arm.student(client_id) for client_id in cohort]
                tested = judge(arm.way.evaluation_models(held, arm.tools, Phase.FUSED))
            table.update(zip(cohort, tested, strict=True))

        failures = self._each(client_ids, header, "test", step)
        return stacked(table, answers=header.answers), failures

    def restart(self, arm: str, client_ids: Sequence[int]) -> None:
        """Let clients forget all that they have learnt, as a machine does that lost its disk."""
        for client_id in client_ids:
            self.states.forget(arm, client_id)

    def in_arm(self, header: Header) -> InArm:
        """Return what the request's arm makes of the clients."""
        return InArm(self, header)

    # -- one cohort ----------------------------------------------------------------------------

    def _memory(self, cohort: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        return {client_id: self.states.memory(client_id) for client_id in cohort}

    def _remember(self, news: Remember) -> None:
        for client_id, entries in news.items():
            self.states.memory(client_id).update(entries)

    def _each(
        self, client_ids: Sequence[int], header: Header, phase: str, step: Step
    ) -> list[Failure]:
        """Take a step with each cohort; return the clients that failed."""
        attempt = Attempt(header.round, phase, self.plan.threads, self.device)
        alone = Alone(self.states, header.arm, self.make_optimizer) if self.isolates else None
        failures = []
        names = [self.models.name(client_id) for client_id in client_ids]
        for cohort in self.trainer.cohorts(client_ids, names):
            failures += attempt(cohort, step, alone)
            for client_id in cohort:
                self.on_client_done(client_id)
        return failures
