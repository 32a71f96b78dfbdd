"""What a client does in a round: learn alone, share what it knows, learn from what comes back.

No Flower here: ``clients.app`` turns messages into calls of :class:`Node` and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from clients.exchange import Exchange, Predictions, Tools
from clients.exchange.protocol import check_shared, kind_of_exchange
from clients.failure_isolation import Alone, Attempt, Spent, Step, take_steps
from clients.membership import Membership
from clients.sharing.chain import Sharing
from clients.sharing.channel import ClientChannel, Remember
from clients.sharing.familiarity import FamiliarityStage
from clients.sharing.own_choice import OwnChoice
from clients.state.state import ClientState, OptimizerFactory
from clients.state.states import ClientStates
from clients.training.arm import ArmSettings
from clients.training.deployment import Deployment, fold_of, speaking
from clients.training.evaluation import Evaluation
from clients.training.guard import Undo
from clients.training.pace import paced
from clients.training.pretrain import STEPS, Beginning, Initial, Pretraining
from clients.training.probing import Probing
from clients.training.samples import ModelInputs
from clients.training.settings import ClientPlan
from clients.training.tested import Tested, stacked, with_spending, with_twins
from clients.training.twins import LocalTwins, Task
from clients.training.work_plan import WorkPlan, honest, rows_of
from fedfuse.augment import Augment, Guided
from fedfuse.codec import Parcel
from fedfuse.exchange.kind import Kind
from fedfuse.failure import Failure
from fedfuse.familiarity import Familiarity
from fedfuse.guard import Guard, Validation
from fedfuse.payload import Payload
from fedfuse.probes import Probe, Probes
from fedfuse.protocols import DistillLoss, ModelPlan, Relabels, Uptake
from fedfuse.rng import Streams
from fedfuse.select import All, PublicRounds, Select
from fedfuse.train.learning_rate import Rates
from fedfuse.train.trainer import LoopTrainer, Student, Trainer
from fedfuse.train.views import PrivateAugment
from fedfuse.train.work import SampleLoss
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
        self.work_plan = WorkPlan(
            self.inputs,
            self.plan,
            self.loss,
            self.streams,
            held_out=fold_of(self.guard, self.data, self.streams),
        )
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
        self.membership = Membership(
            self.attacked,
            self.shadows,
            self.beginning.after_public,
            self.make_optimizer,
            self.rates,
        )
        if self.guard is not None and not isinstance(self.guard, Validation):
            pretrains = self.pretraining is not None and self.pretraining.baseline
            self.twins = LocalTwins(
                self.states, self.beginning, self.work_plan, self.make_optimizer, pretrains
            )
        self.kind = kind_of_exchange(self.exchange, self.models, self.data)
        if self.familiarity is not None:
            self.familiarity_stage = FamiliarityStage(
                self.familiarity,
                self.inputs,
                self.trainer,
                self.plan.eval_batch_size,
                self.streams,
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
        way, tools, round_ = self.way(header), self.tools(header), header.round
        evaluate = self.evaluation(header)
        shared: list[Payload | Parcel] = []
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            held = [self.student(way, tools, client_id) for client_id in cohort]
            tasks = way.train(held, tools, round_, exchanging=header.share)
            spent = self._take_steps(tasks, header)
            if (twins := self.twins_of(header)) is not None:
                theirs = self._take_steps(twins.local(held, round_), header)
                spent = with_twins(spent, theirs)
            remember: Remember = {}
            if header.share:
                made = check_shared(way.share(held, tools, round_), way, self.kind, cohort)
                knowledge, remember = self.channel.write(made, self._memory(cohort))
            evaluation_models = way.evaluation_models(held, tools, Phase.LOCAL)
            tested = evaluate(evaluation_models) if header.evaluate else []
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
        way, tools, round_ = self.way(header), self.tools(header), header.round
        judge = self._judge(header)
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            distils = received is not None and self.kind.upload is KnowledgeBank
            held = [self.student(way, tools, i, distils=distils) for i in cohort]
            evaluation_models = partial(way.evaluation_models, held, tools, Phase.FUSED)
            undo = None
            if received is not None and isinstance(self.guard, Validation):
                undo = Undo(self.guard, self.evaluation(header))
            memory = undo.before(held, evaluation_models) if undo is not None else None
            if received is None:
                alone = self._work_plan(header).budget_matched(cohort, round_)
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
            spent = self._take_steps(tasks, header, trained=True)
            if (twins := self.twins_of(header)) is not None:
                learning = [student for student in held if tools.taught(student.client_id)]
                also = self._take_steps(twins.instead(learning, round_), header, trained=True)
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
        way, tools = self.way(header), self.tools(header)
        judge = self._probing(header) if header.probe else self._judge(header)
        table: dict[int, Tested] = {}

        def step(cohort: Sequence[int]) -> None:
            # Who has not done anything yet is made for the test; pre-training is kept, it is dear.
            looked_at = self.states.looked_at(header.arm, cohort, keep_new=tools.pretrains)
            with looked_at:
                held = [self.student(way, tools, client_id) for client_id in cohort]
                tested = judge(way.evaluation_models(held, tools, Phase.FUSED))
            table.update(zip(cohort, tested, strict=True))

        failures = self._each(client_ids, header, "test", step)
        return stacked(table, answers=header.answers), failures

    def restart(self, arm: str, client_ids: Sequence[int]) -> None:
        """Let clients forget all that they have learnt, as a machine does that lost its disk."""
        for client_id in client_ids:
            self.states.forget(arm, client_id)

    # -- one cohort ----------------------------------------------------------------------------

    def _take_steps(self, tasks: Sequence[Task], header: Header, *, trained: bool = False) -> Spent:
        """Let students take their steps of a phase at the rates that hold then.

        ``trained`` says whether it is the second one: local training is over.
        """
        if self.rates is not None:
            tasks = paced(self.rates, tasks, self.work_plan, header.round, trained=trained)
        return take_steps(self.trainer, tasks, header.round)

    def way(self, header: Header) -> Exchange:
        """Return the arm's way to exchange; clients that learn alone hold nothing but models."""
        return self.exchange if header.exchange else Predictions()

    def tools(self, header: Header) -> Tools:
        """Return what an exchange works with in the header's arm."""
        # Whoever attacks does so where knowledge is exchanged; alone, all clients are honest.
        attack = self.sharing.attack if header.exchange else None
        relabel = attack.relabel if isinstance(attack, Relabels) else honest
        return Tools(
            arm=header.arm,
            inputs=self.inputs,
            models=self.models,
            work_plan=replace(self._work_plan(header), relabel=relabel),
            trainer=self.trainer,
            plan=self.plan,
            streams=self.streams,
            familiarity_stage=self.familiarity_stage,
            sharing=self.sharing,
            memory=self.states.memory,
            pretrains=self.pretraining is not None
            and (header.exchange or self.pretraining.baseline),
            taught=header.teaches,
            present=header.present,
            uptake=self.uptake,
            width=size if isinstance(size := self.kind.sizes.get("D", 0), int) else 0,
            own_choice=self.own_choice,
        )

    def evaluation(self, header: Header) -> Evaluation:
        """Return what tests the clients of the header's arm."""
        return replace(self.evaluate, prior=self._arm(header).test_prior)

    def _arm(self, header: Header) -> ArmSettings:
        return self.arms.get(header.arm, ArmSettings())

    def _work_plan(self, header: Header) -> WorkPlan:
        return replace(self.work_plan, local_loss=self._arm(header).local_loss)

    def twins_of(self, header: Header) -> LocalTwins | None:
        """Return what trains the clients' local twins in the header's arm; None for nobody."""
        return self.twins if header.exchange else None

    def _judge(self, header: Header) -> Callable[[Sequence[Student]], list[Tested]]:
        """Return what tests clients as they end a round: what they deploy, if a guard decides."""
        evaluate, twins = self.evaluation(header), self.twins_of(header)
        if twins is None or self.guard is None or isinstance(self.guard, Validation):
            return evaluate
        labelled = None  # public labels that pre-training taught say nothing new
        if self.pretraining is None:
            labelled = speaking(self.data, self.work_plan.held_out)
        return Deployment(self.guard, evaluate, twins, labelled)

    def _probing(self, header: Header) -> Probing:
        """Return what asks models the probes."""
        probes = Probes(self.probes, self.streams)
        return Probing(probes, self.probe_samples, self.evaluation(header), header.round)

    def _memory(self, cohort: Sequence[int]) -> dict[int, dict[str, Tensor]]:
        return {client_id: self.states.memory(client_id) for client_id in cohort}

    def _remember(self, news: Remember) -> None:
        for client_id, entries in news.items():
            self.states.memory(client_id).update(entries)

    def _cohorts(self, client_ids: Sequence[int]) -> list[tuple[int, ...]]:
        return self.trainer.cohorts(client_ids, [self.models.name(i) for i in client_ids])

    def _each(
        self, client_ids: Sequence[int], header: Header, phase: str, step: Step
    ) -> list[Failure]:
        """Take a step with each cohort; return the clients that failed."""
        attempt = Attempt(header.round, phase, self.plan.threads, self.device)
        alone = Alone(self.states, header.arm, self.make_optimizer) if self.isolates else None
        failures = []
        for cohort in self._cohorts(client_ids):
            failures += attempt(cohort, step, alone)
            for client_id in cohort:
                self.on_client_done(client_id)
        return failures

    def student(
        self,
        way: Exchange,
        tools: Tools,
        client_id: int,
        *,
        begins: bool = True,
        distils: bool = False,
    ) -> Student:
        """Return the client; a new one pre-trains, unless its state is replaced next.

        Where it distils, its optimiser may be another than in private steps.
        """
        architecture = self.models.name(client_id)

        def make(new: bool) -> ClientState:
            twin = None
            if self.twins is not None and way is self.exchange:  # not in an arm that learns alone
                twin = self.twins.begin(client_id, new=new and begins)
            if not (new and begins and tools.pretrains):
                model = way.hold(client_id, self.beginning.model(client_id), tools)
                return ClientState(model, twin=twin)

            def lesson(client_id: int, labels: Tensor) -> tuple[Tensor, SampleLoss]:
                return tools.work_plan.lesson(tools.work_plan.relabel(client_id, labels))

            model, steps = self.beginning.pretrained(client_id, lesson)
            extras = {STEPS: torch.tensor(steps)}
            return ClientState(way.hold(client_id, model, tools), extras=extras, twin=twin)

        state = self.states.get(tools.arm, client_id, make)
        if self.plan.optimizer_state == "reset":
            state.forget_optimizers()
        apart = distils and self.plan.optimizer_state == "separate"
        optimizer = state.optimizer("distill" if apart else "main", self.make_optimizer)
        if apart and self.plan.distill_lr is not None:
            for group in optimizer.param_groups:
                group["lr"] = self.plan.distill_lr
        return Student(client_id, architecture, state.model, optimizer)
