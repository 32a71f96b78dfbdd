"""Send less, or blunter: mechanisms without a promise, to be judged by measuring (see audit)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fedfuse.errors import FedfuseError
from fedfuse.privacy.draw import draw_laplace
from fedfuse.shapes import Float, Int
from fedfuse.validation import require_count, require_number, require_one_of


@dataclass(frozen=True, slots=True)
class LabelOnly:
    """Send the likeliest class and nothing else.

    What arrives are logits all the same: the class has probability ``confidence``, the others
    share the rest, the same numbers for every sample.

    Args:
        confidence: Probability that a receiver reads for the class at temperature 1.
    """

    confidence: float = 0.9

    def __post_init__(self) -> None:
        require_number("LabelOnly", "confidence", self.confidence, above=0, below=1)

    def __call__(
        self,
        logits: Float[Tensor, "m C"],
        generator: torch.Generator,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "m C"]:
        """Return one vector per class.

        >>> LabelOnly(confidence=0.8)(torch.tensor([[0.1, 0.3, 0.2]]), torch.Generator()).softmax(1)
        tensor([[0.1000, 0.8000, 0.1000]])
        """
        others = max(logits.shape[1] - 1, 1)
        peak = math.log(self.confidence * others / (1 - self.confidence))
        sent = torch.zeros_like(logits)
        return sent.scatter_(1, logits.argmax(dim=1, keepdim=True), peak)


@dataclass(frozen=True, slots=True)
class TopKOnly:
    """Send the k largest probabilities; the others share what is left in equal parts.

    Args:
        k: Classes that are kept. From the number of classes on, nothing is hidden.
    """

    k: int = 1

    def __post_init__(self) -> None:
        require_count("TopKOnly", "k", self.k)

    def __call__(
        self,
        logits: Float[Tensor, "m C"],
        generator: torch.Generator,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "m C"]:
        """Return logarithms of probabilities, of which all but k are equal.

        >>> probs = torch.tensor([[0.5, 0.3, 0.15, 0.05]])
        >>> TopKOnly(k=2)(probs.log(), torch.Generator()).softmax(1)
        tensor([[0.5000, 0.3000, 0.1000, 0.1000]])
        """
        num_classes = logits.shape[1]
        if self.k >= num_classes:
            return logits
        logs = logits.double().log_softmax(dim=1)
        kept, index = logs.topk(self.k, dim=1)
        hidden = logs.scatter(1, index, -math.inf)
        rest = hidden.logsumexp(dim=1, keepdim=True) - math.log(num_classes - self.k)
        return rest.expand_as(logs).scatter(1, index, kept).to(logits.dtype)


@dataclass(frozen=True, slots=True)
class Temperature:
    """Divide the logits by a temperature: flatter predictions.

    Whoever knows the temperature multiplies by it and has them back, so this is a setting of
    distillation that a threat model must not count on.

    Args:
        temperature: Above 1 flattens.
    """

    temperature: float = 4.0

    def __post_init__(self) -> None:
        require_number("Temperature", "temperature", self.temperature, above=0)

    def __call__(
        self,
        logits: Float[Tensor, "m C"],
        generator: torch.Generator,  # noqa: ARG002 - draws nothing
    ) -> Float[Tensor, "m C"]:
        """Return the logits over the temperature."""
        return logits / self.temperature


SCORES = ("max_prob", "rarity", "both")


def rarity_scores(class_counts: Int[Tensor, " C"]) -> Float[Tensor, " C"]:
    """Return how rare each class is with a client, ``(1 / n_c) / max(1 / n)`` over its classes.

    From 0 to 1, float64; 1 for its rarest class and for those that it has no sample of.

    >>> rarity_scores(torch.tensor([60, 30, 10, 0])).tolist()
    [0.16666666666666666, 0.3333333333333333, 1.0, 1.0]
    """
    counts = class_counts.double()
    owned = counts > 0
    least = torch.where(owned, counts, torch.inf).amin()
    return torch.where(owned, least / counts.clamp_min(1), 1)


@dataclass(frozen=True, slots=True)
class Swing:
    """Flatten most what is most private, and add noise to the probabilities.

    After the idea of Swing Distillation (temperature rises with an item's private content, noise
    on soft targets); that method is about text, so the scores here are our own: the largest
    probability, since a model is surer of what it was trained on; or how rare with the client the
    classes are that it finds probable, since few samples are easily told. The noise is not
    calibrated to any budget, and with ``rarity`` what is sent depends on the client's class counts.

    Args:
        temperature: T0, for a sample with score 0.
        kappa: T = T0 * (1 + kappa * score).
        noise: Scale of the Laplace noise on each probability.
        score: ``max_prob``, the largest probability; ``rarity``, the mean of
            :func:`rarity_scores` under the prediction; ``both``, the mean of the two.
    """

    temperature: float = 1.0
    kappa: float = 2.0
    noise: float = 0.02
    score: str = "max_prob"

    def __post_init__(self) -> None:
        require_number("Swing", "temperature", self.temperature, above=0)
        require_number("Swing", "kappa", self.kappa, at_least=0)
        require_number("Swing", "noise", self.noise, at_least=0)
        require_one_of("Swing", "score", self.score, SCORES)

    @property
    def needs_class_counts(self) -> bool:
        """Whether the client's samples of each class are read."""
        return self.score != "max_prob"

    def __call__(
        self,
        logits: Float[Tensor, "m C"],
        generator: torch.Generator,
        class_counts: Int[Tensor, " C"] | None = None,
    ) -> Float[Tensor, "m C"]:
        """Return logarithms of the perturbed probabilities."""
        exact = logits.double()
        score = self._score(exact.softmax(dim=1), class_counts)
        probs = (exact / (self.temperature * (1 + self.kappa * score))).softmax(dim=1)
        noise = self.noise * draw_laplace(probs.shape, generator)
        noisy = (probs + noise).clamp(min=_FLOOR)
        return (noisy / noisy.sum(dim=1, keepdim=True)).log().to(logits.dtype)

    def _score(
        self, probs: Float[Tensor, "m C"], class_counts: Int[Tensor, " C"] | None
    ) -> Float[Tensor, "m 1"]:
        surest = probs.amax(dim=1, keepdim=True)
        if not self.needs_class_counts:
            return surest
        if class_counts is None:
            raise FedfuseError(
                f"Swing with score={self.score} needs the client's samples of each class",
                got="none",
                next_step="Give them as third argument, or choose privacy.score=max_prob.",
            )
        rare = (probs @ rarity_scores(class_counts)).unsqueeze(1)
        return rare if self.score == "rarity" else (surest + rare) / 2


_FLOOR = 1e-4
"""The least probability that is sent; a logarithm of 0 cannot be."""
