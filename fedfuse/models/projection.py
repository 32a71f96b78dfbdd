"""Features of one size for models of several: a projection that is drawn and never learned."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from fedfuse.shapes import Float


@lru_cache(maxsize=512)
def projection(
    size: int, width: int, entropy: int, device: torch.device
) -> Float[Tensor, "size width"]:
    """Return a random orthogonal map from ``size`` features to ``width``, f to f R.

    To more features it keeps all lengths and angles; to fewer it is the orthogonal projection on
    a random subspace. The same arguments give the same tensor, which must not be changed.

    Args:
        size: Features of the model.
        width: Features that travel.
        entropy: Seed of the draw.
        device: Where the features are.

    >>> wide = projection(2, 3, 0, torch.device("cpu"))
    >>> torch.allclose(wide @ wide.T, torch.eye(2), atol=1e-6)
    True
    """
    shape = max(size, width), min(size, width)
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(entropy)).double()
    orthogonal, triangle = torch.linalg.qr(drawn)
    basis: Tensor = (orthogonal * triangle.diagonal().sign()).float()  # each as likely
    with torch.inference_mode(mode=False):  # kept, and used where gradients flow, whoever asks
        return (basis if size >= width else basis.T).clone().contiguous().to(device)
