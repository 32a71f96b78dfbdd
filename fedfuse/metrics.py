"""How good predictions are.

Everything is accumulated in float64, on the device of its inputs; means are over samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fedfuse.errors import DataError, ParameterError
from fedfuse.shapes import Bool, Float, Int


def accuracy(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float:
    """Return the share of samples whose largest logit is their label's.

    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    _check(logits, labels)
    return _mean(logits.argmax(dim=1) == labels)


def cross_entropy(logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> float:
    """Return the mean negative log-likelihood of the labels in nats.

    >>> round(cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2])), 6)  # log 4
    1.386294
    """
    _check(logits, labels)
    return float(F.cross_entropy(logits.double(), labels))


def pairwise_disagreement(
    logits: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None = None
) -> float:
    """Return how often two of the clients name different classes, mean over pairs and samples.

    How far models have drifted apart, seen from what they say; 0 if all say the same.

    Args:
        logits: Predictions of at least two clients.
        mask: Which of them were given. Only pairs of answers count, each the same, and without one
            the result is NaN; None for all.

    >>> answers = torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]], [[0.0, 1.0]]])
    >>> round(pairwise_disagreement(answers), 4)  # two of three pairs
    0.6667
    """
    num_clients, num_samples, num_classes = logits.shape
    if num_clients < 2 or not num_samples:
        raise DataError(
            "Disagreement is between two clients, on some samples",
            got=f"predictions {list(logits.shape)}",
            allowed="[K, P, C], K at least 2, P at least 1",
        )
    named = logits.argmax(dim=2)  # [K, P]
    votes = torch.zeros(num_samples, num_classes, dtype=torch.float64, device=logits.device)
    counted = torch.ones_like(named) if mask is None else mask
    votes.scatter_add_(1, named.T, counted.T.double())
    answers = votes.sum(dim=1)
    pairs = float((answers * (answers - 1)).sum())
    return 1 - float((votes * (votes - 1)).sum()) / pairs if pairs else math.nan


@dataclass(frozen=True, slots=True)
class Judged:
    """What metrics need to know of N answers, each by itself: those of many models at once.

    A sample's numbers do not depend on which others stand beside it, so those of many models
    joined are those of each alone, to the bit.

    Args:
        log_probs: Logarithm of the probability that was given to the label, float64 [N].
        confidence: The largest probability, float64 [N].
        right: Whether it is the label's, bool [N].
    """

    log_probs: Float[Tensor, " N"]
    confidence: Float[Tensor, " N"]
    right: Bool[Tensor, " N"]

    @classmethod
    def of(cls, logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"]) -> Judged:
        """Judge answers, a few thousand at a time: float64 is twice what they are."""
        _check(logits, labels)
        parts = []
        for some, theirs in zip(
            torch.split(logits, _BLOCK), torch.split(labels, _BLOCK), strict=True
        ):
            log_probs = some.double().log_softmax(dim=1)
            confidence, predicted = log_probs.max(dim=1)
            told = log_probs.gather(1, theirs.unsqueeze(1)).squeeze(1)
            parts.append((told, confidence.exp(), predicted == theirs))
        return cls(*map(torch.cat, zip(*parts, strict=True)))

    def at(
        self, rows: Int[Tensor, " M"], logits: Float[Tensor, "M C"], labels: Int[Tensor, " M"]
    ) -> Judged:
        """Return what is known of some of the answers; repeats count, and those at -1 are judged.

        Args:
            rows: Which they are, -1 for others.
            logits: The answers themselves; only those of others are looked at.
            labels: Their labels.
        """
        found = Judged(self.log_probs[rows], self.confidence[rows], self.right[rows])
        if (others := rows < 0).any():
            judged = Judged.of(logits[others], labels[others])
            for name in ("log_probs", "confidence", "right"):
                getattr(found, name)[others] = getattr(judged, name)
        return found

    def told(self, sizes: Sequence[int], num_bins: int = 15) -> dict[str, list[float]]:
        """Return of each of k models, whose answers are joined, what metrics there are.

        They are ``accuracy``, ``loss`` (mean negative log-likelihood, nats) and ``ece``, the
        expected calibration error, 0 to 1: predictions are binned by their confidence into
        ``num_bins`` intervals ((m-1)/M, m/M] of equal width; the gaps between mean confidence and
        accuracy are averaged, weighted by the samples of each bin (Guo et al. 2017,
        https://arxiv.org/abs/1706.04599, equation 3).

        Args:
            sizes: How many answers each model gave, at least 1; one model's behind the other's.
            num_bins: Bins of the calibration error.

        >>> logits = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log()
        >>> round(Judged.of(logits, torch.tensor([0, 1])).told([2])["ece"][0], 6)
        0.25
        """
        if min(sizes, default=0) < 1:
            raise DataError("Of no answers there is nothing to tell", got=f"sizes {list(sizes)}")
        return {
            "accuracy": accuracies(self.right, sizes),
            "loss": self.losses(sizes),
            "ece": self._calibration_errors(sizes, num_bins),
        }

    def cpu(self) -> Judged:
        """Return it in host memory, where sums do not depend on who is judged beside."""
        return Judged(self.log_probs.cpu(), self.confidence.cpu(), self.right.cpu())

    def losses(self, sizes: Sequence[int]) -> list[float]:
        """Return each model's mean negative log-likelihood, nats."""
        parts = torch.split(self.log_probs.unsqueeze(1), list(sizes))
        first = torch.zeros(len(self.log_probs), dtype=torch.int64, device=self.log_probs.device)
        means = [F.nll_loss(part, first[: len(part)]) for part in parts]
        told: list[float] = torch.stack(means).tolist()
        return told

    def _calibration_errors(self, sizes: Sequence[int], num_bins: int) -> list[float]:
        if num_bins < 1:
            raise ParameterError("Judged.told", "num_bins", num_bins, "at least 1")
        confidence, device = self.confidence, self.confidence.device
        edges = torch.arange(1, num_bins, dtype=torch.float64, device=device) / num_bins
        bins = torch.bucketize(confidence, edges)  # an edge belongs to the bin below it
        bins += _owners(sizes, confidence) * num_bins
        # A bin's weight times its gap is |sum of hits - sum of confidences| / N.
        missed = self.right.double() - confidence
        gaps = torch.bincount(bins, weights=missed, minlength=len(sizes) * num_bins)
        sums = gaps.view(-1, num_bins).abs().sum(dim=1).tolist()
        return [gap / size for gap, size in zip(sums, sizes, strict=True)]


def accuracies(right: Bool[Tensor, " N"], sizes: Sequence[int]) -> list[float]:
    """Return the share of each model's answers that are right, as :meth:`Judged.told` does.

    >>> accuracies(torch.tensor([True, False, True]), [2, 1])
    [0.5, 1.0]
    """
    hits = torch.bincount(_owners(sizes, right), right.double(), len(sizes)).tolist()
    return [hit / size for hit, size in zip(hits, sizes, strict=True)]


_BLOCK = 8192
"""Answers that are judged at once: what is made of them stays in the processor's cache."""


def _owners(sizes: Sequence[int], like: Tensor) -> Tensor:
    """Return whose each of the joined answers is, from 0, on the device of ``like``."""
    lengths = torch.tensor(sizes, dtype=torch.int64, device=like.device)
    return torch.repeat_interleave(lengths, output_size=len(like))


def _mean(flags: Tensor) -> float:
    """Return the share of True, exact for any number of samples."""
    return int(flags.sum()) / flags.numel()


def _check(scores: Tensor, labels: Tensor) -> None:
    """Raise unless there is one label for each of at least one row."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise DataError(
            "Predictions and labels cannot be compared",
            got=f"predictions {list(scores.shape)}, labels {list(labels.shape)}",
            allowed="predictions [N, C] and labels [N], at least one sample",
        )
