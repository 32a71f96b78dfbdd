"""A torch model as probes ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedfuse.probes.protocol import Bounds


def as_given(logits: Tensor) -> Tensor:
    """Return the logits as they are."""
    return logits


@dataclass(frozen=True, slots=True)
class AskedModel:
    """Ask a model in float32 and in eval mode, and leave it as it was.

    Args:
        model: The model, of normalised inputs.
        public_inputs: Returns all public inputs [P, ...], before normalising; few probes ask.
        mean: Per-channel mean on the scale 0 to 1; empty for features.
        std: Per-channel standard deviation likewise.
        read: Makes of the model's logits those that the balanced test reads.
        batch_size: Samples per pass.
    """

    model: nn.Module
    public_inputs: Callable[[], Tensor]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    read: Callable[[Tensor], Tensor] = as_given
    batch_size: int = 250

    @property
    def bounds(self) -> Bounds | None:
        """Return between which values inputs lie; None for features, which may be anything."""
        return (0.0, 1.0) if self.mean else None

    @property
    def public(self) -> Tensor:
        """Return all public inputs [P, ...], before normalising."""
        return self.public_inputs()

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the logits float32 [n, C] of inputs [n, ...]."""
        self.model.eval()
        with torch.no_grad():
            return torch.cat([self._logits(batch) for (batch,) in self._batches(inputs)])

    def gradient(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient [n, ...] of each sample's cross-entropy with respect to its input."""
        self.model.eval()
        parts: list[Tensor] = []
        for batch, their in self._batches(inputs, labels):
            leaf = batch.detach().clone().requires_grad_()
            with torch.enable_grad():
                # A sum: a mean over the batch would divide by how many happen to be asked at once.
                loss = functional.cross_entropy(self._logits(leaf), their, reduction="sum")
            parts += torch.autograd.grad(loss, leaf)
        return torch.cat(parts)

    def _logits(self, inputs: Tensor) -> Tensor:
        """Return what the test reads of the model's answers; normalises as the samples are."""
        if self.mean:
            centre, spread = (
                torch.tensor(values, dtype=torch.float32, device=inputs.device).view(1, -1, 1, 1)
                for values in (self.mean, self.std)
            )
            inputs = (inputs - centre) / spread
        return self.read(self.model(inputs).float())

    def _batches(self, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
        yield from zip(*(torch.split(one, self.batch_size) for one in tensors), strict=True)
