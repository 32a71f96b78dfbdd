"""Fuse with a confidence of its own for every client and sample, beside the weights of the pairs.

``target_i(x) = sum_j w_ij c_j(x) v_j(x) / sum_j w_ij c_j(x)`` is two GEMMs: the confidence belongs
to the source alone, so it is multiplied into the values before the [K, J] x [J, P*C] product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.confidence import MEASURES, standardise
from fedfuse.shapes import Bool, Float
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_flag, require_number, require_one_of

_FLOOR = -80.0
"""Log of the least confidence that counts, relative to the sample's most confident answer.

A receiver whose sources are all that far below gets their plain weighted mean and not 0 / 0.
"""

Average = Literal["probabilities", "logits"]


def confidence_weighted_mean(
    values: Float[Tensor, "J P C"],
    weights: Float[Tensor, "K J"],
    log_confidence: Float[Tensor, "J P"],
    mask: Bool[Tensor, "J P"] | None = None,
) -> Float[Tensor, "K P C"]:
    """Return ``sum_j w_kj c_j v_j / sum_j w_kj c_j`` per sample, with ``c = exp(log_confidence)``.

    0 where none of a receiver's sources answered. The products run in float64: a confidence and a
    weight may each be near the end of float32's range.

    >>> values = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    >>> confidence = torch.tensor([[3.0], [1.0]])
    >>> confidence_weighted_mean(values, torch.full((1, 2), 0.5), confidence.log())
    tensor([[[0.7500, 0.2500]]])
    """
    log_confidence = log_confidence.double().clamp_min(torch.finfo(torch.float64).min / 2)
    known = values.double()
    if mask is not None:
        log_confidence = log_confidence.masked_fill(~mask, -torch.inf)
        # Not a product with 0: an answer that was never given may hold NaN.
        known = torch.where(mask.unsqueeze(-1), known, 0)
    best = log_confidence.amax(dim=0)
    confidence = (log_confidence - torch.where(best.isfinite(), best, 0)).clamp_min(_FLOOR).exp()
    if mask is not None:
        confidence = confidence * mask
    exact = weights.double()
    mass = exact @ confidence
    total = (exact @ (confidence.unsqueeze(-1) * known).flatten(1)).view(*mass.shape, -1)
    fused = total / mass.clamp_min(torch.finfo(torch.float64).tiny).unsqueeze(-1)
    return fused.to(values.dtype)


@dataclass(frozen=True, slots=True)
class ConfidenceWeighted:
    """Weigh every answer by a confidence that the server reads off the client's own logits.

    The confidence is ``measure ** sharpness``, normalised over a receiver's sources on every
    sample. ``measure="variance", average="logits"`` is Fed-ET-like; the others are our ports of
    the idea.

    Args:
        measure: ``entropy`` (one over the effective number of classes), ``margin``, ``max_prob``
            or ``variance``.
        temperature: Of the softmax, in the measure and in what is averaged.
        sharpness: Exponent of the confidence; 0 is the plain weighted mean.
        standardise: Bring every client's logits to one scale before they are measured, because
            architectures differ in theirs; what is averaged stays as it is.
        average: ``probabilities`` or raw ``logits``.
    """

    measure: str = "entropy"
    temperature: float = 1.0
    sharpness: float = 1.0
    standardise: bool = False
    average: Average = "probabilities"

    def __post_init__(self) -> None:
        require_one_of("ConfidenceWeighted", "measure", self.measure, MEASURES)
        require_number("ConfidenceWeighted", "temperature", self.temperature, above=0)
        require_number("ConfidenceWeighted", "sharpness", self.sharpness, at_least=0)
        require_flag("ConfidenceWeighted", "standardise", self.standardise)
        require_one_of("ConfidenceWeighted", "average", self.average, list(Space))

    @property
    def space(self) -> Space:
        """What is averaged."""
        return Space(self.average)

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver."""
        measured = standardise(bank.logits, bank.mask) if self.standardise else bank.logits
        log_confidence = MEASURES[self.measure](measured / self.temperature)
        return by_confidence(
            bank, weights, self.sharpness * log_confidence, self.space, self.temperature
        )


@dataclass(frozen=True, slots=True)
class UploadedConfidence:
    """Weigh every answer by the confidence that the client sent with it.

    Args:
        form: ``softmax``: weights in proportion to ``exp(sharpness * g)``, for a log-density
            (UWA-like; its formula was not read in the paper). ``ratio``: in proportion to
            ``g ** sharpness``, for a score or density ratio from 0 up (FedAUX's mean, as read in
            its authors' code, is ``ratio`` with ``average="logits"``).
        sharpness: See ``form``; one over the temperature of the softmax over clients.
        temperature: Of the softmax over classes, where probabilities are averaged.
        average: ``probabilities`` or raw ``logits``.
    """

    form: Literal["softmax", "ratio"] = "softmax"
    sharpness: float = 1.0
    temperature: float = 1.0
    average: Average = "probabilities"
    needs_confidence: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_one_of("UploadedConfidence", "form", self.form, ["softmax", "ratio"])
        require_number("UploadedConfidence", "sharpness", self.sharpness, at_least=0)
        require_number("UploadedConfidence", "temperature", self.temperature, above=0)
        require_one_of("UploadedConfidence", "average", self.average, list(Space))

    @property
    def needs_positive_confidence(self) -> bool:
        """Whether logarithms, which may be below 0, are nothing that it can weigh by."""
        return self.form == "ratio"

    @property
    def space(self) -> Space:
        """What is averaged."""
        return Space(self.average)

    def check_bank(self, bank: KnowledgeBank) -> None:
        """Refuse confidences that the form cannot take, naming their clients."""
        _sent(bank, positive=self.form == "ratio")

    def __call__(
        self, bank: KnowledgeBank, weights: Float[Tensor, "K J"]
    ) -> Float[Tensor, "K P C"]:
        """Return one target per receiver.

        Raises:
            KnowledgeError: If no confidence was sent, or one that the form cannot take.
        """
        confidence = _sent(bank, positive=self.form == "ratio").double()
        if self.form == "ratio":
            confidence = confidence.clamp_min(torch.finfo(torch.float64).tiny).log()
        return by_confidence(
            bank, weights, self.sharpness * confidence, self.space, self.temperature
        )


def by_confidence(
    bank: KnowledgeBank,
    weights: Float[Tensor, "K J"],
    log_confidence: Float[Tensor, "J P"],
    space: Space,
    temperature: float,
) -> Float[Tensor, "K P C"]:
    """Return the confidence-weighted logits, or probabilities, uniform where nobody answered."""
    if space is Space.LOGITS:
        return confidence_weighted_mean(bank.logits, weights, log_confidence, bank.mask)
    probs = (bank.logits / temperature).softmax(dim=-1)
    fused = confidence_weighted_mean(probs, weights, log_confidence, bank.mask)
    return torch.where(fused.sum(dim=-1, keepdim=True) > 0, fused, 1 / fused.shape[-1])


def _sent(bank: KnowledgeBank, *, positive: bool) -> Float[Tensor, "K P"]:
    """Return the clients' confidences, 0 where masked, or say why they cannot be used."""
    if bank.confidence is None:
        raise KnowledgeError(
            "The rule UploadedConfidence needs the clients' confidences, which were not sent",
            next_step="Let the clients send one, or choose rule=confidence, which needs none.",
        )
    confidence = bank.confidence
    if bank.mask is not None:
        confidence = torch.where(bank.mask, confidence, 0)
    bad = ~confidence.isfinite() | ((confidence < 0) if positive else False)
    if bool(bad.any()):
        clients = bank.client_ids[bad.any(dim=1)].tolist()
        refused = KnowledgeError(
            "A confidence cannot be used",
            got=f"{float(confidence[bad][0]):g} from the clients {clients[:5]}",
            allowed="finite numbers from 0" if positive else "finite numbers",
            next_step="Choose rule.form=softmax for logarithms of a density." if positive else None,
        )
        refused.client_ids = tuple(clients)
        raise refused
    return confidence
