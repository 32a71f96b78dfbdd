"""FedProto: one mean feature vector per class instead of predictions.

Tan et al. (AAAI 2022), as read in its code: clients send class means of their features, the server
averages over the owners, clients add ``lam * MSE(feature, prototype_y)`` to their loss, and a
sample belongs to the nearest prototype. All architectures need features of one size. Collect the
means after training: taken during it they drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.errors import KnowledgeError
from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.payload import SIMPLEX, for_all
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Fusion
from fedfuse.wire.schema import check_values

ABSENT = 10.0
"""How much farther than the farthest prototype a class without one counts; its share: < e**-10."""


def class_prototypes(
    features: Float[Tensor, "N d"], labels: Int[Tensor, " N"], num_classes: int
) -> tuple[Float[Tensor, "C d"], Int[Tensor, " C"]]:
    """Return the mean features of each class and how many samples it has; absent classes are 0.

    >>> class_prototypes(torch.tensor([[1.0], [3.0]]), torch.tensor([1, 1]), num_classes=2)
    (tensor([[0.],
            [2.]]), tensor([0, 2]))
    """
    groups = one_hot(labels, num_classes).double()
    counts = groups.sum(dim=0)
    means = (groups.T @ features.double()) / counts.clamp_min(1).unsqueeze(1)
    return means.to(features.dtype), counts.long()


def mean_prototypes(
    prototypes: Float[Tensor, "K C d"], counts: Int[Tensor, "K C"], *, by_count: bool = False
) -> tuple[Float[Tensor, "C d"], Bool[Tensor, " C"]]:
    """Return each class's mean prototype over its owners, and which classes have an owner.

    Args:
        prototypes: The clients' class means.
        counts: Their samples per class; 0 where the client does not own the class.
        by_count: Weigh owners by their samples instead of equally.

    >>> prototypes = torch.tensor([[[1.0]], [[4.0]], [[99.0]]])
    >>> counts = torch.tensor([[1], [2], [0]])
    >>> mean_prototypes(prototypes, counts)
    (tensor([[2.5000]]), tensor([True]))
    >>> mean_prototypes(prototypes, counts, by_count=True)
    (tensor([[3.]]), tensor([True]))
    """
    weights = (counts if by_count else (counts > 0)).double()
    total = weights.sum(dim=0)
    shares = weights / total.clamp_min(1)
    means = torch.einsum("kc,kcd->cd", shares, prototypes.double())
    return means.to(prototypes.dtype), total > 0


def prototype_loss(
    features: Float[Tensor, "B d"],
    labels: Int[Tensor, " B"],
    prototypes: Float[Tensor, "C d"],
    present: Bool[Tensor, " C"],
    lam: float = 1.0,
) -> Float[Tensor, " B"]:
    """Return ``lam * mean_d (f - prototype_y)**2`` per sample, 0 where y has no prototype.

    >>> prototypes, present = torch.tensor([[0.0, 0.0], [5.0, 5.0]]), torch.tensor([True, False])
    >>> prototype_loss(torch.tensor([[1.0, 3.0]] * 2), torch.tensor([0, 1]), prototypes, present)
    tensor([5., 0.])
    """
    losses = lam * (features - prototypes[labels]).square().mean(dim=-1)
    return torch.where(present[labels], losses, 0)


def prototype_scores(
    features: Float[Tensor, "B d"], prototypes: Float[Tensor, "C d"], present: Bool[Tensor, " C"]
) -> Float[Tensor, "B C"]:
    """Return the negative distance to each class's prototype, to be used as logits.

    >>> prototypes = torch.tensor([[0.0], [2.0], [3.0]])
    >>> scores = prototype_scores(torch.tensor([[2.8]]), prototypes, torch.tensor([1, 1, 0]).bool())
    >>> scores.argmax(dim=1)
    tensor([1])

    A class without a prototype can never win: it counts as ``ABSENT`` further away than the
    farthest that has one, which keeps a loss finite.

    Raises:
        KnowledgeError: If no class has a prototype.
    """
    if not bool(present.any()):
        raise KnowledgeError(
            "No class has a prototype yet", next_step="Exchange prototypes before predicting."
        )
    scores = -torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
    farthest = scores.masked_fill(~present, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(present, scores, farthest - ABSENT)


@dataclass(frozen=True, slots=True)
class MeanPrototypes:
    """FedProto: everybody gets the mean prototype of each class over its owners.

    Args:
        by_count: Weigh owners by their samples instead of equally; they must have sent counts.
        num_said: How many numbers at the end of each vector are a mean prediction (FedHKD).
    """

    by_count: bool = False
    num_said: int = 0

    def check_bank(self, knowledge: ClassKnowledge) -> None:
        """Raise KnowledgeError, naming the client, if what stands for predictions is none."""
        if self.num_said:
            said = knowledge.values[..., -self.num_said :]
            even = torch.full_like(said, 1 / self.num_said)
            said = torch.where(knowledge.present.unsqueeze(-1), said, even)
            check_values("mean predictions", said, SIMPLEX, knowledge.client_ids)

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:  # noqa: ARG002
        """Return the same prototypes for each client."""
        counts = knowledge.present.long()
        if self.by_count:
            assert knowledge.num_examples is not None
            counts = knowledge.num_examples
        means, owned = mean_prototypes(knowledge.values, counts, by_count=self.by_count)
        k = knowledge.num_clients
        down = ClassKnowledge(knowledge.client_ids, for_all(means, k), for_all(owned, k))
        return Fusion(down, None)
