"""Samples of the classes that clients get wrong, confident mistakes first (PGKD, 2411.05045)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.request.knowledge import best, budget, require_budget
from fedfuse.request.pairs import mean_there, own_and_taught
from fedfuse.request.remembering import Remembering
from fedfuse.rng import Streams
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Teachers
from fedfuse.validation import require_count, require_number


def f1_by_class(votes: Float[Tensor, "m C"], classes: Int[Tensor, " m"]) -> Float[Tensor, " C"]:
    """Return the F1 score of every class, of all clients' answers together.

    A class that no sample has and nobody names is not weak: its score is 1.

    Args:
        votes: How many clients name each class, for each sample.
        classes: The samples' classes.

    >>> f1_by_class(torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([0, 1, 1]))
    tensor([0.6667, 0.6667, 1.0000])
    """
    rows = torch.zeros_like(votes).scatter_(1, classes.unsqueeze(1), 1.0)
    right = (rows * votes).sum(dim=0)
    real = (rows * votes.sum(dim=1, keepdim=True)).sum(dim=0)
    both = real + votes.sum(dim=0)
    return torch.where(both > 0, 2 * right / both.clamp_min(1), 1.0)


def deficit_shares(f1: Float[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return shares in proportion to ``1 - F1``, equal ones where nothing is amiss.

    >>> deficit_shares(torch.tensor([0.9, 0.5]))
    tensor([0.1667, 0.8333])
    """
    deficit = (1 - f1).clamp_min(0)
    total = deficit.sum()
    return deficit / total if total > 0 else torch.full_like(f1, 1 / len(f1))


def contradicted(
    probs: Float[Tensor, "k m C"], fused: Float[Tensor, "k m C"], theta: float
) -> Bool[Tensor, "k m"]:
    """Return where a client names another class than its teacher with a probability from theta.

    >>> contradicted(torch.tensor([[[0.9, 0.1], [0.4, 0.6]]]), torch.tensor([[[0, 1.0]] * 2]), 0.8)
    tensor([[ True, False]])
    """
    sure, named = probs.max(dim=-1)
    return (named != fused.argmax(dim=-1)) & (sure >= theta)


def in_proportion(
    shares: Float[Tensor, " C"],
    classes: Int[Tensor, " m"],
    first: Float[Tensor, " m"],
    noise: Float[Tensor, " m"],
    number: int,
) -> Bool[Tensor, " m"]:
    """Return ``number`` samples, those of a class in proportion to its share (Sainte-Laguë).

    Of a class those with the largest ``first`` come first, of equals by the noise. A class that
    runs out leaves its share to the others, in proportion to theirs.

    >>> classes, noise = torch.tensor([0, 0, 1]), torch.tensor([0.1, 0.2, 0.3])
    >>> first = torch.tensor([0.0, 1.0, 0.0])
    >>> in_proportion(torch.tensor([0.5, 0.5]), classes, first, noise, 2)
    tensor([False,  True,  True])
    """
    order = noise.argsort(stable=True)
    order = order[first[order].argsort(descending=True, stable=True)]
    order = order[classes[order].argsort(stable=True)]
    named, counts = classes[order], classes.bincount(minlength=len(shares))
    place = torch.arange(len(order)) - (counts.cumsum(0) - counts)[named]
    # A class gives its next sample where that takes it least beyond its share.
    turn = (place + 0.5) / shares[named].double().clamp_min(torch.finfo(torch.float32).tiny)
    chosen = torch.zeros(len(order), dtype=torch.bool)
    chosen[order[turn.argsort(stable=True)[:number]]] = True
    return chosen


@dataclass(frozen=True, slots=True)
class WeakClasses(Remembering):
    """Ask for more samples of the classes that clients get wrong, confident mistakes first.

    A class's share is in proportion to 1 - F1 of all clients' last answers together, against the
    public labels, or against what the teachers call likeliest where there are none. Of a class,
    samples come first on which most clients were sure of another class than their teacher; equals
    are drawn. Samples of which nothing is known come before all.

    Args:
        share: Of the round's samples, how many are asked for.
        size: How many instead; None for the share.
        theta: How sure a client must be to be confidently wrong, from 0 to 1.
        patience: Exchanges in a row without a better mean F1 of all last answers, after which only
            one sample is asked for; None goes on for ever.
        seed: Of what is drawn.
    """

    share: float = 0.5
    size: int | None = None
    theta: float = 0.8
    patience: int | None = None
    seed: int = 0
    memory: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    remembers_samples: ClassVar[bool] = True
    pseudo_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_budget("WeakClasses", self.share, self.size)
        require_number("WeakClasses", "theta", self.theta, at_least=0, at_most=1)
        require_count("WeakClasses", "seed", self.seed, at_least=0)
        if self.patience is not None:
            require_count("WeakClasses", "patience", self.patience)

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
        client_ids: Sequence[int],  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which samples everybody is asked for."""
        votes, classes, mistaken = (
            self.known(name, index) for name in ("votes", "classes", "mistaken")
        )
        if votes is None or classes is None or mistaken is None:
            return torch.ones(len(index), dtype=torch.bool)
        number = budget(self.size, self.share, len(index))
        if self.patience is not None and int(self.memory["progress"][1]) >= self.patience:
            number = 1
        unknown = classes.isnan()
        if (missing := int(unknown.sum())) >= number:
            return best(classes, number)
        named = classes[~unknown].long()
        noise = torch.rand(
            len(named), generator=Streams(self.seed).torch("request", "weak_classes", round)
        )
        shares = deficit_shares(f1_by_class(votes[~unknown], named))
        chosen = unknown.clone()
        chosen[~unknown] = in_proportion(shares, named, mistaken[~unknown], noise, number - missing)
        return chosen

    @torch.no_grad()
    def note(
        self,
        bank: KnowledgeBank,
        teachers: Teachers,
        labels: Int[Tensor, " m"] | None,
        round: int,  # noqa: A002, ARG002
        index: Int[Tensor, " m"],
    ) -> None:
        """Remember what clients named, and where they were confidently wrong."""
        own, taught, there = own_and_taught(bank, teachers)
        told = there.any(dim=0)
        named = functional.one_hot(own.argmax(dim=-1), own.shape[-1]) * there.unsqueeze(-1)
        wrong = contradicted(own, taught, self.theta) & there
        classes = mean_there(taught, there).argmax(dim=-1) if labels is None else labels
        index = index[told]
        votes = self.remember("votes", index, named.sum(dim=0).float()[told])
        classes = self.remember("classes", index, classes[told].float())
        self.remember("mistaken", index, wrong.sum(dim=0).float()[told])
        known = ~classes.isnan()  # what is asked for now is the weakest: alone it looks worse
        if not known.any():
            return
        f1 = float(f1_by_class(votes[known], classes[known].long()).mean())
        most, waited = self.memory.get("progress", torch.tensor([-1.0, 0.0])).tolist()
        waited = 0.0 if f1 > most else waited + 1
        self.memory["progress"] = torch.tensor([max(most, f1), waited], dtype=torch.float64)
