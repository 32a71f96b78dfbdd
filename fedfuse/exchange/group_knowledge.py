"""FedGKT's server: a larger model learns from what clients' models make of their private samples.

Group Knowledge Transfer (He et al. 2020, arXiv 2007.14513), as read in its code: clients send, of
every private sample, features, logits and the label; the server's model takes features, learns
``KL(client || server) + alpha CE`` and sends its own logits back, from which clients learn
``CE + alpha KL(server || client)``. With a refinement of the clients' logits it is FedDKC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor, nn

from fedfuse.distill.taught import also_taught
from fedfuse.errors import KnowledgeError
from fedfuse.exchange.congruence import Refinement
from fedfuse.exchange.kept_model import require_finite
from fedfuse.local_loss import cross_entropy
from fedfuse.payload import LOGITS, NOT_NEGATIVE, ArrayField, Payload
from fedfuse.payload.fields import Bounds
from fedfuse.rng import Streams
from fedfuse.train.loop import fit, predict
from fedfuse.train.saved import restore_training, training_state
from fedfuse.train.work import Scaled, Work, schedule, steps_per_epoch
from fedfuse.types import Fusion

LABELS = Bounds(0, 2**31 - 1)
ASK_AT_ONCE = 500
"""Samples of which the server's model is asked in one go."""


@dataclass(frozen=True, slots=True)
class SampleKnowledge(Payload):
    """What clients say of each of their N_k private samples, in the order of their rows.

    Args:
        client_ids: int64 [K], ascending.
        sizes: int64 [K], N_k.
        logit_sizes: int64 [K], N_k C.
        feature_sizes: int64 [K], N_k D.
        labels: int32, all clients' one after the other.
        logits: float32, sample by sample, likewise.
        features: float32, likewise.
    """

    sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    logit_sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    feature_sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    labels: Annotated[Tensor, ArrayField("N", torch.int32, LABELS, lengths="sizes")]
    logits: Annotated[Tensor, ArrayField("L", bounds=LOGITS, lengths="logit_sizes")]
    features: Annotated[Tensor, ArrayField("F", bounds=LOGITS, lengths="feature_sizes")]


@dataclass(frozen=True, slots=True)
class SampleTeachers(Payload):
    """A teacher's logits of each of a client's private samples, in the order of its rows.

    Args:
        client_ids: int64 [K], ascending.
        logit_sizes: int64 [K], N_k C.
        logits: float32, sample by sample, all clients' one after the other; NaN where there is no
            teacher.
    """

    logit_sizes: Annotated[Tensor, ArrayField("K", torch.int64, NOT_NEGATIVE)]
    logits: Annotated[
        Tensor,
        ArrayField("L", bounds=Bounds(LOGITS.least, LOGITS.most, may_be_nan=True),
                   lengths="logit_sizes"),
    ]  # fmt: skip


@dataclass(slots=True)
class GroupServer:
    """Train one model on all clients' features, kept from round to round.

    Args:
        model: Features [N, *shape] to logits [N, C].
        shape: Of one sample's features.
        num_classes: C.
        streams: The run's random streams.
        refine: What of the clients' logits is learned.
        alpha: Weight of the labels beside the clients' predictions.
        temperature: Of both softmaxes.
        epochs: Passes over the samples that came, shuffled together.
        batch_size: Samples per step.
        learning_rate: Of Adam.
    """

    model: nn.Module
    shape: tuple[int, ...]
    num_classes: int
    streams: Streams
    refine: Callable[[Tensor], Tensor] = Refinement()  # noqa: RUF009 - frozen
    alpha: float = 1.0
    temperature: float = 1.0
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 1e-3
    optimizer: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = self._new_optimizer()

    def __call__(self, knowledge: SampleKnowledge, round_: int) -> Fusion:
        """Return the model's logits of each client's samples, once it has learned from all.

        Raises:
            FedfuseError: If the model's training diverges.
        """
        features = knowledge.features.reshape(-1, *self.shape)
        logits = knowledge.logits.reshape(-1, self.num_classes)
        work = self.lesson(features, logits, knowledge.labels.long(), round_)
        with torch.random.fork_rng(devices=[]):
            loss = fit(self.model, self.optimizer, work)
        said = predict(self.model, features, ASK_AT_ONCE)
        require_finite("model", round_, loss, [said])  # NaN would be no teacher to clients
        said = said.clamp(LOGITS.least, LOGITS.most)  # or one's features stop those who receive
        down = SampleTeachers(knowledge.client_ids, knowledge.logit_sizes, said.flatten())
        return Fusion(down, None, {"server_steps": float(work.schedule.num_steps)})

    def check_bank(self, knowledge: SampleKnowledge) -> None:
        """Raise KnowledgeError if a client's labels are of classes that there are not."""
        check_labels(knowledge, self.num_classes)

    def lesson(self, features: Tensor, logits: Tensor, labels: Tensor, round_: int) -> Work:
        """Return the steps of a round: ``alpha CE(y) + T**2 KL(refined || softmax(z / T))``."""
        steps = self.epochs * steps_per_epoch(len(labels), self.batch_size)
        generator = self.streams.torch("server", "group knowledge", round_)
        work = Work(
            inputs=features,
            targets=labels,
            loss=Scaled(cross_entropy, self.alpha),
            schedule=schedule(len(labels), self.batch_size, steps, generator),
            entropy=self.streams.entropy("server", "group knowledge", round_, "layers"),
        )
        return also_taught(work, self.refine(logits), 1.0, self.temperature)

    def state(self) -> dict[str, Tensor]:
        """Return the model and its optimiser's moments by name."""
        return training_state(self.model, self.optimizer)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        self.optimizer = self._new_optimizer()
        restore_training(self.model, self.optimizer, state)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)


def check_labels(knowledge: Payload, num_classes: int) -> None:
    """Raise for the first client with ``labels`` of classes that there are not."""
    for client_id, labels in zip(
        knowledge.client_ids.tolist(), knowledge.split("labels"), strict=True
    ):
        if len(labels) and int(labels.max()) >= num_classes:
            error = KnowledgeError(
                f"'labels' of client {client_id} are of classes that there are not",
                got=int(labels.max()),
                allowed=f"0 to {num_classes - 1}",
            )
            error.client_ids = (client_id,)
            raise error
