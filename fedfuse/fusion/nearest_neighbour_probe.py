"""Hear those in whose representation a sample's neighbours share its label (ExSSNeT)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.controls import round_seed
from fedfuse.fusion.returned import checked_labels
from fedfuse.rng import Streams
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_count, require_number, require_one_of

CHOICES = ("all", "best")
LEAST_SAMPLES = 3
FLOOR = 1e-8
"""The least that a client's own score is the logarithm of."""
_BLOCK_ELEMENTS = 2**22


def neighbours_vote(
    references: Float[Tensor, "R F"],
    labels: Int[Tensor, " R"],
    asked: Float[Tensor, "A F"],
    k: int,
    num_classes: int,
) -> Int[Tensor, " A"]:
    """Return the class that most of the k nearest references have, the smaller one of a tie.

    Nearest by Euclidean distance; a ``k`` above the number of references takes all.

    >>> line, labels = torch.tensor([[0.0], [1.0], [10.0]]), torch.tensor([0, 0, 1])
    >>> neighbours_vote(line, labels, torch.tensor([[0.4], [9.0]]), 1, 2).tolist()
    [0, 1]
    """
    one_hots, votes = one_hot(labels, num_classes).float(), []
    rows = max(1, _BLOCK_ELEMENTS // max(1, references.numel()))
    for block in torch.split(asked, rows):
        # Exact: the product form of a distance loses what close neighbours differ by.
        exactly = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(block, references, compute_mode=exactly)
        nearest = distances.topk(min(k, len(references)), dim=1, largest=False).indices
        votes.append(one_hots[nearest].sum(dim=1).argmax(dim=1))
    return torch.cat(votes)


@dataclass(frozen=True, slots=True)
class NearestNeighbourProbe:
    """Score a source by the accuracy ``a_j`` of a nearest-neighbour classifier on its predictions.

    The knowledge transfer of ExSSNeT (arXiv 2210.10209), there on features: labelled public samples
    are parted in references and asked ones, anew in every round. A source is heard if its a is
    above chance, 1 / C; a client always hears itself. The classifier says nothing of whether a
    prediction names the right class, only of whether like samples get like ones.

    Args:
        k: Neighbours; the authors take 100, of far more samples.
        share: Of the samples, those that are references.
        choice: ``all`` sources above chance are heard, or the ``best`` one, of equals all.
        seed: Of the order in which samples are parted.
    """

    k: int = 10
    share: float = 0.66
    choice: str = "all"
    seed: int = 0
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_count("NearestNeighbourProbe", "k", self.k)
        require_number("NearestNeighbourProbe", "share", self.share, above=0, below=1)
        require_one_of("NearestNeighbourProbe", "choice", self.choice, CHOICES)
        require_count("NearestNeighbourProbe", "seed", self.seed, at_least=0)

    def at_round(self, round: int) -> NearestNeighbourProbe:  # noqa: A002
        """Return the scorer of this round: another order."""
        return replace(self, seed=round_seed(self.seed, round))

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return ``log a_j`` of those that are heard, minus infinity of others.

        Raises:
            KnowledgeError: If there are no labels, or fewer than 3 samples.
        """
        known = checked_labels(bank, labels, "scorer NearestNeighbourProbe")
        if len(known) < LEAST_SAMPLES:
            raise KnowledgeError(
                "The scorer NearestNeighbourProbe parts the public samples in two",
                got=f"{len(known)} samples",
                allowed=f"{LEAST_SAMPLES} or more",
                next_step="Set a larger public.size or select.size, or another scorer.",
            )
        accuracy = self.accuracies(bank, known)
        heard = accuracy > 1 / bank.num_classes
        if self.choice == "best":
            heard &= accuracy == accuracy.amax()
        scores = accuracy.clamp_min(FLOOR).log()
        own = torch.eye(len(heard), dtype=torch.bool, device=heard.device)
        return torch.where(heard | own, scores, -torch.inf).to(bank.logits.dtype)

    def accuracies(self, bank: KnowledgeBank, labels: Int[Tensor, " P"]) -> Float[Tensor, " K"]:
        """Return ``a_j``; 0 of a client that answered no reference or no asked sample."""
        num_samples = len(labels)
        order = torch.randperm(num_samples, generator=Streams(self.seed).torch("probe"))
        cut = min(max(1, round(self.share * num_samples)), num_samples - 1)
        sides = [side.to(labels.device) for side in (order[:cut], order[cut:])]
        found = []
        for row, logits in enumerate(bank.logits):
            mask = None if bank.mask is None else bank.mask[row]
            references, asked = (side if mask is None else side[mask[side]] for side in sides)
            if not len(references) or not len(asked):
                found.append(logits.new_zeros(()))
                continue
            votes = neighbours_vote(
                logits[references], labels[references], logits[asked], self.k, bank.num_classes
            )
            found.append((votes == labels[asked]).to(logits.dtype).mean())
        return torch.stack(found)
