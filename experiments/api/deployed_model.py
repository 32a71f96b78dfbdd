"""What a client deploys for a question, as a run left it: one model, or two whose answers mix."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from clients.training.arm import TestPrior
from experiments.api.client_model import OnRawInputs, load_client_model
from experiments.config.damaged import RESTORE
from experiments.results import Run
from fedfuse.errors import ConfigError, did_you_mean
from fedfuse.guard import mixed
from fedfuse.prior import log_prior

if TYPE_CHECKING:
    from collections.abc import Mapping

QUESTIONS = {"own": "own", "balanced": "global"}
"""What a client is asked, and how the metrics call it."""


class DeployedModel(nn.Module):
    """The answers that a client deploys for one question.

    Args:
        fused: The model that fusion made, behind its preprocessing.
        local: The client's local twin; None where the fused model answers alone.
        share: Of the fused model in the mixture.
        question: ``own`` or ``balanced``.
        prior: What of the label prior the fused model's logits are read with.
        log_prior: The logarithm of the client's class shares [C].
    """

    log_prior: Tensor

    def __init__(
        self,
        fused: OnRawInputs,
        local: OnRawInputs | None,
        share: float,
        question: str,
        prior: TestPrior,
        log_prior: Tensor,
    ) -> None:
        super().__init__()
        self.fused, self.local, self.share = fused, local, share
        self.question, self.prior = question, prior
        self.register_buffer("log_prior", log_prior)

    def forward(self, inputs: Any) -> Tensor:
        """Return logits [B, C] for inputs as the data set holds them."""
        ours = self._read(self.fused(inputs), self.prior)
        if self.local is None:
            return ours
        return mixed(self._read(self.local(inputs), self.prior.of_local_twins()), ours, self.share)

    def _read(self, logits: Tensor, prior: TestPrior) -> Tensor:
        read = prior.own if self.question == "own" else prior.balanced
        return read(logits, self.log_prior)


def load_deployed(
    run: Run, client_id: int, question: str, *, model: object, trust: Iterable[str]
) -> DeployedModel:
    """Return what a client deploys for a question, in eval mode, on the CPU.

    Args: as of :meth:`experiments.api.run.Run.deployed`.

    Raises:
        ConfigError: If there is no such question, or of what :func:`load_client_model` refuses.
    """
    if question not in QUESTIONS:
        near = did_you_mean(str(question), QUESTIONS)
        raise ConfigError(
            "a client is asked no such question",
            got=repr(question),
            allowed=" or ".join(QUESTIONS),
            next_step=f"Did you mean '{near}'?" if near else None,
        )

    def load(*, twin: bool) -> OnRawInputs:
        return load_client_model(run.path, client_id, model=model, trust=trust, twin=twin)

    fused = load(twin=False)
    told = run.arm.last(f"deployed_{QUESTIONS[question]}")
    share = 1.0 if told is None else float(told[client_id])
    prior = _prior(run.path, run.config)
    counts = torch.from_numpy(run.counts[client_id].astype("int64"))
    local = None if share == 1 else load(twin=True)
    built = DeployedModel(fused, local, share, question, prior, log_prior(counts, prior.floor))
    return built.eval()


def _prior(folder: Path, config: Mapping[str, Any]) -> TestPrior:
    try:
        own = config["prior"]
        return TestPrior(config["evaluation"]["prior"], own["tau"], own["floor"])
    except (KeyError, TypeError) as error:
        what = f"'{folder}' says nothing of its clients' label priors"
        raise ConfigError(what, next_step=RESTORE) from error
