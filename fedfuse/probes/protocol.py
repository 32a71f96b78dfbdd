"""What a probe is, and what it may ask of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from fedfuse.errors import require

Bounds = tuple[float, float]
"""The lowest and the highest value of an input."""


class Asked(Protocol):
    """A client's model as a probe sees it: a function of inputs before they are normalised.

    Images have values from 0 to 1, features their own.
    """

    @property
    def bounds(self) -> Bounds | None:
        """Return between which values inputs lie: 0 and 1 for images, None for features."""
        ...

    @property
    def public(self) -> Tensor:
        """Return all public inputs [P, ...], in the same units."""
        ...

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the logits float32 [n, C] of inputs [n, ...], as the balanced test reads them."""
        ...

    def gradient(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """Return the gradient [n, ...] of each sample's cross-entropy with respect to its input."""
        ...


class Probe(Protocol):
    """Ask a model something.

    Called on the client, for each model that is tested at the end of a round, with the same
    samples and the same random numbers for all clients and arms: what differs is the models'.
    A probe that declares ``needs_images`` is refused where inputs are no images. Metrics that are
    shares of 0 to 1 are named so that :func:`is_share` knows them: tables tell them in percent.
    """

    def __call__(
        self, model: Asked, inputs: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Mapping[str, float]:
        """Return what was found by name; a value that is NaN says that there is nothing to say.

        Args:
            model: The model.
            inputs: Samples of the balanced test set, float32 [n, ...], before normalising.
            labels: Theirs, int64 [n].
            generator: The probe's random numbers, on the CPU.
        """
        ...


def is_share(metric: str) -> bool:
    """Tell whether a probe's metric is a share, by how its name begins.

    >>> is_share("accuracy_blur"), is_share("loss")
    (True, False)
    """
    return metric.startswith(("accuracy", "consistency", "confidence", "share"))


def require_name(owner: str, name: object) -> None:
    """Raise :class:`ParameterError` unless a metric's name may end so."""
    ok = isinstance(name, str) and f"accuracy_{name}".isidentifier()
    require(ok, owner, "name", name, "letters, digits and _")


def within(inputs: Tensor, bounds: Bounds | None) -> Tensor:
    """Return inputs no lower and no higher than inputs can be.

    >>> within(torch.tensor([-0.5, 0.5, 1.5]), (0.0, 1.0)).tolist()
    [0.0, 0.5, 1.0]
    """
    return inputs if bounds is None else inputs.clamp(*bounds)
