"""Fuse without the sources' class priors: logit adjustment on the server.

A source's logits carry how often it has seen each class: z = knowledge + log prior. The adjustment
(arXiv 2007.07314, general knowledge; the idea of weight aligning, arXiv 1911.07053) takes that off
before fusing, and may add the receiver's own afterwards. Clients can do it themselves
(``extract=adjusted``), and then no prior leaves them; this is for servers that know the priors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fedfuse.declarations import declared
from fedfuse.errors import KnowledgeError
from fedfuse.fusion.around import AroundRule, inner_fused, require_inner
from fedfuse.protocols import Fused, Rule
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank, Space
from fedfuse.validation import require_flag, require_number


def log_shares(shares: Float[Tensor, "K C"], floor: float) -> Float[Tensor, "K C"]:
    """Return the logarithms of class shares, of an absent class that of ``floor``.

    >>> import torch
    >>> log_shares(torch.tensor([[1.0, 0.0]]), floor=0.001)
    tensor([[ 0.0000, -6.9078]])
    """
    return shares.clamp_min(floor).log()


@dataclass(frozen=True, slots=True)
class LogitAdjusted(AroundRule):
    """Take ``tau log pi_j`` off every source's logits, then fuse by an inner rule.

    Scores and neighbours are computed before, on what was sent.

    Args:
        inner: The rule that fuses.
        tau: How much of the prior is taken off; 0 is the inner rule exactly.
        floor: Share that an absent class counts as.
        personal: Whether the receiver's own ``tau log pi_i`` is added to its target again.
        temperature: Of the softmaxes; an inner rule that has a temperature fuses at this one.
    """

    inner: Rule
    tau: float = 1.0
    floor: float = 1e-3
    personal: bool = False
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_number("LogitAdjusted", "tau", self.tau, at_least=0)
        require_number("LogitAdjusted", "floor", self.floor, above=0, below=1)
        require_flag("LogitAdjusted", "personal", self.personal)
        require_number("LogitAdjusted", "temperature", self.temperature, above=0)
        require_inner("LogitAdjusted", self.inner)

    @property
    def needs_class_distribution(self) -> bool:
        """Always."""
        return True

    @property
    def space(self) -> Space:
        """That of the inner rule."""
        return Space(declared(self.inner, "space", Space.PROBABILITIES))

    def __call__(
        self, bank: KnowledgeBank, weights: Any, labels: Int[Tensor, " P"] | None = None
    ) -> Fused:
        """Return one target per receiver.

        Raises:
            KnowledgeError: If the clients did not send their label histograms.
        """
        if bank.class_distribution is None:
            raise KnowledgeError(
                "The rule LogitAdjusted needs the clients' label histograms, which were not sent",
                next_step="Set client.share_class_distribution=true to allow it.",
            )
        prior = self.tau * log_shares(bank.class_distribution, self.floor).to(bank.logits.dtype)
        free = replace(bank, logits=bank.logits - prior.unsqueeze(1))
        made = inner_fused(self.inner, self.temperature, free, weights, labels)
        if not self.personal:
            return made
        return made._replace(targets=self._with_prior(made.targets, prior))

    def _with_prior(
        self, targets: Float[Tensor, "K P C"], prior: Float[Tensor, "K C"]
    ) -> Float[Tensor, "K P C"]:
        if self.space is Space.LOGITS:
            return targets + prior.unsqueeze(1)
        tiny = 1e-38  # as good as 0, and it has a logarithm
        added = targets.clamp_min(tiny).log() + prior.unsqueeze(1) / self.temperature
        return added.softmax(dim=-1)
