"""FedDF: models go up; the server averages them and distils the ensemble into each average."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from clients.exchange.averaged import Averaged
from fedfuse.data.tensors import to_inputs
from fedfuse.exchange.distilled import DistilledAverage
from fedfuse.exchange.kind import Combine
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.types import FederatedData
from fedfuse.validation import require_count, require_number, require_one_of

VALIDATIONS = ("labels", "ensemble")


@dataclass(frozen=True, slots=True)
class DistilledOnServer(Averaged):
    """Exchange models as :class:`Averaged` does, distil on the server (FedDF, Lin et al. 2020).

    The server's steps come on top of the clients', which are as many as those of other methods;
    they are counted as ``server_steps``. Several architectures (``mixed=group``) teach each other
    through the common ensemble.

    Args:
        server_steps: Steps of the server in each round and for each architecture, at most.
        patience: Steps without a better validation after which it stops.
        validate_every: Steps between two validations.
        val_fraction: Share of the public set that validates and is not distilled on; 0 takes all
            steps.
        validate_by: ``labels`` of these samples, where they are known, or how near the student is
            to the ``ensemble`` on them.
        distill_epochs: Passes over the whole public set in the place of the five above.
        distill_batch_size: Public samples per step.
        learning_rate: Of the server's Adam.
        temperature: Of teacher and student.
        seed: Of the server's shuffles.
    """

    server_steps: int = 10_000
    patience: int = 1_000
    validate_every: int = 100
    val_fraction: float = 0.1
    validate_by: str = "labels"
    distill_epochs: int | None = None
    distill_batch_size: int = 128
    learning_rate: float = 1e-3
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        Averaged.__post_init__(self)
        for name in ("server_steps", "patience", "validate_every", "distill_batch_size"):
            require_count("DistilledOnServer", name, getattr(self, name))
        if self.distill_epochs is not None:
            require_count("DistilledOnServer", "distill_epochs", self.distill_epochs)
        require_number("DistilledOnServer", "val_fraction", self.val_fraction, at_least=0)
        require_number("DistilledOnServer", "val_fraction", self.val_fraction, at_most=0.9)
        require_one_of("DistilledOnServer", "validate_by", self.validate_by, VALIDATIONS)
        require_number("DistilledOnServer", "learning_rate", self.learning_rate, above=0)
        require_number("DistilledOnServer", "temperature", self.temperature, above=0)

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the average and what is distilled into it."""
        return DistilledAverage(
            average=self.average(models, data),
            models=one_of_each(models, data),
            inputs=to_inputs(data.public.inputs, data.mean, data.std),
            streams=Streams(self.seed),
            labels=self._labels(data),
            steps=self.server_steps,
            patience=self.patience,
            validate_every=self.validate_every,
            val_fraction=self.val_fraction,
            epochs=self.distill_epochs,
            batch_size=self.distill_batch_size,
            learning_rate=self.learning_rate,
            temperature=self.temperature,
        )

    def _labels(self, data: FederatedData) -> torch.Tensor | None:
        """Return what validates, as labels of the public set; None for the ensemble."""
        known = data.public.labels
        if self.validate_by == "ensemble" or known is None:
            return None
        return torch.tensor(known)
