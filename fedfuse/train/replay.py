"""Steps of equal shape, recorded once as a CUDA graph and replayed in every round after.

A step of many small models is a hundred kernels of microseconds each, and launching them one by one
takes about as long as running them. A CUDA graph launches them as one. It works on fixed addresses:
the batch is copied into buffers of its own before each replay, and parameters and moments stay
where they are between rounds.

What records is given, so that all but the recording itself is tested without a GPU: there, what is
"recorded" is the step, called on the same buffers.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

Batch = tuple[Tensor | None, ...]
Shape = tuple[torch.Size | None, ...]

Step = Callable[[Batch], Tensor]
"""Take one step with a batch and return the clients' losses; all else has a fixed address."""

Record = Callable[[Callable[[], None]], Callable[[], None]]
"""Record what a function does on the device, without doing it; return what does it."""

WARM = 3
"""Steps of a shape in one phase before the next is recorded: libraries choose kernels in them."""


class GraphWarning(UserWarning):
    """Steps could not be recorded; their kernels are launched one by one."""


@cache
def record_on(device: torch.device) -> Record | None:
    """Return what records steps on a device; None where nothing can."""
    if device.type != "cuda":
        return None
    # One pool for all of a device: no two recorded steps run at once, and what one returns is
    # copied out of it. A pool without a graph is taken down, so one that does nothing stays.
    kept = torch.cuda.CUDAGraph()
    with torch.cuda.device(device), torch.cuda.graph(kept):
        torch.zeros(1, device=device)

    def record(function: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()
        # Other threads (packed runs, pinned copies) may allocate meanwhile.
        mode = "thread_local"
        with (
            torch.cuda.device(device),
            torch.cuda.graph(graph, kept.pool(), capture_error_mode=mode),
        ):
            function()
        return graph.replay

    return record


@dataclass(slots=True)
class Replay:
    """Take steps; replay those whose shape comes often.

    Args:
        step: Takes one step.
        record: Records it.
    """

    step: Step
    record: Record
    _seen: Counter[Shape] = field(default_factory=Counter, init=False, repr=False)
    _recorded: dict[Shape, _Recorded] = field(default_factory=dict, init=False, repr=False)
    _gave_up: bool = field(default=False, init=False, repr=False)

    def begin(self) -> None:
        """Begin a phase: only what comes often within one is worth recording."""
        self._seen.clear()

    def __call__(self, batch: Batch) -> Tensor:
        """Take the step with this batch and return the clients' losses.

        They are overwritten by the next step of the same shape.
        """
        shape = tuple(None if part is None else part.shape for part in batch)
        self._seen[shape] += 1
        if shape not in self._recorded and self._seen[shape] > WARM and not self._gave_up:
            self._record(shape, batch)
        if shape not in self._recorded:
            return self.step(batch)
        return self._recorded[shape](batch)

    def _record(self, shape: Shape, batch: Batch) -> None:
        held = tuple(None if part is None else part.clone() for part in batch)
        size, like = next((len(part), part) for part in batch if part is not None)
        losses = torch.empty(size, device=like.device)

        def take() -> None:
            losses.copy_(self.step(held))

        try:
            replay = self.record(take)
        except RuntimeError as error:
            self._gave_up = True
            reason = str(error).strip().partition("\n")[0]
            words = f"Training steps could not be recorded as CUDA graphs ({reason})."
            warnings.warn(words, GraphWarning, stacklevel=2)
            return
        self._recorded[shape] = _Recorded(held, losses, replay)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A step that is done by doing again what was recorded on these buffers."""

    held: Batch
    losses: Tensor
    replay: Callable[[], None]

    def __call__(self, batch: Batch) -> Tensor:
        for ours, theirs in zip(self.held, batch, strict=True):
            if ours is not None and theirs is not None:
                ours.copy_(theirs)
        self.replay()
        return self.losses
