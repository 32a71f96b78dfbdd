"""FedDF: models go up; the server averages them and distils the ensemble into each average."""

from __future__ import annotations

from dataclasses import dataclass

from clients.exchange.averaged import Averaged
from fedfuse.data.tensors import to_inputs
from fedfuse.exchange.feddf import DistilledAverage
from fedfuse.exchange.kind import Combine
from fedfuse.hyperparameters import require_count, require_number
from fedfuse.models.plan import one_of_each
from fedfuse.protocols import ModelPlan
from fedfuse.rng import Streams
from fedfuse.types import FederatedData


@dataclass(frozen=True, slots=True)
class DistilledOnServer(Averaged):
    """Exchange models as :class:`Averaged` does, distil on the server (FedDF, Lin et al. 2020).

    The server's steps come on top of the clients', which are as many as those of other methods.
    Several architectures (``mixed=group``) teach each other through the common ensemble.

    Args:
        distill_epochs: Passes over the whole public set in each round.
        distill_batch_size: Public samples per step.
        learning_rate: Of the server's Adam.
        temperature: Of teacher and student.
        seed: Of the server's shuffles.
    """

    distill_epochs: int = 1
    distill_batch_size: int = 128
    learning_rate: float = 1e-3
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        Averaged.__post_init__(self)
        require_count("DistilledOnServer", "distill_epochs", self.distill_epochs)
        require_count("DistilledOnServer", "distill_batch_size", self.distill_batch_size)
        require_number("DistilledOnServer", "learning_rate", self.learning_rate, above=0)
        require_number("DistilledOnServer", "temperature", self.temperature, above=0)

    def combine(self, models: ModelPlan, data: FederatedData) -> Combine:
        """Return the average and what is distilled into it."""
        return DistilledAverage(
            average=self.average(models, data),
            models=one_of_each(models, data),
            inputs=to_inputs(data.public.inputs, data.mean, data.std),
            streams=Streams(self.seed),
            epochs=self.distill_epochs,
            batch_size=self.distill_batch_size,
            learning_rate=self.learning_rate,
            temperature=self.temperature,
        )
