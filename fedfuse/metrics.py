"""How good predictions are.

Everything is accumulated in float64, on the device of its inputs; means are over samples.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
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


def evaluate_logits(
    logits: Float[Tensor, "N C"], labels: Int[Tensor, " N"], num_bins: int = 15
) -> dict[str, float]:
    """Return ``accuracy``, ``loss`` (mean negative log-likelihood, nats) and ``ece``.

    The last is the expected calibration error, 0 to 1: predictions are binned by their confidence
    into ``num_bins`` intervals ((m-1)/M, m/M] of equal width; the gaps between mean confidence and
    accuracy are averaged, weighted by the samples of each bin (Guo et al. 2017,
    https://arxiv.org/abs/1706.04599, equation 3).

    >>> logits = torch.tensor([[0.75, 0.25], [0.75, 0.25]]).log()
    >>> round(evaluate_logits(logits, torch.tensor([0, 1]))["ece"], 6)
    0.25
    """
    _check(logits, labels)
    log_probs = logits.double().log_softmax(dim=1)
    confidence, predicted = log_probs.max(dim=1)
    correct = predicted == labels
    return {
        "accuracy": _mean(correct),
        "loss": float(F.nll_loss(log_probs, labels)),
        "ece": _calibration_error(confidence.exp(), correct, num_bins),
    }


def client_metrics(
    pool_logits: Float[Tensor, "N C"],
    pool_labels: Int[Tensor, " N"],
    own_index: Int[Tensor, " M"] | npt.NDArray[np.int64],
    *,
    own: tuple[Tensor, Tensor] | None = None,
    num_bins: int = 15,
) -> dict[str, float]:
    """Return a client's metrics from one pass of its model over the test pool.

    The client's own test set is a choice of rows of the pool, so the same logits serve both.

    Args:
        pool_logits: The model's answers to the whole pool, the balanced global test set.
        pool_labels: Class ids of the pool.
        own_index: The rows of the pool that are the client's own test set; repeats count.
        own: Logits [M, C] and labels [M] of the own test set as the client sees it, in the place
            of ``own_index``; for clients whose inputs are transformed.
        num_bins: Bins of the calibration error.

    Returns:
        ``accuracy``, ``loss`` and ``ece``, each with the suffix ``_own`` and ``_global``.
    """
    if own is None:
        rows = torch.as_tensor(own_index, device=pool_logits.device)
        own = pool_logits[rows], pool_labels[rows]
    private = evaluate_logits(*own, num_bins)
    balanced = evaluate_logits(pool_logits, pool_labels, num_bins)
    return {f"{name}_own": value for name, value in private.items()} | {
        f"{name}_global": value for name, value in balanced.items()
    }


def _mean(flags: Tensor) -> float:
    """Return the share of True, exact for any number of samples."""
    return int(flags.sum()) / flags.numel()


def _calibration_error(confidence: Tensor, correct: Tensor, num_bins: int) -> float:
    """Return the calibration error of float64 confidences [N] and bool hits [N]."""
    if num_bins < 1:
        raise ParameterError("evaluate_logits", "num_bins", num_bins, "at least 1")
    edges = torch.arange(1, num_bins, dtype=torch.float64, device=confidence.device) / num_bins
    bins = torch.bucketize(confidence, edges)  # an edge belongs to the bin below it
    # A bin's weight times its gap is |sum of hits - sum of confidences| / N.
    gaps = torch.bincount(bins, weights=correct.double() - confidence, minlength=num_bins)
    return float(gaps.abs().sum()) / len(confidence)


def _check(scores: Tensor, labels: Tensor) -> None:
    """Raise unless there is one label for each of at least one row."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise DataError(
            "Predictions and labels cannot be compared",
            got=f"predictions {list(scores.shape)}, labels {list(labels.shape)}",
            allowed="predictions [N, C] and labels [N], at least one sample",
        )
