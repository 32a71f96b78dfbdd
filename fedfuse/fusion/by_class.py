"""Effectiveness by class: who is worth hearing differs from class to class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from fedfuse.declarations import declared
from fedfuse.errors import KnowledgeError, require
from fedfuse.fusion import evidence as of
from fedfuse.fusion.around import of_round
from fedfuse.fusion.blocks import client_blocks
from fedfuse.fusion.class_scores import mean_over_classes
from fedfuse.fusion.scorers import DataSize, KnFu, Uniform
from fedfuse.fusion.softmax import softmax
from fedfuse.protocols import ClassScores, Scorer
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number, require_one_of

_NEED_LABELS = ("class_conditional", "public_accuracy")
_EVIDENCE = ("counts", "epd", "consensus", *_NEED_LABELS, "spread")


@dataclass(frozen=True, slots=True)
class ByClass:
    """Add to another scorer's scores what each source knows of each class.

    ``score_ijc = scorer_ij + exponent * log(evidence_jc)``, so a source's say on class c grows
    with ``evidence_jc ** exponent``. With ``Uniform`` inside, that is all; with :class:`KnFu` it
    is KnFu's divergence times the class term. The rule has to weigh by class
    (``MeanProbabilities``, ``GeometricMean``, ``MeanLogits``).

    Args:
        scorer: Whose scores.
        evidence: ``counts``: private samples of the class (the clients send their class shares);
            ``epd``: the same, with shares estimated by the mean prediction; ``consensus``: mean
            probability of the class on public samples that the clients together find of it;
            ``class_conditional``: the same on those labelled so; ``public_accuracy``: how often
            right on those; ``spread``: how much the class's logit varies over the public samples.
            :mod:`fedfuse.fusion.evidence` says which still see something when the label prior has
            been taken out of what is shared.
        exponent: Of the evidence; 0.5 is the square root of counts, and 0 the other scorer to the
            bit.
        floor: Samples that a client has of every class at least, for ``counts`` and ``epd``.
        temperature: Of the softmax, where evidence reads probabilities.
    """

    scorer: Scorer
    evidence: str = "counts"
    exponent: float = 0.5
    floor: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        inner = self.scorer
        alone = callable(inner) and not declared(inner, "by_class", False)
        require(alone, "ByClass", "scorer", inner, "a scorer without class weights of its own")
        require_one_of("ByClass", "evidence", self.evidence, _EVIDENCE)
        require_number("ByClass", "exponent", self.exponent, at_least=0)
        require_number("ByClass", "floor", self.floor, above=0)
        require_number("ByClass", "temperature", self.temperature, above=0)

    @property
    def by_class(self) -> bool:
        """Whether scores differ by class."""
        return self.exponent > 0

    @property
    def needs_labels(self) -> bool:
        """Whether the labels of the public set are read."""
        own = self.by_class and self.evidence in _NEED_LABELS
        return own or declared(self.scorer, "needs_labels", False)

    @property
    def needs_class_distribution(self) -> bool:
        """Whether the clients must send their class shares."""
        own = self.by_class and self.evidence == "counts"
        return own or declared(self.scorer, "needs_class_distribution", False)

    @property
    def learned(self) -> bool:
        """Whether the other scorer learns its scores."""
        return declared(self.scorer, "learned", False)

    @property
    def searches(self) -> bool:
        """Whether the best sources are found without scoring all pairs."""
        return isinstance(self.scorer, KnFu | Uniform | DataSize)

    def at_round(self, round: int) -> ByClass:  # noqa: A002
        """Return the scorer of this round, with the other scorer's own draw."""
        return replace(self, scorer=of_round(self.scorer, round))

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"] | ClassScores:
        """Return the other scorer's scores and, unless the exponent is 0, the class term."""
        readable = labels if declared(self.scorer, "needs_labels", False) else None
        pair: Any = self.scorer(bank, readable)
        if not self.by_class:
            return pair  # type: ignore[no-any-return]
        return ClassScores(pair, self.class_term(bank, labels, bank.logits.device))

    def nearest(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,
        k: int,
        include_self: bool,
        device: torch.device,
    ) -> tuple[Tensor, ...]:
        """Return each client's best sources over the classes, pairs' scores and the class term."""
        assert isinstance(self.scorer, KnFu | Uniform | DataSize)
        readable = labels if declared(self.scorer, "needs_labels", False) else None
        if not self.by_class:
            return self.scorer.nearest(bank, readable, k, include_self, device)
        term = self.class_term(bank, labels, device)
        bias = mean_over_classes(term)
        index, scores = self.scorer.nearest(bank, readable, k, include_self, device, bias)
        return index, scores - bias.to(scores.dtype)[index], term

    def class_term(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None, device: torch.device
    ) -> Float[Tensor, "K C"]:
        """Return ``exponent * log(evidence_jc)``, less what makes each class's weights sum to 1.

        That changes no weight, and makes all classes count alike where neighbours are chosen.
        """
        read = _READERS[self.evidence]
        given = self._of_class(bank, labels, device)
        found = torch.cat([read(self, some, given) for some in client_blocks(bank, device)])
        logs = self.exponent * found.double().log()
        return (logs - logs.logsumexp(dim=0)).to(
            torch.promote_types(bank.logits.dtype, torch.float32)
        )

    def _of_class(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None, device: torch.device
    ) -> Tensor | None:
        """Return what is known of the public samples: labels [P], or how likely of what, [P, C]."""
        if self.evidence in _NEED_LABELS:
            if labels is None:
                raise KnowledgeError(
                    f"The evidence '{self.evidence}' needs the labels of the public set",
                    next_step="Choose scorer.evidence=consensus, which needs none.",
                )
            known = labels.to(device)
            if self.evidence == "public_accuracy":
                return known
            return one_hot(known, bank.num_classes).float()
        if self.evidence != "consensus":
            return None
        total = torch.zeros(bank.logits.shape[1:], device=device)
        for some in client_blocks(bank, device):
            probs = softmax(some.logits, self.temperature)
            if some.mask is not None:
                probs = torch.where(some.mask.unsqueeze(-1), probs, 0)
            total += probs.sum(dim=0)
        answers = bank.num_clients if bank.mask is None else bank.mask.sum(dim=0).to(device)
        return of.consensus(total, answers)


Reader = Callable[[ByClass, KnowledgeBank, Any], Tensor]


def _counts(scorer: ByClass, bank: KnowledgeBank, _: object) -> Tensor:
    if bank.class_distribution is None:
        raise KnowledgeError(
            "The evidence 'counts' needs the clients' class shares, which were not sent",
            next_step="Set client.share_class_distribution=true, or choose scorer.evidence=epd.",
        )
    return of.counts(bank.class_distribution, bank.num_examples, scorer.floor)


def _epd(scorer: ByClass, bank: KnowledgeBank, _: object) -> Tensor:
    return of.expected_counts(
        bank.logits, bank.num_examples, bank.mask, scorer.temperature, scorer.floor
    )


def _confidence(scorer: ByClass, bank: KnowledgeBank, of_class: Tensor) -> Tensor:
    return of.confidence_on(bank.logits, of_class, bank.mask, scorer.temperature)


_READERS: dict[str, Reader] = {
    "counts": _counts,
    "epd": _epd,
    "consensus": _confidence,
    "class_conditional": _confidence,
    "public_accuracy": lambda _, bank, labels: of.public_accuracy(bank.logits, labels, bank.mask),
    "spread": lambda _, bank, __: of.spread(bank.logits, bank.mask),
}
