"""The scorer that remembers: KT-pFL's learned fusion weights, from round to round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedfuse.errors import KnowledgeError
from fedfuse.fusion.learned import faithful_step, published_step
from fedfuse.shapes import Float, Int
from fedfuse.types import KnowledgeBank
from fedfuse.validation import require_count, require_number, require_one_of


@dataclass(slots=True, eq=False)
class KTpFL:
    """Learn who teaches whom: each call takes a few steps and returns the logarithms of c.

    The weights start at ``1/K``. They are kept by client id, so clients may drop out and join: a
    row moves only among those who take part, keeping their joint weight, and a newcomer starts at
    the mean weight of every row. Two calls with one bank give two results; save and load the state
    with the run.

    Args:
        variant: ``faithful``: descend the objective (our reading of a third party's account of
            the paper, see :mod:`fedfuse.fusion.learned`). ``published``: the step of the
            authors' code, ``softmax(5 c)`` and all, which for six or more clients stays close to
            the plain mean.
        rho: Weight, beside a row's fit, of its squared distance to uniform; 0.7 was chosen on
            validation data (docs/methods.md) and happens to be the published code's default, where
            it weighs a mean of squares beside another.
        steps: Per call; the published code takes 1.
        learning_rate: Of the faithful variant; at most 1 never overshoots.
        temperature: Of the softmax; the published default is 10.
    """

    variant: Literal["faithful", "published"] = "faithful"
    rho: float = 0.7
    steps: int = 10
    learning_rate: float = 1.0
    temperature: float = 1.0
    learned: ClassVar[bool] = True  # the run logs how far the weights are from collapse
    _ids: Tensor = field(
        init=False, repr=False, default_factory=lambda: torch.zeros(0, dtype=torch.int64)
    )
    _logs: Tensor = field(init=False, repr=False, default_factory=lambda: torch.zeros(0, 0))

    def __post_init__(self) -> None:
        require_one_of("KTpFL", "variant", self.variant, ["faithful", "published"])
        require_number("KTpFL", "rho", self.rho, at_least=0)
        require_count("KTpFL", "steps", self.steps)
        require_number("KTpFL", "learning_rate", self.learning_rate, above=0)
        require_number("KTpFL", "temperature", self.temperature, above=0)

    @torch.no_grad()
    def __call__(
        self,
        bank: KnowledgeBank,
        labels: Int[Tensor, " P"] | None,  # noqa: ARG002
    ) -> Float[Tensor, "K K"]:
        """Return ``log c`` after this round's steps; its softmax over all sources is c."""
        ids, logs = _admit(self._ids, self._logs.to(bank.logits), bank.client_ids.cpu())
        at = torch.searchsorted(ids, bank.client_ids.cpu()).to(logs.device)
        block = logs[at][:, at]
        joint = block.logsumexp(dim=1, keepdim=True)
        learned = self._learn(bank, block - joint)
        logs[at.unsqueeze(1), at] = learned + joint
        self._ids, self._logs = ids, logs
        return learned

    def _learn(self, bank: KnowledgeBank, logs: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
        log_probs = (bank.logits / self.temperature).log_softmax(dim=-1)
        for _ in range(self.steps):
            if self.variant == "faithful":
                logs = faithful_step(log_probs, logs, self.rho, self.learning_rate, bank.mask)
            else:
                weights = published_step(log_probs.exp(), logs.exp(), self.rho, bank.mask)
                logs = weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
        return logs

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what was learned: ``client_ids`` [N] and ``log_weights`` [N, N]."""
        return {"client_ids": self._ids.clone(), "log_weights": self._logs.cpu().clone()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a saved state.

        Raises:
            KnowledgeError: If it does not hold ascending ids [N] and finite log-weights [N, N].
        """
        ids, logs = state.get("client_ids"), state.get("log_weights")
        ok = (
            ids is not None
            and logs is not None
            and ids.dim() == 1
            and logs.shape == (len(ids), len(ids))
            and bool(logs.isfinite().all())
            and bool((ids.diff() > 0).all())
        )
        if ids is None or logs is None or not ok:
            raise KnowledgeError(
                "The saved state of KTpFL does not fit",
                got={name: list(value.shape) for name, value in state.items()},
                allowed="client_ids [N] ascending and finite log_weights [N, N]",
            )
        self._ids, self._logs = ids.cpu().clone(), logs.clone()


def _admit(
    ids: Int[Tensor, " N"], logs: Float[Tensor, "N N"], arrived: Int[Tensor, " K"]
) -> tuple[Int[Tensor, " M"], Float[Tensor, "M M"]]:
    """Return a copy that also knows the clients that arrived.

    A newcomer's weight in an old row is that row's mean; its own row is uniform.
    """
    every = torch.unique(torch.cat([ids, arrived]))
    if len(ids) == 0:
        return every, logs.new_zeros(len(every), len(every))
    at = torch.searchsorted(every, ids)
    grown = logs.new_zeros(len(every), len(every))
    mean = logs.logsumexp(dim=1, keepdim=True) - torch.tensor(float(len(ids))).log().to(logs)
    grown[at.to(logs.device)] = mean.expand(-1, len(every))
    grown[at.unsqueeze(1).to(logs.device), at.to(logs.device)] = logs
    return every, grown
