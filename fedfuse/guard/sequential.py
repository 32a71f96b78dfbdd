"""The guard with an error rate: answers are replaced where bets on held-back samples say so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fedfuse.compare.betting import mean_wealth, sign_wealth
from fedfuse.guard.mixture import mixed
from fedfuse.guard.protocol import Choice, Paired
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Sequential:
    """Decide for each question by bets on the samples that a client holds back.

    *The client's own distribution.* Mostly there is not enough data to know: thirty answers do not
    tell a loss of five points from none. Then the mixture is deployed. It hedges: its loss is at
    most the mean of both models' on every sample (:func:`fedfuse.guard.mixed`). The fused model
    alone is deployed once bets on "the fused answer is right more often" have made K / alpha out
    of 1, and the local twin once bets on "the local answer is right more often than the mixture's"
    have made 1 / alpha.

    *A balanced distribution.* The fused model is deployed, unless bets on "the local answer is
    right more often", every class counting alike, have made 1 / alpha: what fusion brings is
    classes that a client rarely sees, and there a model that learned alone is confidently wrong.
    Mixed in by a quarter, it cost a third of the gain at alpha = 0.1 of the Dirichlet partitioner.

    **What is promised.** Where fused is no better on a client's own distribution, its bets reach
    K / alpha with a probability of at most alpha / K, so that in at most the share alpha of
    federations any of K clients deploys the fused model there by mistake, however the clients
    depend on each other: a theorem (:mod:`fedfuse.compare.betting`), of the last round's decision.
    Each decision asks the same samples once more; for one over all rounds, e-values are averaged,
    never multiplied. That the *mixture* harms nobody, and the fused model nobody on a balanced
    distribution, is measured and not proven: ``python -m experiments.claims harm``. Going back to
    the local twin harms nobody compared with it, so its bets need no correction for K.

    What it cannot know. Whose validation data is a few samples is never decided. Bets on a
    balanced distribution are on labelled public samples, where there are labels: the fused model
    has seen these inputs as a lesson, though not their labels, and looks a little better there
    than it is, unless ``public_fold`` keeps some out of all lessons. Without labels they are on
    validation samples, and say nothing of classes that the client does not hold.

    Args:
        alpha: Share of federations in which a client may deploy the fused model by mistake.
        share: Of the fused model in the mixture.
        public_fold: Share of the labelled public samples that nobody is taught on, so that bets on
            them are unbiased; 0 bets on all of them, lessons included.
    """

    alpha: float = 0.05
    share: float = 0.5
    public_fold: float = 0.0

    def __post_init__(self) -> None:
        require_number("Sequential", "alpha", self.alpha, above=0, below=1)
        require_number("Sequential", "share", self.share, at_least=0, at_most=1)
        require_number("Sequential", "public_fold", self.public_fold, at_least=0, at_most=0.9)

    def __call__(self, own: Paired, balanced: Paired, num_clients: int) -> tuple[Choice, Choice]:
        """Return what answers the client's own distribution, and what a balanced one."""
        return self.own(own, num_clients), self.balanced(balanced, num_clients)

    def own(self, pairs: Paired, num_clients: int) -> Choice:
        """Return what answers the client's own distribution."""
        mixture = mixed(pairs.local, pairs.fused, self.share)
        fused, local, half = (_right(z, pairs) for z in (pairs.fused, pairs.local, mixture))
        if _alone(fused, local) >= num_clients / self.alpha:
            return Choice(1.0, decided=True)
        if _alone(local, half) >= 1 / self.alpha:
            return Choice(0.0, decided=True)
        return Choice(float(self.share), decided=False)

    def balanced(self, pairs: Paired, num_clients: int) -> Choice:
        """Return what answers a balanced distribution."""
        fused, local = (_right(z, pairs) for z in (pairs.fused, pairs.local))
        if weighted_wealth(local, fused, pairs.weight) >= 1 / self.alpha:
            return Choice(0.0, decided=True)
        shown = weighted_wealth(fused, local, pairs.weight) >= num_clients / self.alpha
        return Choice(1.0, decided=shown)


def _right(answers: Tensor, pairs: Paired) -> Tensor:
    """Return which samples a model gets right, bool [n]."""
    return answers.argmax(dim=1) == pairs.labels


def _alone(first: Tensor, second: Tensor) -> float:
    """Return the e-value of "the first is right no more often", bool [n] each, samples alike."""
    return sign_wealth(int((first & ~second).sum()), int((second & ~first).sum()))


def weighted_wealth(first: Tensor, second: Tensor, weight: Tensor) -> float:
    """Return the e-value of "the first model is right no more often than the second".

    Each sample is bet on once, with its weight as a part of the largest; 1 without a sample.

    Args:
        first: Which samples the first model gets right, bool [n].
        second: The same of the second.
        weight: How much each sample counts, float64 [n].
    """
    if not len(weight):
        return 1.0
    values = (first.double() - second.double()) * weight / weight.max()
    return float(mean_wealth(np.asarray(values.numpy()), 0.0)[-1])
