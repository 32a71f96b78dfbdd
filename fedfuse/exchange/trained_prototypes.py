"""FedTGP: prototypes that the server trains to be near the clients' and far from other classes'.

Zhang et al. (AAAI 2024, arXiv 2401.03230), as read in its code: the server keeps a vector for each
class, which a small network maps to the class's prototype P_c, and takes steps of SGD on

    -log( exp(-(|p - P_y| + m)) / (exp(-(|p - P_y| + m)) + sum_{c != y} exp(-|p - P_c|)) )

of each prototype p of class y that a client sent. The margin m is the largest over the classes of
the distance from a class's mean prototype to the nearest other one, and at most ``margin``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from fedfuse.exchange.class_vectors import ClassKnowledge
from fedfuse.exchange.kept_model import KeptModel
from fedfuse.exchange.prototypes import mean_prototypes
from fedfuse.local_loss import cross_entropy
from fedfuse.payload import for_all
from fedfuse.rng import Streams
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import Fusion
from fedfuse.validation import require_count, require_number

_EXACT = "donot_use_mm_for_euclid_dist"


class TrainablePrototypes(nn.Module):
    """A prototype for each class, by a vector of the class and a network that all classes share.

    Args:
        num_classes: C.
        size: d, of vectors, prototypes and the hidden layer between them.
    """

    def __init__(self, num_classes: int, size: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.randn(num_classes, size))
        self.network = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))

    def prototypes(self) -> Float[Tensor, "C d"]:
        """Return the prototypes."""
        made: Tensor = self.network(self.vectors)
        return made

    def forward(self, sent: Float[Tensor, "B d"]) -> Float[Tensor, "B C"]:
        """Map prototypes that were sent to their negative distances to the trained ones."""
        return -torch.cdist(sent, self.prototypes(), compute_mode=_EXACT)


@dataclass(frozen=True, slots=True)
class WithMargin:
    """Cross-entropy of negative distances, that to the own class's prototype longer by a margin."""

    margin: float

    def __call__(
        self, scores: Float[Tensor, "B C"], classes: Int[Tensor, " B"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample.

        >>> WithMargin(1.0)(torch.tensor([[-1.0, -2.0]]), torch.tensor([0]))
        tensor([0.6931])
        """
        own = nn.functional.one_hot(classes, scores.shape[1])
        return cross_entropy(scores - self.margin * own, classes)


def adaptive_margin(
    prototypes: Float[Tensor, "K C d"], present: Bool[Tensor, "K C"], most: float
) -> float:
    """Return the largest distance from a class's mean prototype to the nearest other, or ``most``.

    >>> prototypes = torch.tensor([[[0.0], [3.0], [8.0]], [[2.0], [3.0], [0.0]]])
    >>> present = torch.tensor([[True, True, True], [True, True, False]])
    >>> adaptive_margin(prototypes, present, 100.0), adaptive_margin(prototypes, present, 4.0)
    (5.0, 4.0)
    """
    means, owned = mean_prototypes(prototypes, present.long())
    means = means[owned]
    if len(means) < 2:
        return most
    apart = torch.cdist(means, means, compute_mode=_EXACT).fill_diagonal_(torch.inf)
    return min(float(apart.amin(dim=1).max()), most)


@dataclass(frozen=True, slots=True)
class Trained:
    """How the server trains its prototypes.

    Args:
        margin: The most that the adaptive margin may be.
        epochs: Passes over the prototypes that came in a round; the steps come on top of the
            clients', and are counted as ``server_steps``.
        batch_size: Prototypes per step.
        learning_rate: Of plain SGD.
        seed: Of the first weights and of the shuffles.
    """

    margin: float = 100.0
    epochs: int = 100
    batch_size: int = 10
    learning_rate: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("Trained", "margin", self.margin, at_least=0)
        require_count("Trained", "epochs", self.epochs)
        require_count("Trained", "batch_size", self.batch_size)
        require_number("Trained", "learning_rate", self.learning_rate, above=0)

    def of(self, num_classes: int, size: int) -> TrainedPrototypes:
        """Return what trains C prototypes of d numbers."""
        made = partial(TrainablePrototypes, num_classes, size)
        return TrainedPrototypes(self, KeptModel("prototypes", made, Streams(self.seed)))


@dataclass(frozen=True, slots=True, eq=False)
class TrainedPrototypes:
    """FedTGP: everybody gets the trained prototypes, of all classes.

    Args:
        how: They are trained.
        kept: What is trained, a :class:`TrainablePrototypes`.
    """

    how: Trained
    kept: KeptModel

    def __call__(self, knowledge: ClassKnowledge, round_: int) -> Fusion:
        """Return the same prototypes for each client."""
        how, values, present = self.how, knowledge.values, knowledge.present
        margin = adaptive_margin(values, present, how.margin)
        steps = self.kept.epochs(int(present.sum()), how.batch_size, how.epochs, round_)
        taken = self.kept.learn(
            values[present],
            present.nonzero()[:, 1],
            WithMargin(margin),
            steps,
            partial(torch.optim.SGD, lr=how.learning_rate),
            round_,
        )
        model = self.kept.model
        assert isinstance(model, TrainablePrototypes)
        made, k = model.prototypes().detach(), knowledge.num_clients
        every = for_all(torch.ones_like(present[0]), k)
        down = ClassKnowledge(knowledge.client_ids, for_all(made, k), every)
        return Fusion(down, None, {"server_steps": float(taken), "margin": margin})
