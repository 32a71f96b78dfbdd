"""Rows of a mapped pool to normalised tensors; only the rows asked for are ever float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fedfuse.types import IntArray, Samples, Transform


def to_raw(rows: npt.NDArray[Any]) -> Tensor:
    """Return the rows as a float32 tensor of the same values (images: 0 to 255), a copy.

    Args:
        rows: uint8 images [B, channels, height, width], float32 features [B, ...] or word
            numbers int32 [B, words], which are exact in float32.
    """
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def normalise(raw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return ``(raw / 255 - mean) / std`` of images, ``(raw - mean) / std`` of features.

    Args:
        raw: float32 images [B, channels, height, width] with values 0 to 255, or features [B, F];
            features of any shape with an empty ``mean``, which leaves them as they are.
        mean: Per-channel mean on the scale 0 to 1, or that of each feature, or empty.
        std: The standard deviation likewise.

    >>> normalise(torch.tensor([[[[255.0]]]]), mean=[0.5], std=[0.25])
    tensor([[[[2.]]]])
    """
    return normalise_(raw.clone(), mean, std) if mean else raw


def normalise_(raw: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return what :func:`normalise` does, in the memory of ``raw``: a new page costs, too."""
    if not mean:
        return raw
    image = raw.ndim == 4
    shape = (1, -1, 1, 1) if image else (1, -1)
    centre = torch.tensor(mean, dtype=torch.float32, device=raw.device).view(shape)
    spread = torch.tensor(std, dtype=torch.float32, device=raw.device).view(shape)
    return (raw.div_(255) if image else raw).sub_(centre).div_(spread)


def to_inputs(rows: npt.NDArray[Any], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return model inputs for raw rows, float32 [B, ...].

    Args:
        rows: uint8 images [B, channels, height, width] or float32 features [B, ...].
        mean: As in :func:`normalise`.
        std: As in :func:`normalise`.
    """
    return normalise(to_raw(rows), mean, std)


def gather(
    samples: Samples,
    index: IntArray,
    mean: Sequence[float],
    std: Sequence[float],
    transform: Transform | None = None,
) -> tuple[Tensor, Tensor]:
    """Return model inputs float32 [B, ...] and labels int64 [B] of some samples.

    Args:
        samples: The pool, usually mapped; its rows are read once.
        index: Rows of the pool [B].
        mean: As in :func:`normalise`.
        std: As in :func:`normalise`.
        transform: The client's feature shift, applied to the raw values before normalisation.
    """
    # Into memory of torch's own: kernels round otherwise where it is not aligned.
    raw = torch.from_numpy(samples.inputs[index]).to(torch.float32, copy=True)
    labels = torch.from_numpy(np.array(samples.labels[index]))
    if transform is not None:  # a user's own function may keep what it returns
        return normalise(transform(raw), mean, std), labels
    return normalise_(raw, mean, std), labels
