"""Distillation that does not see the scale of the logits: each sample has a temperature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fedfuse.distill.losses import EPS, kl_forward
from fedfuse.errors import FedfuseError
from fedfuse.shapes import Float
from fedfuse.types import Space
from fedfuse.validation import require_number


def in_deviations(logits: Float[Tensor, "B C"], eps: float = 1e-7) -> Float[Tensor, "B C"]:
    """Return logits over their own deviation among the classes, ``sqrt(var + eps ** 2)``.

    Raises:
        FedfuseError: If there is one class, which has no deviation.

    >>> import torch
    >>> in_deviations(torch.tensor([[2.0, 4.0, 6.0]]))
    tensor([[1., 2., 3.]])
    """
    if logits.shape[-1] < 2:
        raise FedfuseError(
            "Logits of one class have no deviation",
            got=f"shape {list(logits.shape)}",
            allowed="two classes or more",
            next_step="Choose distill=kl.",
        )
    # Inside the root: at constant logits its gradient would be infinite otherwise.
    return logits / (logits.var(dim=-1, keepdim=True) + eps**2).sqrt()


@dataclass(frozen=True, slots=True)
class StandardisedKL:
    """KL between softmaxes of logits in units of their own deviation (MIX-KD, 2211.03946).

    As in the authors' code, the rescaling half; the centred form (Logit Standardization) has the
    same value, since a softmax does not see a constant. There is no factor of T squared, and the
    cross-entropy beside it is ``client.private_weight``'s. With two classes only the sign of
    the logits' difference is left, whose gradient is 0: nothing is learned of it.

    Args:
        temperature: Divides the rescaled logits of both again.
        eps: Keeps constant logits from having no deviation.
    """

    temperature: float = 1.0
    eps: float = 1e-7
    space: ClassVar[Space] = Space.PROBABILITIES
    min_classes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_number("StandardisedKL", "temperature", self.temperature, above=0)
        require_number("StandardisedKL", "eps", self.eps, above=0)

    def __call__(
        self, student_logits: Float[Tensor, "B C"], targets: Float[Tensor, "B C"]
    ) -> Float[Tensor, " B"]:
        """Return one loss per sample; log-probabilities are the teacher's logits."""
        teacher = in_deviations(targets.clamp_min(EPS).log(), self.eps) / self.temperature
        student = in_deviations(student_logits, self.eps)
        return kl_forward(student, teacher.softmax(dim=-1), self.temperature)
