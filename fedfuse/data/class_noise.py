"""Noise with classes as the public set: what of real public data is its classes' separation?

Noise May Contain Transferable Knowledge (arXiv 2502.13573) replaces a source domain by Gaussians,
one a class, and finds that it is how well they are told apart that transfers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fedfuse.data.public import NONE_TAKEN, as_raw, moments
from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError
from fedfuse.types import IntArray, PublicSet
from fedfuse.validation import require_count, require_number, require_one_of

LARGEST = 10_000
"""Features times classes for which whole covariances are drawn; they take seconds, and grow with
the cube of the features."""


def separability(inputs: npt.NDArray[Any], labels: IntArray) -> float:
    """Return how far apart classes are: trace of the scatter between them over that within.

    Args:
        inputs: Samples [P, ...].
        labels: Their classes [P].

    >>> separability(np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1]))
    25.0
    """
    rows = np.asarray(inputs, dtype=np.float64).reshape(len(inputs), -1)
    centred, centre, between = rows.copy(), rows.mean(axis=0), 0.0
    for label in np.unique(labels):
        members = labels == label
        own = rows[members].mean(axis=0)
        centred[members] -= own
        between += float(members.sum() * ((own - centre) ** 2).sum())
    within = float((centred**2).sum())
    if within == 0:
        return math.inf if between > 0 else 0.0
    return between / within


@dataclass(frozen=True, slots=True)
class ClassNoise:
    """Draw each class from a Gaussian of its own, scaled to the data's mean and deviation.

    Class c has the mean ``N(0, s^2 I)`` and the covariance ``(1 - t) I + t R_c`` with s the
    separation, t the smaller of s and 1, and R_c random: symmetric and Gaussian, its negative
    eigenvalues 0, scaled to an average variance of 1. So separation 0 is one Gaussian, that of
    ``Noise(kind="gaussian")`` to the bit. Mixing with I and scaling are ours.

    Args:
        size: P, the number of public samples; classes are equally frequent, and their labels known.
        separation: s; near s squared is what :func:`separability` measures, before images are
            rounded and clipped to the range of their values.
        covariance: ``diagonal`` draws the variances alone; ``full`` for few features and classes.
    """

    size: int = 500
    separation: float = 1.0
    covariance: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        require_count("ClassNoise", "size", self.size)
        require_number("ClassNoise", "separation", self.separation, at_least=0)
        require_one_of("ClassNoise", "covariance", self.covariance, ("diagonal", "full"))

    def __call__(
        self, raw: RawDataset, available: IntArray, rng: np.random.Generator
    ) -> tuple[PublicSet, IntArray]:
        """Draw the classes' Gaussians, and the samples, in the layout of the data."""
        shape = raw.train.inputs.shape[1:]
        width = math.prod(shape)
        if self.covariance == "full" and width * raw.num_classes > LARGEST:
            raise DataError(
                f"Whole covariances are too large for {raw.name}",
                got=f"{width} features of {raw.num_classes} classes",
                allowed=f"features times classes up to {LARGEST:,}",
                next_step="Set public.covariance=diagonal.",
            )
        values = rng.standard_normal((self.size, width))
        labels = rng.permutation(np.arange(self.size) % raw.num_classes).astype(np.int64)
        for label in range(raw.num_classes if self.separation else 0):
            members = labels == label
            centre = self.separation * rng.standard_normal(width)
            values[members] = centre + self._spread(values[members], rng)
        values = values.reshape(self.size, *shape) / math.sqrt(1 + self.separation**2)
        mean, deviation = moments(raw, available)
        inputs = as_raw(mean + deviation * values, raw)
        source = (
            f"{self.size} samples of class-wise noise, separation {self.separation:g}, "
            f"separability {separability(inputs, labels):.2f}"
        )
        return PublicSet(inputs, labels, source), NONE_TAKEN

    def _spread(
        self, values: npt.NDArray[np.float64], rng: np.random.Generator
    ) -> npt.NDArray[np.float64]:
        """Return independent standard normal rows [n, d] with a random class's covariance."""
        width, part = values.shape[1], min(self.separation, 1)
        if self.covariance == "diagonal":
            return values * np.sqrt(1 - part + part * _scaled(rng.standard_normal((width,))))
        drawn = rng.standard_normal((width, width))
        found, axes = np.linalg.eigh((drawn + drawn.T) / 2)
        rotated = (values @ axes) * np.sqrt(1 - part + part * _scaled(found))
        return np.asarray(rotated @ axes.T)


def _scaled(eigenvalues: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return eigenvalues [d] with the negative ones 0 and a mean of 1."""
    kept = eigenvalues.clip(min=0)
    return kept / kept.mean() if kept.any() else np.ones_like(kept)
