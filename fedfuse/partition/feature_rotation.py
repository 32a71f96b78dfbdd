"""Feature shift by rotation: equal labels, and each client sees the world at its own angle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor, tensor

from fedfuse.partition.feature_noise import require_images
from fedfuse.partition.iid import deal_iid
from fedfuse.types import IntArray
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Rotation:
    """Turn images counter-clockwise around their centre; corners fill with 0.

    Args:
        degrees: The angle.
    """

    degrees: float

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the images [N, channels, H, W] turned, bilinear, in float32."""
        require_images("feature_rotation", inputs)
        n, channels, height, width = inputs.shape
        cos, sin = math.cos(math.radians(self.degrees)), math.sin(math.radians(self.degrees))
        # Where each output pixel comes from, in coordinates that run from -1 to 1 on both axes
        # whatever the aspect ratio.
        source = tensor([[[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]])
        grid = F.affine_grid(source, [1, 1, height, width], align_corners=False).to(inputs.device)
        # All images turn alike: as channels of one image they share one grid.
        stacked = inputs.float().reshape(1, n * channels, height, width)
        turned = F.grid_sample(stacked, grid, mode="bilinear", align_corners=False)
        return turned.reshape(inputs.shape).clamp(0.0, 255.0)


@dataclass(frozen=True, slots=True)
class FeatureRotation:
    """Deal the samples out iid and turn client k's images by ``max_degrees`` * (k + 1) / K.

    Args:
        max_degrees: The last client's angle, -360 to 360; positive is counter-clockwise.

    >>> FeatureRotation(max_degrees=90).transform(1, num_clients=3, seed=0)
    Rotation(degrees=60.0)
    """

    max_degrees: float = 90.0

    def __post_init__(self) -> None:
        require_number(
            "feature_rotation", "max_degrees", self.max_degrees, at_least=-360, at_most=360
        )

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        return deal_iid("feature_rotation", labels, num_clients, rng)

    def transform(
        self,
        client_id: int,
        num_clients: int,
        seed: int,  # noqa: ARG002 (an angle needs no chance)
    ) -> Rotation | None:
        """Return the client's rotation, picklable, or None if the angle is 0."""
        if self.max_degrees == 0:
            return None
        return Rotation(self.max_degrees * (client_id + 1) / num_clients)
