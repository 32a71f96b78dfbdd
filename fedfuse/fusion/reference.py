"""Weigh sources by how often they are right on public samples whose labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.shapes import Bool, Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_number, require_one_of


def reference_accuracy(
    logits: Float[Tensor, "K P C"],
    labels: Int[Tensor, " P"],
    mask: Bool[Tensor, "K P"] | None = None,
) -> Float[Tensor, " K"]:
    """Return ``(hits + 1) / (answers + C)``: accuracy, drawn a little toward chance.

    The one hit too many keeps a client that was never right at a finite log-weight, and a client
    that answered nothing at ``1 / C``.

    >>> logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 0.0]]])
    >>> reference_accuracy(logits, torch.tensor([0, 0]))
    tensor([0.7500, 0.5000])
    """
    hits = logits.argmax(dim=-1) == labels
    answers = torch.full_like(logits[:, 0, 0], logits.shape[1])
    if mask is not None:
        hits, answers = hits & mask, mask.sum(dim=1).to(logits.dtype)
    return (hits.sum(dim=1) + 1) / (answers + logits.shape[2])


def prediction_similarity(
    probs: Float[Tensor, "K P C"], mask: Bool[Tensor, "K P"] | None = None
) -> Float[Tensor, "K K"]:
    """Return the cosine between whole prediction tables over the samples that both answered.

    From 0 to 1 for probabilities; 0 for two clients without a common sample. Three GEMMs.

    >>> prediction_similarity(torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8]]]))
    tensor([[1.0000, 0.0000, 0.6000],
            [0.0000, 1.0000, 0.8000],
            [0.6000, 0.8000, 1.0000]])
    """
    exact = probs.double()
    present = torch.ones(probs.shape[:2], dtype=torch.float64, device=probs.device)
    if mask is not None:
        exact, present = torch.where(mask.unsqueeze(-1), exact, 0), mask.double()
    product = exact.flatten(1) @ exact.flatten(1).T
    norms = (exact.square().sum(dim=-1) @ present.T).sqrt()
    length = (norms * norms.T).clamp_min(torch.finfo(torch.float64).tiny)
    return (product / length).clamp(0, 1).fill_diagonal_(1).to(probs.dtype)


@dataclass(frozen=True, slots=True)
class ReferenceAccuracy:
    """Weigh every source by its accuracy on the labelled public set, the same for all receivers.

    Args:
        beta: Sharpness; 0 is the plain mean.
        form: ``power``: weights in proportion to ``accuracy ** beta``; ``exponential``: to
            ``exp(beta * accuracy)``.
    """

    beta: float = 1.0
    form: Literal["power", "exponential"] = "power"
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("ReferenceAccuracy", "beta", self.beta, at_least=0)
        require_one_of("ReferenceAccuracy", "form", self.form, ["power", "exponential"])

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return the log-weights, equal in every row."""
        known = _given(labels, "ReferenceAccuracy")
        accuracy = reference_accuracy(bank.logits, known, bank.mask)
        scores = accuracy.log() if self.form == "power" else accuracy
        return (self.beta * scores).repeat(bank.num_clients, 1)


@dataclass(frozen=True, slots=True)
class KTA:
    """Weigh sources by likeness in prediction space times accuracy on labelled public samples.

    KTA-like (arXiv 2512.00841): its abstract names the two ingredients; the exact weights were not
    read. ``w_ij`` in proportion to ``exp(beta * cos(p_i, p_j)) * accuracy_j ** gamma`` is our
    reading.

    Args:
        beta: How much likeness counts.
        gamma: How much accuracy counts.
        temperature: Of the softmax whose tables are compared.
    """

    beta: float = 10.0
    gamma: float = 1.0
    temperature: float = 1.0
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("KTA", "beta", self.beta, at_least=0)
        require_number("KTA", "gamma", self.gamma, at_least=0)
        require_number("KTA", "temperature", self.temperature, above=0)

    def __call__(
        self, bank: KnowledgeBank, labels: Int[Tensor, " P"] | None
    ) -> Float[Tensor, "K K"]:
        """Return ``beta * similarity_ij + gamma * log accuracy_j``."""
        accuracy = reference_accuracy(bank.logits, _given(labels, "KTA"), bank.mask)
        probs = (bank.logits / self.temperature).softmax(dim=-1)
        return self.beta * prediction_similarity(probs, bank.mask) + self.gamma * accuracy.log()


def _given(labels: Int[Tensor, " P"] | None, reader: str) -> Int[Tensor, " P"]:
    """Return the labels, or say who cannot do without them."""
    if labels is None:
        raise KnowledgeError(
            f"The scorer {reader} needs the labels of the public set, which are not there",
            next_step="Choose a public set with labels, or scorer=knfu, which needs none.",
        )
    return labels
