"""What the server makes of features and prototypes that go with predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import Tensor

from fedfuse.exchange.kind import Combine
from fedfuse.exchange.prototypes import mean_prototypes
from fedfuse.payload import for_all
from fedfuse.shapes import Bool, Float
from fedfuse.types import Fusion, KnowledgeBank, Teachers

Beside = Callable[[KnowledgeBank, Fusion, int], Fusion]
"""What clients sent, what was fused of their predictions and the round, to the same fusion whose
teachers hold the fields that the exchange's kind asks for on their way down."""

FEATURES = frozenset({"features"})
"""A vector for each public sample."""

PROTOTYPES = frozenset({"prototypes", "present"})
"""A vector for each class, and of which classes there is one."""


def mean_features(
    features: Float[Tensor, "K P D"], mask: Bool[Tensor, "K P"] | None = None
) -> Float[Tensor, "P D"]:
    """Return each sample's mean over the clients that answer for it; zero where nobody does.

    >>> import torch
    >>> features = torch.tensor([[[1.0], [2.0]], [[3.0], [9.0]]])
    >>> mean_features(features, torch.tensor([[True, True], [True, False]])).tolist()
    [[2.0], [2.0]]
    """
    if mask is None:
        return features.mean(dim=0)
    counts = mask.sum(dim=0).clamp_min(1).unsqueeze(1)
    return (features * mask.unsqueeze(2)).sum(dim=0) / counts


def to_all(fusion: Fusion, **told: Tensor) -> Fusion:
    """Return the fusion whose teachers tell each client these fields, the same to all."""
    teachers = fusion.teachers
    assert isinstance(teachers, Teachers)
    k = teachers.num_clients
    same = {name: for_all(value, k) for name, value in told.items()}
    return replace(fusion, teachers=replace(teachers, **same))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MeanBeside:
    """Everybody gets the mean feature of each sample, or prototype of each class over its owners.

    Args:
        down: Which of :data:`FEATURES` and :data:`PROTOTYPES`; they must have gone up.
    """

    down: frozenset[str]

    def __call__(self, knowledge: KnowledgeBank, fusion: Fusion, round_: int) -> Fusion:  # noqa: ARG002
        """Return the fusion with the same fields for each client."""
        told: dict[str, Tensor] = {}
        if self.down & FEATURES:
            assert knowledge.features is not None
            told["features"] = mean_features(knowledge.features, knowledge.mask)
        if self.down & PROTOTYPES:
            assert knowledge.prototypes is not None
            assert knowledge.present is not None
            means = mean_prototypes(knowledge.prototypes, knowledge.present.long())
            told["prototypes"], told["present"] = means
        return to_all(fusion, **told)


@dataclass(frozen=True, slots=True)
class MeanHeads:
    """Everybody gets the mean of the last layers that the clients sent as prototypes."""

    def __call__(self, knowledge: KnowledgeBank, fusion: Fusion, round_: int) -> Fusion:  # noqa: ARG002
        """Return the fusion with the same layer for each client."""
        heads = knowledge.prototypes
        assert heads is not None
        return to_all(fusion, prototypes=heads.double().mean(dim=0).to(heads.dtype))


@dataclass(frozen=True, slots=True)
class AlsoFuseBeside:
    """Fuse predictions as ever, then the features and prototypes that came with them.

    Args:
        combine: What fuses predictions; it sees nothing else.
        beside: What fuses the rest.
    """

    combine: Combine
    beside: Beside

    def __call__(self, knowledge: KnowledgeBank, round_: int) -> Fusion:
        """Return the fusion with the fields that the clients are to get."""
        bare = replace(knowledge, features=None, prototypes=None, present=None)
        return self.beside(knowledge, self.combine(bare, round_), round_)
