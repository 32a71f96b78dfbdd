"""What of its predictions a client shares: logits, probabilities, or logits without its prior.

Probabilities say everything about logits but their level: whatever is added to all classes of a
sample is lost (and what is less than float32 can tell from 0). So scores, fusion rules and losses
that take a softmax first do not notice the difference, at whatever temperature; a loss that wants
a student to match the teachers' logits themselves has nothing to match any more and is refused.
On the wire a code that knows it carries probabilities needs no range for every row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from fedfuse.declarations import part_name
from fedfuse.errors import FedfuseError
from fedfuse.prior import FLOOR, log_prior, remove_prior
from fedfuse.protocols import Extract
from fedfuse.shapes import Float
from fedfuse.sharing_context import SharingContext
from fedfuse.types import KnowledgeBank, Space
from fedfuse.user_code import kind_of
from fedfuse.validation import require_number

LEAST = torch.finfo(torch.float32).tiny
"""Smallest probability that has a logarithm here, about exp(-87)."""


def shared_probabilities(
    logits: Float[Tensor, "*batch C"], temperature: float = 1.0
) -> Float[Tensor, "*batch C"]:
    """Return ``softmax(z / T)``, float32 and never below :data:`LEAST`.

    >>> shared_probabilities(torch.tensor([0.0, 0.0, -1e4]))[:2]
    tensor([0.5000, 0.5000])
    """
    return (logits / temperature).softmax(dim=-1).clamp_min(LEAST)


def as_logits(
    probs: Float[Tensor, "*batch C"], temperature: float = 1.0
) -> Float[Tensor, "*batch C"]:
    """Return ``T log p``: logits whose softmax at T is what was shared, and that say no more.

    >>> as_logits(torch.tensor([0.5, 0.5]), temperature=2.0)
    tensor([-1.3863, -1.3863])
    """
    return temperature * probs.clamp_min(LEAST).log()


@dataclass(frozen=True, slots=True)
class Logits:
    """Share the logits as they are."""

    space: ClassVar[Space] = Space.LOGITS

    def shared(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the logits."""
        return logits

    def read(self, shared: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the logits."""
        return shared


@dataclass(frozen=True, slots=True)
class Probabilities:
    """Share probabilities.

    Args:
        temperature: T of the softmax on the client. It changes what is lost to float32 and to a
            codec, and nothing else.
    """

    temperature: float = 1.0
    space: ClassVar[Space] = Space.PROBABILITIES

    def __post_init__(self) -> None:
        require_number("Probabilities", "temperature", self.temperature, above=0)

    def shared(self, logits: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return the probabilities."""
        return shared_probabilities(logits, self.temperature)

    def read(self, shared: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch C"]:
        """Return logits without a level of their own."""
        return as_logits(shared, self.temperature)


@dataclass(frozen=True, slots=True)
class Adjusted(Logits):
    """Share logits that are free of the client's label prior, whatever loss trained them.

    On the wire they are logits like any others; the prior is taken out before, by
    :class:`AdjustStage`, where the client's labels are.

    Args:
        tau: How much of ``log pi`` shared logits lack: 1 for all.
        floor: Samples that an absent class counts for.
    """

    tau: float = 1.0
    floor: float = FLOOR

    def __post_init__(self) -> None:
        require_number("Adjusted", "tau", self.tau, at_least=0)
        require_number("Adjusted", "floor", self.floor, above=0)


@dataclass(frozen=True, slots=True)
class AdjustStage:
    """Take the clients' priors out of their predictions, as far as training has left them there.

    Args:
        extract: How much shared logits lack.
        trained: How much the logits lack already: tau of the balanced softmax, 0 for cross-entropy.
    """

    extract: Adjusted
    trained: float = 0.0

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:
        """Return the bank with ``z - (tau - trained) log pi``."""
        prior = log_prior(context.class_counts, self.extract.floor).to(bank.logits.device)
        return replace(
            bank, logits=remove_prior(bank.logits, prior, self.extract.tau - self.trained)
        )


@dataclass(frozen=True, slots=True)
class ExtractStage:
    """Let go of what is not shared, on the way from predictions to the message.

    Args:
        extract: What is shared.
    """

    extract: Extract

    def __call__(self, bank: KnowledgeBank, context: SharingContext) -> KnowledgeBank:  # noqa: ARG002
        """Return the bank with logits that say what is shared and no more.

        Raises:
            FedfuseError: If the part returns something else than finite numbers of that shape.
        """
        logits = self.extract.read(self.extract.shared(bank.logits))
        right = isinstance(logits, Tensor) and logits.shape == bank.logits.shape
        if not right or not bool(torch.isfinite(logits).all()):
            raise FedfuseError(
                f"{part_name(self.extract)} broke its promise",
                got=f"{int((~torch.isfinite(logits)).sum())} that are not finite"
                if right
                else kind_of(logits),
                allowed=f"finite logits {list(bank.logits.shape)}",
            )
        return replace(bank, logits=logits)
