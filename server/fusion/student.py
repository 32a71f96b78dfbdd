"""A model of the server's own, which learns what the server tells its clients.

DS-FL, FedDF, CFD and Cronus have one; any method that fuses predictions can. Its architecture is
its own choice and may be larger than any client's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from fedfuse.data.tensors import to_inputs
from fedfuse.declarations import declared
from fedfuse.distill.targets import as_targets, labels_for
from fedfuse.exchange.beside import to_all
from fedfuse.exchange.kind import Combine
from fedfuse.metrics import accuracy, cross_entropy
from fedfuse.models.features import WithFeatures, feature_size
from fedfuse.models.projection import projection
from fedfuse.protocols import DistillLoss
from fedfuse.rng import Streams
from fedfuse.select import PublicRounds, PublicSamples
from fedfuse.train.divergence import diverged
from fedfuse.train.facts import Facts, as_trained, told, wants, widen
from fedfuse.train.learning_rate import Rates
from fedfuse.train.loop import fit, predict
from fedfuse.train.saved import restore_training, training_state, weights_of
from fedfuse.train.sides import FeatureTerm, on_sides
from fedfuse.train.work import Work, schedule_over, steps_per_epoch
from fedfuse.types import FederatedData, Fusion, Space, Teachers
from server.fusion.selection import RightAnswers, selected

if TYPE_CHECKING:
    from server.fusion.guided import GuidedSamples


@dataclass(slots=True)
class ServerModel:
    """Distil each round's fused knowledge into one model, kept from round to round.

    Args:
        model: The model, on its device.
        make_optimizer: Parameters to optimiser.
        loss: What distillation minimises, as on the clients.
        data: The federation's data; the public inputs and the test pool are read.
        rounds: Which public samples each round is about.
        streams: The run's random streams.
        epochs: Passes over the round's public samples.
        batch_size: Public samples per step.
        device: Where it learns.
        left_out: What samples that do not count cost, as on the clients: ``skip`` or ``visit``.
        of_features: What it also learns, of features that come with the teachers; None for nothing.
        width: D of those features; its own are projected on as many.
        rates: At which share of the learning rate steps are taken; None for all of it.
        clip_norm: Largest norm that the gradient of a step keeps; None for any.
        right: What it said of samples as it last was right, by which it selects what it learns of
            others (FedGEMS); None learns what was fused.
    """

    model: nn.Module
    make_optimizer: Callable[..., torch.optim.Optimizer]
    loss: DistillLoss
    data: FederatedData
    rounds: PublicRounds
    streams: Streams
    epochs: int
    batch_size: int
    device: torch.device
    left_out: str = "skip"
    of_features: FeatureTerm | None = None
    width: int = 0
    rates: Rates | None = None
    clip_norm: float | None = None
    right: RightAnswers | None = None
    optimizer: torch.optim.Optimizer = field(init=False)
    _public: Tensor | None = None
    samples: PublicSamples = field(init=False)
    _test: Tensor | None = None
    _shares: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.optimizer = self.make_optimizer(self.model.parameters())
        self.samples = PublicSamples(self.rounds, self._whole)

    def learn(self, teachers: Teachers, round_: int) -> int:
        """Take the steps of one round towards what all clients are told on average.

        Without personal teachers that is what each of them is told. A loss may want to know the
        labels and the model's own logits; private data, and with it a prior, the server has none.

        Returns:
            How many steps.

        Raises:
            FedfuseError: If its loss is no finite number any more, or wants to know more.
        """
        common = in_common(teachers).to(self.device)
        inputs = self.samples.learned(round_)
        steps = self.epochs * steps_per_epoch(len(inputs), self.batch_size)
        generator = self.streams.torch("server", "student", round_)
        targets, weight = as_targets(common, self.loss)[0], common.sample_weight
        if self.right is not None:
            targets, weight = self._selected(targets, weight, round_)
        if wanted := wants(self.loss):
            labels = labels_for(self.loss, self.rounds.labels(round_), targets)
            asked = self.samples.asked(round_)
            own = predict(self.model, asked, self.batch_size) if "own" in wanted else None
            facts = told(self.loss, Facts(labels=labels, own=own))
            targets = widen(targets, facts.to(self.device))
        counts = torch.ones(len(inputs))
        if weight is not None and self.left_out == "skip":
            counts = weight[0].cpu()
        work = Work(
            inputs=inputs,
            targets=targets,
            loss=as_trained(self.loss),
            schedule=schedule_over(counts, self.batch_size, steps, generator),
            sample_weight=None if weight is None else weight[0],
            entropy=self.streams.entropy("server", "student", round_, "layers"),
        )
        if self.rates is not None:
            work = self.rates.over(work, round_ - 1, round_)
        model = self.model
        if self.of_features is not None and common.features is not None:
            model, classes = self._showing(), self.data.num_classes
            work = on_sides(work, classes, self.of_features, common.features[0])
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            loss = fit(model, self.optimizer, work, clip_norm=self.clip_norm)
        if work.schedule.num_steps and not np.isfinite(loss):
            what = f"Training of the server's model diverged in round {round_}"
            raise diverged(what, loss, work, self.optimizer)
        return work.schedule.num_steps

    def _selected(
        self, fused: Tensor, weight: Tensor | None, round_: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return targets of the model's own right answers and of others, and what counts."""
        assert self.right is not None
        labels, index = self.rounds.labels(round_), self.rounds.index(round_)
        assert labels is not None
        own = predict(self.model, self.samples.asked(round_), self.batch_size).cpu()
        right, before = self.right.note(index, own, labels)
        kept = self.right.of(index, float(declared(self.loss, "temperature", 1.0)))
        self._shares = {
            "server_right": float(right.float().mean()),
            "server_remembered": float(before.float().mean()),
        }
        targets = selected(fused.cpu(), kept, labels, right, before).to(self.device)
        if weight is not None:  # it needs no answer of anybody else
            weight = torch.where((right | before).to(self.device), 1, weight)
        return targets, weight

    def metrics(self) -> dict[str, float]:
        """Return accuracy and loss on the balanced test pool, and of what the lesson was made."""
        if self._test is None:
            inputs = to_inputs(self.data.test.inputs, self.data.mean, self.data.std)
            self._test = inputs.to(self.device)
        logits = predict(self.model, self._test, self.batch_size).cpu()
        labels = torch.from_numpy(np.array(self.data.test.labels))
        return {
            "accuracy_server": accuracy(logits, labels),
            "loss_server": cross_entropy(logits, labels),
            **self._shares,
        }

    def teach(self, client_ids: Tensor, round_: int) -> Teachers:
        """Return the model's own predictions on the round's public samples, for each client.

        They are in the space of the clients' loss and at its temperature.
        """
        logits = predict(self.model, self.samples.asked(round_), self.batch_size).cpu()
        said = Teachers(client_ids[:1], logits.unsqueeze(0), Space.LOGITS)
        targets = as_targets(said, self.loss).repeat(len(client_ids), 1, 1)
        space = Space(declared(self.loss, "space", Space.PROBABILITIES))
        return Teachers(client_ids, targets, space)

    def features(self, round_: int) -> Tensor:
        """Return the model's features of the round's public samples, [m, D]."""
        sides = predict(self._showing(), self.samples.asked(round_), self.batch_size)
        return sides[:, self.data.num_classes :].cpu().clone()

    def _showing(self) -> WithFeatures:
        """Return the model with its features, D wide, beside its logits."""
        size, fixed = feature_size(self.model, self.data.num_classes), None
        if size != self.width:
            entropy = self.streams.entropy("exchange", "projection", "server")
            fixed = projection(size, self.width, entropy, self.device)
        return WithFeatures(self.model, self.data.num_classes, fixed)

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the model's state, on the CPU."""
        return weights_of(self.model)

    def state(self) -> dict[str, Tensor]:
        """Return the model, its optimiser's moments and what it remembers, by name."""
        kept = {} if self.right is None else self.right.state()
        return training_state(self.model, self.optimizer) | kept

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.optimizer = self.make_optimizer(self.model.parameters())
        kept = {name: value for name, value in state.items() if name.startswith("right/")}
        of_model = {name: value for name, value in state.items() if name not in kept}
        restore_training(self.model, self.optimizer, of_model)
        if self.right is not None:
            self.right.restore(kept)

    def _whole(self) -> Tensor:
        if self._public is None:
            inputs = to_inputs(self.data.public.inputs, self.data.mean, self.data.std)
            self._public = inputs.to(self.device)
        return self._public


def in_common(teachers: Teachers) -> Teachers:
    """Return what all clients are told on average, as the teacher of the first.

    A target counts as much as its sample does for its client: what stands where nobody answered
    is no knowledge. A sample's weight is the mean over the clients.
    """
    targets, weight = teachers.targets, teachers.sample_weight
    if weight is None:
        return replace(teachers.rows(slice(1)), targets=targets.mean(dim=0, keepdim=True))
    mass = weight.sum(dim=0, keepdim=True)
    # A sample that counts for nobody keeps the mean of what stands there, and weighs nothing.
    shares = torch.where(mass > 0, weight / mass, 1 / len(weight))
    return replace(
        teachers.rows(slice(1)),
        targets=(shares.unsqueeze(-1) * targets).sum(dim=0, keepdim=True),
        sample_weight=weight.mean(dim=0, keepdim=True),
    )


@dataclass(frozen=True, slots=True)
class AlsoTeach:
    """Fuse, then let the server's model learn from what was fused.

    Args:
        combine: What fuses.
        student: The server's model.
        relays: Whether clients are taught by the server's model in the fused targets' place (the
            second distillation of CFD).
        guided: What chooses, with the model, what becomes of public samples; None for nothing.
    """

    combine: Combine
    student: ServerModel
    relays: bool = False
    guided: GuidedSamples | None = None

    def __call__(self, knowledge: object, round_: int) -> Fusion:
        """Return the fusion with the server's model and how good it is.

        If it learns of features, clients get its own in the fused ones' place.
        """
        fusion = self.combine(knowledge, round_)
        assert isinstance(fusion.teachers, Teachers)
        if self.guided is not None:
            self.guided.before_lesson()
        steps = self.student.learn(fusion.teachers, round_)
        if self.student.of_features is not None:
            fusion = to_all(fusion, features=self.student.features(round_))
        if self.relays:
            came = fusion.teachers
            assert isinstance(came, Teachers)
            said = self.student.teach(came.client_ids, round_)
            # What came beside the targets goes on; it is theirs that the model takes the place of.
            own = replace(came, targets=said.targets, space=said.space, sample_weight=None)
            fusion = replace(fusion, teachers=own)
        metrics = {**fusion.metrics, **self.student.metrics(), "server_steps": float(steps)}
        return replace(fusion, metrics=metrics, model=self.student.weights())
