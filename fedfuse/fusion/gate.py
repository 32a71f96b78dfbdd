"""Own knowledge where it is surer than what others say (Fantastic Gains, arXiv 2310.17653).

Here is the comparison, and the rule that makes it on the server, of what clients have sent.
``fedfuse.uptake.OwnOrTeacher`` makes it on the client, of what its model really says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.fusion.around import AroundRule, inner_fused, require_inner
from fedfuse.protocols import Fused, Rule
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_number, require_one_of

BY = ("max_prob", "label")
"""What may say how sure a prediction is."""


def confidence(
    probs: Float[Tensor, "K P C"], labels: Int[Tensor, " P"] | None = None
) -> Float[Tensor, "K P"]:
    """Return the probability of the label, or the largest one where no labels are given.

    >>> confidence(torch.tensor([[[0.3, 0.7]]]), torch.tensor([0]))
    tensor([[0.3000]])
    """
    if labels is None:
        return probs.amax(dim=-1)
    where = labels.to(probs.device).view(1, -1, 1).expand(len(probs), -1, 1)
    return probs.gather(-1, where).squeeze(-1)


def surer(
    others: Float[Tensor, "K P C"],
    own: Float[Tensor, "K P C"],
    labels: Int[Tensor, " P"] | None = None,
) -> Bool[Tensor, "K P"]:
    """Return where the probabilities ``others`` are surer than ``own``; on a tie they are not.

    >>> own = torch.tensor([[[0.88, 0.12], [0.88, 0.12]]])
    >>> surer(torch.tensor([[[0.3, 0.7], [0.05, 0.95]]]), own)
    tensor([[False,  True]])
    """
    return confidence(others, labels) > confidence(own, labels)


def as_probabilities(
    values: Float[Tensor, "*batch C"], space: Space, temperature: float
) -> Float[Tensor, "*batch C"]:
    """Return probabilities: logits go through a softmax at the temperature."""
    return values if space is Space.PROBABILITIES else (values / temperature).softmax(dim=-1)


def inner_probabilities(outer: Any, bank: KnowledgeBank, weights: Any, labels: Any) -> Fused:
    """Return what the inner rule of ``outer`` fuses, as probabilities, at the temperature of it."""
    made = inner_fused(outer.inner, outer.temperature, bank, weights, labels)
    space = Space(declared(outer.inner, "space", Space.PROBABILITIES))
    return made._replace(targets=as_probabilities(made.targets, space, outer.temperature))


@dataclass(frozen=True, slots=True)
class BestSource:
    """Give each receiver, per sample, the prediction of its most confident source.

    The weights only say which sources take part (weight above 0). Sources that are equally
    confident are averaged.

    Args:
        temperature: Of the softmax.
        by: ``max_prob``, the largest probability; or ``label``, that of the public label.
    """

    temperature: float = 1.0
    by: str = "max_prob"
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_one_of("BestSource", "by", self.by, BY)
        require_number("BestSource", "temperature", self.temperature, above=0)

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels."""
        return self.by == "label"

    def __call__(
        self,
        bank: KnowledgeBank,
        weights: Float[Tensor, "K J"],
        labels: Int[Tensor, " P"] | None = None,
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver; uniform where none of its sources answered."""
        labels = labels if self.needs_labels else None
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        sure = confidence(probs, labels)
        if bank.mask is not None:
            sure = sure.masked_fill(~bank.mask, -torch.inf)
        sets, receiver = torch.unique(weights > 0, dim=0, return_inverse=True)
        # Receivers of one set of sources have one answer.
        fused = [_best(probs, sure.masked_fill(~s.unsqueeze(1), -torch.inf), labels) for s in sets]
        return torch.stack(fused)[receiver]


def _best(
    probs: Float[Tensor, "J P C"], sure: Float[Tensor, "J P"], labels: Int[Tensor, " P"] | None
) -> Float[Tensor, "P C"]:
    """Return the mean of the surest, exactly as sure as they are at most; uniform if none is."""
    top = sure.amax(dim=0)
    best = (sure == top) & (sure > -torch.inf)
    made = probs[best.int().argmax(dim=0), torch.arange(probs.shape[1], device=probs.device)]
    number = best.sum(dim=0)
    if len(tied := (number > 1).nonzero().flatten()):
        among, most = best[:, tied].unsqueeze(-1), top[tied].unsqueeze(-1)
        mean = torch.where(among, probs[:, tied], 0).sum(dim=0) / number[tied].unsqueeze(-1)
        # Rounded up, a mean of equals would be surer than any of them.
        if labels is None:
            made[tied] = torch.minimum(mean, most)
        else:
            made[tied] = mean.scatter(-1, labels.to(mean.device)[tied].unsqueeze(-1), most)
    return torch.where((number == 0).unsqueeze(-1), 1 / probs.shape[-1], made)


@dataclass(frozen=True, slots=True)
class OwnOrFused(AroundRule):
    """Keep, per sample, what the receiver has sent itself unless what is fused is surer.

    A receiver that did not answer a sample gets what is fused. This is the server's form, at the
    precision of what was uploaded; ``uptake=own_or_teacher`` is the exact one. The round's metric
    ``taken_share`` is the share of all targets that others have made.

    Args:
        inner: The rule that fuses. ``BestSource`` makes of it the surest of own and all sources.
        temperature: Of the softmaxes; an inner rule that has a temperature fuses at this one.
        by: What says how sure: ``max_prob``, the largest probability; or ``label``, that of the
            public label. ``BestSource`` has a ``by`` of its own.
    """

    inner: Rule
    temperature: float = 1.0
    by: str = "max_prob"
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_one_of("OwnOrFused", "by", self.by, BY)
        require_number("OwnOrFused", "temperature", self.temperature, above=0)
        require_inner("OwnOrFused", self.inner)

    @property
    def needs_labels(self) -> bool:
        """Whether it reads the public labels, or the inner rule does."""
        return self.by == "label" or declared(self.inner, "needs_labels", False)

    def __call__(
        self, bank: KnowledgeBank, weights: Any, labels: Int[Tensor, " P"] | None = None
    ) -> Fused:
        """Return one target per receiver."""
        fused, counted, told = inner_probabilities(self, bank, weights, labels)
        own = (bank.logits / self.temperature).softmax(dim=-1)
        take = surer(fused, own, labels if self.by == "label" else None)
        if bank.mask is not None:
            take = take | ~bank.mask
        targets = torch.where(take.unsqueeze(-1), fused, own)
        return Fused(targets, counted, {**told, "taken_share": float(take.float().mean())})
