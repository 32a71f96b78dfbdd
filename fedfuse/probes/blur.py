"""Accuracy on blurred images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fedfuse.errors import require
from fedfuse.metrics import accuracy
from fedfuse.probes.protocol import Asked, require_name
from fedfuse.validation import require_count, require_number


def gaussian_kernel(sigma: float, size: int) -> Tensor:
    """Return a Gaussian at the whole numbers around 0, float32 [size], with sum 1.

    >>> [round(value, 6) for value in gaussian_kernel(1.0, 3).tolist()]
    [0.274069, 0.451863, 0.274069]
    >>> gaussian_kernel(0.0, 3).tolist()
    [0.0, 1.0, 0.0]
    """
    at = torch.arange(size, dtype=torch.float64) - size // 2
    if sigma == 0:
        return (at == 0).float()
    return torch.softmax(-(at**2) / (2 * sigma**2), dim=0).float()


def blurred(images: Tensor, sigma: float, size: int) -> Tensor:
    """Return images [n, channels, height, width] blurred, their borders continued outside.

    Args:
        images: The images.
        sigma: Standard deviation in pixels; 0 leaves them as they are.
        size: Pixels of the kernel, odd.
    """
    if sigma == 0:
        return images
    kernel, channels = gaussian_kernel(sigma, size).to(images.device), images.shape[1]
    reach = size // 2
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    for shape in ((1, 1, size, 1), (1, 1, 1, size)):
        weight = kernel.view(shape).expand(channels, -1, -1, -1)
        padded = functional.conv2d(padded, weight, groups=channels)
    return padded


@dataclass(frozen=True, slots=True)
class Blur:
    """Blur the images and see how many the model still gets right.

    After the perturbations of Contextual Fusion For Adversarial Robustness (Akumalla et al. 2020,
    https://arxiv.org/abs/2011.09526).

    Args:
        sigma: Standard deviation in pixels.
        size: Pixels of the kernel, odd.
        name: The metric is ``accuracy_`` and this.
    """

    needs_images: ClassVar[bool] = True

    sigma: float = 1.0
    size: int = 5
    name: str = "blur"

    def __post_init__(self) -> None:
        require_name("Blur", self.name)
        require_number("Blur", "sigma", self.sigma, at_least=0)
        require_count("Blur", "size", self.size)
        require(self.size % 2 == 1, "Blur", "size", self.size, "an odd number of pixels")

    def __call__(
        self,
        model: Asked,
        inputs: Tensor,
        labels: Tensor,
        generator: torch.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> dict[str, float]:
        """Return the accuracy on the blurred images."""
        found = model.predict(blurred(inputs, self.sigma, self.size))
        return {f"accuracy_{self.name}": accuracy(found, labels)}
