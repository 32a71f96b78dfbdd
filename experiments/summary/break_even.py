"""When exchanging predictions stops being cheaper than exchanging weights."""

from __future__ import annotations

from dataclasses import dataclass

from fedfuse.models.plan import build_checked
from fedfuse.protocols import ModelPlan
from fedfuse.types import FederatedData


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Predictions against weights, one client, one round, one way.

    Args:
        parameters: Numbers in a client's model, on average.
        samples: P = parameters / C: with more public samples a round than that, weights are
            cheaper, at four bytes a number on both sides.
        measured: The same for what a public sample really cost on its way up; None if nothing
            went up.
    """

    parameters: float
    samples: float
    measured: float | None

    def line(self) -> str:
        """Return it in words."""
        told = f"cheaper than weights below {self.samples:,.0f} public samples (parameters / C)"
        if self.measured is not None and abs(self.measured / self.samples - 1) > ROUNDING:
            told += f",\n  below {self.measured:,.0f} as they were really encoded"
        return told


VALUE_BYTES = 4
"""Of a parameter or a logit that is sent as it is."""

ROUNDING = 0.05
"""The number of examples and the mask are not worth a second figure."""


def break_even(
    data: FederatedData, models: ModelPlan, sent: float, num_predictions: int
) -> BreakEven:
    """Return the break-even of a run.

    Args:
        data: The federation's data.
        models: Which client runs which architecture.
        sent: Bytes that went up in the whole run.
        num_predictions: Public samples that all clients were asked for in the whole run.
    """
    sizes: dict[str, int] = {}
    for client in data.clients:
        name = models.name(client.client_id)
        if name not in sizes:
            model = build_checked(models, client.client_id, data.input_shape, data.num_classes, 0)
            sizes[name] = sum(p.numel() for p in model.parameters())
    owned = [sizes[models.name(client.client_id)] for client in data.clients]
    parameters = sum(owned) / len(owned)
    measured = None
    if sent > 0 and num_predictions > 0:
        measured = VALUE_BYTES * round(parameters) / (sent / num_predictions)
    return BreakEven(parameters, round(parameters) / data.num_classes, measured)
