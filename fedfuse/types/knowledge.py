"""Knowledge that goes up, and the teachers that come down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import torch
from torch import Tensor

from fedfuse.payload import COUNTS, LOGITS, NOT_NEGATIVE, SIMPLEX, ArrayField, Payload, TextField
from fedfuse.payload.fields import OR_NAN


class Space(StrEnum):
    """What a teacher's numbers are."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"


@dataclass(frozen=True, slots=True)
class KnowledgeBank(Payload):
    """What clients send up: their predictions on the public set, and what goes with them.

    Args:
        client_ids: int64 [K], ascending.
        logits: float32 [K, P, C], raw, from a model in eval mode without augmentation.
        num_examples: int64 [K], private training samples.
        class_distribution: float32 [K, C], share of each class in the private data; None unless
            the method asked for it and the user allows it to leave the client.
        mask: bool [K, P], True where the client answers for the sample; None means everywhere.
        confidence: float32 [K, P], how much the client trusts its own answer; None if not sent.
        features: float32 [K, P, D], what goes into the models' last layer, or a projection of it
            on D numbers; None unless the exchange asks for it.
        prototypes: float32 [K, C, D], a vector for each class, zero where there is none; likewise.
        present: bool [K, C], which of them there are; likewise.
        estimate: float32 [K, C], the client's mean prediction, where it shows another model than
            its own; likewise.
        wishes: bool [K, P], True where the client wants to be taught; None for all samples.
        scores: float32 [K, S], what the client makes of each client of the federation as a source,
            as only it can tell; NaN of those that it does not know; None unless the exchange asks
            for it.
        efficiency: float32 [K], by how much of what is left local training has lowered the client's
            private loss since it last shared; NaN if it never did; likewise.
    """

    logits: Annotated[Tensor, ArrayField("K P C", bounds=LOGITS)]
    num_examples: Annotated[Tensor, ArrayField("K", torch.int64, COUNTS)]
    class_distribution: Annotated[Tensor | None, ArrayField("K C", bounds=SIMPLEX)] = None
    mask: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None
    confidence: Annotated[Tensor | None, ArrayField("K P")] = None
    features: Annotated[Tensor | None, ArrayField("K P D", bounds=LOGITS, asked=True)] = None
    prototypes: Annotated[Tensor | None, ArrayField("K C D", bounds=LOGITS, asked=True)] = None
    present: Annotated[Tensor | None, ArrayField("K C", torch.bool, asked=True)] = None
    estimate: Annotated[Tensor | None, ArrayField("K C", bounds=SIMPLEX, asked=True)] = None
    wishes: Annotated[Tensor | None, ArrayField("K P", torch.bool)] = None
    scores: Annotated[Tensor | None, ArrayField("K S", bounds=OR_NAN, asked=True)] = None
    efficiency: Annotated[Tensor | None, ArrayField("K", bounds=OR_NAN, asked=True)] = None

    @property
    def num_classes(self) -> int:
        """Return C."""
        return int(self.logits.shape[2])


@dataclass(frozen=True, slots=True)
class Teachers(Payload):
    """What comes down: one fused target per receiving client.

    Args:
        client_ids: int64 [K], ascending.
        targets: float32 [K, P, C], logits or probabilities.
        space: Which of the two.
        sample_weight: float32 [K, P], how much each public sample counts in distillation
            (0 leaves it out); None means 1 everywhere.
        features: float32 [K, P, D], what was fused of the clients' features; None unless the
            exchange asks for it.
        prototypes: float32 [K, C, D], what was fused of their prototypes, zero where there are
            none; likewise.
        present: bool [K, C], of which classes there is one; likewise.
        peers: float32 [K, S, P, C], what each client of the federation said, as logits, zero where
            it said nothing; likewise.
        heard: bool [K, S], which of them said something; likewise.
    """

    targets: Annotated[
        Tensor,
        ArrayField("K P C", bounds=SIMPLEX, only_if=("space", Space.PROBABILITIES)),
    ]
    space: Annotated[Space, TextField()]
    sample_weight: Annotated[Tensor | None, ArrayField("K P", bounds=NOT_NEGATIVE)] = None
    features: Annotated[Tensor | None, ArrayField("K P D", bounds=LOGITS, asked=True)] = None
    prototypes: Annotated[Tensor | None, ArrayField("K C D", bounds=LOGITS, asked=True)] = None
    present: Annotated[Tensor | None, ArrayField("K C", torch.bool, asked=True)] = None
    peers: Annotated[Tensor | None, ArrayField("K S P C", bounds=LOGITS, asked=True)] = None
    heard: Annotated[Tensor | None, ArrayField("K S", torch.bool, asked=True)] = None

    def as_logits(self, temperature: float) -> Tensor:
        """Return the targets as logits at a temperature, which that of probabilities is already."""
        if self.space is Space.LOGITS:
            return self.targets / temperature
        return self.targets.clamp_min(torch.finfo(self.targets.dtype).tiny).log()


@dataclass(frozen=True, slots=True)
class ClassShares:
    """What a record keeps of weights ``w_ijc`` that differ by class, beside their mean over them.

    Args:
        shares: float32 [K, C], how much each source's knowledge counts for each class, the mean
            over the receivers; columns sum to 1.
        effective_neighbours: float32 [K], how many equally weighted sources each receiver amounts
            to, the mean over the classes.
    """

    shares: Tensor
    effective_neighbours: Tensor


@dataclass(frozen=True, slots=True)
class Fusion:
    """What the server made of one round's knowledge.

    Args:
        teachers: The targets to send down.
        weights: float32 [K, K], row = receiver, column = source, rows sum to 1; a sparse (COO)
            tensor where K is too large to hold every pair; the mean over the classes of weights
            that differ by class; None where a way to exchange has no weights of pairs.
        metrics: What the server measured of itself, by name.
        model: The weights of the server's own model, by name; None if it has none.
        by_class: What else is kept of weights that differ by class; None if they do not.
    """

    teachers: Payload
    weights: Tensor | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: Mapping[str, Tensor] | None = None
    by_class: ClassShares | None = None
