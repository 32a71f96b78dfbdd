"""FedGen: last layers go up, their mean and a generator of features come back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from clients.exchange.class_means import common_feature_size
from clients.exchange.global_header import require_bias, take_head
from clients.exchange.private_steps import PrivateSteps
from clients.exchange.protocol import Task, Tools
from fedfuse.distill import KL
from fedfuse.exchange.heads import Heads
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.exchange.kind import Kind
from fedfuse.exchange.latent_generator import LatentGenerator, TrainedGenerator
from fedfuse.layout import Layout
from fedfuse.local_loss import cross_entropy
from fedfuse.models.features import last_linear
from fedfuse.models.heads import head_rows
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.train.facts import labels_of
from fedfuse.train.sides import split_targets, widened
from fedfuse.train.trainer import Student
from fedfuse.train.work import SampleLoss, Work
from fedfuse.types import FederatedData
from fedfuse.validation import require_count, require_number

GENERATOR = "exchange/generator"
"""Where a client remembers the generator that came last, as a vector."""


@dataclass(frozen=True, slots=True)
class LatentFeatures(PrivateSteps):
    """Exchange last layers for generated features (Zhu et al., ICML 2021, arXiv 2105.10056).

    Every step on private data of round t adds, with z = G(y, e) and z' = G(y', e') of other noise,
    y' drawn alike from all classes that anybody has had,

        decay^(t - 1) (alpha CE(h(z'), y') + beta KL(softmax(h(z)) || p(x))),

    h the client's last layer, which the first moves and which is a fixed teacher in the second.
    Architectures may differ; their features must have one size. The authors average whole models.

    Args:
        alpha: Weight of generated features with labels of their own.
        beta: Weight of what is said of features of the sample's label.
        decay: Factor of both from round to round.
        noise: Numbers of noise.
        hidden: Units of the generator.
        diversity: Weight of what keeps generated features apart.
        server_steps: Of the server's Adam in a round, on top of the clients'.
        server_batch_size: Generated features per step.
        server_learning_rate: Adam's.
        server_weight_decay: Likewise.
        seed: Of the generator's first weights and of what the server draws.
    """

    alpha: float = 10.0
    beta: float = 10.0
    decay: float = 0.98
    noise: int = 32
    hidden: int = 256
    diversity: float = 1.0
    server_steps: int = 50
    server_batch_size: int = 32
    server_learning_rate: float = 3e-4
    server_weight_decay: float = 0.01
    seed: int = 0
    batchable: ClassVar[bool] = False
    tells_label_counts: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "diversity", "server_weight_decay"):
            require_number("LatentFeatures", name, getattr(self, name), at_least=0)
        require_number("LatentFeatures", "decay", self.decay, above=0, at_most=1)
        for name in ("noise", "hidden", "server_steps"):
            require_count("LatentFeatures", name, getattr(self, name))
        require_count("LatentFeatures", "server_batch_size", self.server_batch_size, at_least=2)
        rate = self.server_learning_rate
        require_number("LatentFeatures", "server_learning_rate", rate, above=0)

    def kind(self, models: ModelPlan, data: FederatedData) -> Kind:
        """Return last layers with label counts, and last layers with a generator.

        Raises:
            ModelError: If the models' features are not of one size, or a last layer has no bias.
        """
        size = common_feature_size("Generated features", models, data)
        require_bias(models, data)
        sizes = {"H": size + 1, "W": Layout.of(self.generator(data.num_classes, size)).size}
        up, down = frozenset({"num_examples"}), frozenset({"generator"})
        return Kind(Heads, Heads, sizes, up=up, down=down)

    def combine(self, models: ModelPlan, data: FederatedData) -> TrainedGenerator:
        """Return what trains the generator."""
        size = common_feature_size("Generated features", models, data)
        made = partial(self.generator, data.num_classes, size)
        return TrainedGenerator(
            KeptModel("generator", made, Streams(self.seed)),
            self.server_steps,
            self.server_batch_size,
            self.server_learning_rate,
            self.server_weight_decay,
            self.diversity,
        )

    def generator(self, num_classes: int, size: int) -> LatentGenerator:
        """Return a generator, whatever its weights."""
        return LatentGenerator(num_classes, size, self.noise, self.hidden)

    def share(self, held: Sequence[Student], tools: Tools, round_: int) -> Heads:  # noqa: ARG002
        """Return last layers, and each client's samples per class."""
        ids = [student.client_id for student in held]
        heads = torch.stack([head_rows(student.model) for student in held])
        return Heads(torch.tensor(ids), heads, tools.inputs.class_counts(ids))

    def learn(
        self, held: Sequence[Student], tools: Tools, round_: int, received: Heads
    ) -> list[Task]:
        """Take layer and generator over; return as many private steps as distillation takes."""
        assert received.generator is not None
        for student, head, vector in zip(held, received.heads, received.generator, strict=True):
            take_head(student, head)
            tools.memory(student.client_id)[GENERATOR] = vector.clone()
        return self.after(held, tools, round_)

    def beside(self, student: Student, work: Work, tools: Tools, when: tuple[int, str]) -> Task:
        """Return the steps with two generated features beside each private sample."""
        vector = tools.memory(student.client_id).get(GENERATOR)
        if vector is None:
            return student, work
        head = last_linear(student.model)
        model = self.generator(tools.inputs.data.num_classes, head.in_features)
        Layout.of(model).load(model, vector.cpu())
        if not bool(model.seen.any()):
            return student, work
        draw = tools.streams.torch("client", student.client_id, "generated features", *when)
        own = labels_of(work.targets).cpu()
        others = model.labels(len(own), draw)
        with torch.no_grad():
            made = [model.eval()(model.draw(labels, draw)) for labels in (own, others)]
        told = torch.cat([*made, others.unsqueeze(1).float()], dim=1).to(work.inputs.device)
        factor = self.decay ** (when[0] - 1)
        loss = WithGenerated(head, self.alpha * factor, self.beta * factor, work.loss)
        return student, replace(work, targets=widened(work.targets, told), loss=loss)


@dataclass(frozen=True, slots=True, eq=False)
class WithGenerated:
    """``loss(logits, y) + alpha CE(h(z'), y') + beta KL(softmax(h(z)) || softmax(logits))``.

    Targets hold, behind those of the loss, z, z' and y', [B, ... + d + d + 1].
    """

    head: nn.Linear
    alpha: float
    beta: float
    loss: SampleLoss = cross_entropy

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return one loss per sample, [B]."""
        size = self.head.in_features
        own, told = split_targets(targets, 2 * size + 1)
        same, other, labels = torch.split(told, [size, size, 1], dim=1)
        with torch.no_grad():
            teacher = self.head(same).softmax(dim=1)
        drawn = cross_entropy(self.head(other), labels[:, 0].long())
        return self.loss(logits, own) + self.alpha * drawn + self.beta * KL()(logits, teacher)
