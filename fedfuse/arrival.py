"""What a stage of uptake may know beside the teacher that has arrived."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from fedfuse.sharing_context import SharingContext


@dataclass(frozen=True, slots=True)
class Arrival(SharingContext):
    """What is known on the clients' side when teachers arrive for a cohort of k clients.

    Everything of :class:`~fedfuse.sharing_context.SharingContext`, and what the clients' own
    models say.

    Args:
        labels: int64 [m], of the round's public samples; None for a stage that does not declare
            ``needs_labels``.
        inputs: float32 [m, ...], the round's public samples as models take them.
        ask: Inputs [m, ...] to the k clients' logits [k, m, C] on them, in the space of what
            clients share: after ``extract``, before attack, privacy and codec.
        report: Metrics that a stage leaves, name to [k]; they go into the clients' metrics.
    """

    labels: Tensor | None
    inputs: Tensor
    ask: Callable[[Tensor], Tensor]
    report: dict[str, Tensor] = field(default_factory=dict)
    _known: dict[str, Tensor] = field(default_factory=dict)

    def own(self) -> Tensor:
        """Return the clients' own logits float32 [k, m, C], predicted once, before the lesson."""
        if "own" not in self._known:
            self._known["own"] = self.ask(self.inputs)
        return self._known["own"]

    def took(self, share: Tensor) -> None:
        """Note how much of each target is the teacher's, [k, m] from 0 to 1, the rest being own.

        What several stages note is multiplied; the metric ``taught_share`` tells it.
        """
        before = self._known.get("taken")
        self._known["taken"] = share if before is None else before * share

    @property
    def taken(self) -> Tensor | None:
        """How much of each target is the teacher's, [k, m]; None where nobody noted it: all."""
        return self._known.get("taken")
