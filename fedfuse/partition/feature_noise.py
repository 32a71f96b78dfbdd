"""Feature shift by noise: equal labels, and pixels the noisier the higher the client's id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedfuse.errors import DataError
from fedfuse.partition.iid import deal_iid
from fedfuse.rng import Streams
from fedfuse.types import IntArray
from fedfuse.validation import require_number


@dataclass(frozen=True, slots=True)
class Noise:
    """Add Gaussian noise to images; the same image always gets the same noise.

    The noise of an image is drawn from a stream that its own pixels and ``salt`` name, so it does
    not depend on the image's place in a batch, and a client's training and test images agree.

    Args:
        sigma: Standard deviation, as a share of the pixel range (1.0 = 255).
        salt: What tells one client's noise from another's.
    """

    sigma: float
    salt: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return float images [N, channels, H, W] with noise, clipped to 0 to 255."""
        require_images("feature_noise", inputs)
        rows = np.ascontiguousarray(inputs.detach().cpu().float().numpy())
        noise = np.empty_like(rows)
        key = self.salt.to_bytes(8, "little")
        for i, row in enumerate(rows):
            digest = hashlib.blake2b(row.tobytes(), digest_size=16, key=key).digest()
            stream = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
            noise[i] = stream.standard_normal(row.shape, dtype=np.float32)
        noisy = rows + np.float32(255.0 * self.sigma) * noise
        return torch.from_numpy(noisy.clip(0.0, 255.0)).to(inputs.device)


def require_images(owner: str, inputs: Tensor) -> None:
    """Raise DataError unless ``inputs`` are images [N, channels, H, W]."""
    if inputs.ndim != 4:
        raise DataError(
            f"{owner} changes images and needs [samples, channels, height, width]",
            got=f"inputs of shape {list(inputs.shape)}",
            next_step="Choose another partitioner for data that are not images.",
        )


@dataclass(frozen=True, slots=True)
class FeatureNoise:
    """Deal the samples out iid and give client k Gaussian noise of ``sigma`` * (k + 1) / K.

    The noise-based feature skew of Li et al. 2021 (https://arxiv.org/abs/2102.02079); our reading
    takes ``sigma`` as a standard deviation on the pixel scale 0 to 1.

    Args:
        sigma: Standard deviation of the last client's noise, 0 or more.

    >>> noise = FeatureNoise(sigma=0.2).transform(0, num_clients=4, seed=0)
    >>> noise.sigma
    0.05
    """

    sigma: float = 0.3

    def __post_init__(self) -> None:
        require_number("feature_noise", "sigma", self.sigma, at_least=0)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        return deal_iid("feature_noise", labels, num_clients, rng)

    def transform(self, client_id: int, num_clients: int, seed: int) -> Noise | None:
        """Return the client's noise, picklable, or None if ``sigma`` is 0."""
        if self.sigma == 0:
            return None
        salt = Streams(seed).entropy("feature_noise", client_id)
        return Noise(self.sigma * (client_id + 1) / num_clients, salt)
