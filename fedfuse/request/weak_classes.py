"""Samples of the classes that clients get wrong, confident mistakes first (PGKD, 2411.05045)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.data.draw import apportion
from fedfuse.request.known import Known, budget, mean_of_answers, own_and_taught, unknown_first
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


def in_class_order(
    first: Float[Tensor, " m"], classes: Int[Tensor, " m"], quota: Int[Tensor, " C"], noise: Tensor
) -> Bool[Tensor, " m"]:
    """Return ``quota`` samples of each class, those with the largest ``first``, of equals by noise.

    >>> classes, noise = torch.tensor([0, 0, 1]), torch.tensor([0.1, 0.2, 0.3])
    >>> in_class_order(torch.tensor([0.0, 0.0, 1.0]), classes, torch.tensor([1, 1]), noise)
    tensor([ True, False,  True])
    """
    order = noise.argsort(stable=True)
    order = order[first[order].argsort(descending=True, stable=True)]
    order = order[classes[order].argsort(stable=True)]
    counts = classes.bincount(minlength=len(quota))
    place = torch.arange(len(order), device=order.device)
    place = place - (counts.cumsum(0) - counts)[classes[order]]
    chosen = torch.zeros(len(first), dtype=torch.bool, device=first.device)
    chosen[order[place < quota[classes[order]]]] = True
    return chosen


@dataclass(slots=True, eq=False)
class WeakClasses:
    """Ask for more samples of the classes that clients get wrong, confident mistakes first.

    A class's share is in proportion to 1 - F1 of all clients' last answers together, against the
    public labels, or against what the teachers call likeliest where there are none. Of a class,
    samples come first on which most clients were sure of another class than their teacher; equals
    are drawn.

    Args:
        share: Of the round's samples, how many are asked for.
        size: How many instead; None for the share.
        theta: How sure a client must be to be confidently wrong, from 0 to 1.
        patience: Exchanges in a row without a better mean F1 after which only one sample is asked
            for; None goes on for ever.
        seed: Of what is drawn.
    """

    share: float = 0.5
    size: int | None = None
    theta: float = 0.8
    patience: int | None = None
    seed: int = 0
    _known: Known = field(init=False, repr=False, default_factory=Known)
    _best: float = field(init=False, repr=False, default=-1.0)
    _waited: int = field(init=False, repr=False, default=0)

    def __post_init__(self) -> None:
        require_number("WeakClasses", "share", self.share, above=0, at_most=1)
        require_number("WeakClasses", "theta", self.theta, at_least=0, at_most=1)
        require_count("WeakClasses", "seed", self.seed, at_least=0)
        for name in ("size", "patience"):
            if getattr(self, name) is not None:
                require_count("WeakClasses", name, getattr(self, name))

    def __call__(
        self,
        round: int,  # noqa: A002
        index: Int[Tensor, " m"],
        client_ids: Sequence[int],  # noqa: ARG002
    ) -> Bool[Tensor, " m"]:
        """Return which samples everybody is asked for."""
        votes, classes = (self._known.get(name, index) for name in ("votes", "classes"))
        mistaken = self._known.get("mistaken", index)
        if votes is None or classes is None or mistaken is None:
            return torch.ones(len(index), dtype=torch.bool)
        streams = Streams(self.seed)

        def weakest(at: Tensor, number: int) -> Tensor:
            named = classes[at].long()
            supply = named.bincount(minlength=votes.shape[1])
            shares = deficit_shares(f1_by_class(votes[at], named))
            draw = streams.numpy("request", "weak_classes", round)
            total = min(number, len(at))
            quota = apportion(shares.numpy(), total, supply.numpy(), draw)
            noise = torch.rand(len(at), generator=streams.torch("request", "within", round))
            return in_class_order(mistaken[at], named, torch.from_numpy(quota), noise)

        number = budget(len(index), self.share, self.size)
        if self.patience is not None and self._waited >= self.patience:
            number = 1
        return unknown_first(~classes.isnan(), number, weakest)

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
        own, taught, answered = own_and_taught(bank, teachers)
        named = functional.one_hot(own.argmax(dim=-1), own.shape[-1]) * answered.unsqueeze(-1)
        wrong = contradicted(own, taught, self.theta) & answered
        classes = mean_of_answers(taught, answered).argmax(dim=-1) if labels is None else labels
        told = answered.any(dim=0)
        votes = named.sum(dim=0).float()
        self._known.put(index, told, votes=votes, classes=classes, mistaken=wrong.sum(dim=0))
        f1 = float(f1_by_class(votes[told], classes.to(votes.device)[told]).mean())
        self._waited = 0 if f1 > self._best else self._waited + 1
        self._best = max(self._best, f1)

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is remembered."""
        progress = torch.tensor([self._best, self._waited], dtype=torch.float64)
        return {**self._known.state(), "progress": progress}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what :meth:`state` returned."""
        kept = dict(state)
        self._best, waited = kept.pop("progress").tolist()
        self._waited = int(waited)
        self._known.restore(kept)
