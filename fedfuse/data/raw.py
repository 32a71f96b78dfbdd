"""A data set before it is federated: two pools of samples and what is known about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fedfuse.errors import DataError
from fedfuse.types import IntArray, Samples, TellsInputs, is_text

CHUNK = 4096
"""Rows handled at a time, so that no pass over a mapped pool copies the whole of it."""


class Domain(NamedTuple):
    """One of the sources that a data set is put together from; its rows lie one after the other.

    Args:
        name: Its name.
        train: Rows that it has in the training pool.
        test: Rows that it has in the test pool; 0 where it came without a test split.
    """

    name: str
    train: int
    test: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a source read from its files.

    Args:
        train: The training pool.
        test: The test pool, or None where the source has no test split.
        class_names: One name per class; their number is C.
        columns: Names of a table's features, which are then standardised; else empty.
        domains: The sources it is put together from, in the order of their rows; else empty.
    """

    train: Samples
    test: Samples | None
    class_names: tuple[str, ...]
    columns: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()


@dataclass(frozen=True, slots=True)
class RawDataset(TellsInputs):
    """A decoded data set with its statistics.

    Args:
        name: The data set's name.
        train: The training pool: uint8 [N, channels, height, width], float32 [N, ...] or, of texts,
            the numbers of their words, int32 [N, words].
        test: The test pool in the same layout, or None: the split then draws one from ``train``.
        num_classes: C.
        class_names: C names.
        mean: Per-channel mean of the training pool on the scale 0 to 1; of a table that of each
            feature (other features, which are used as they are: empty).
        std: The standard deviation likewise.
        fingerprint: Hash of the decoded content, whatever file or machine it came from.
        columns: Names of a table's features, [F]; else empty.
        domains: The sources it is put together from, in the order of their rows; else empty.

    Raises:
        DataError: If layouts, labels or statistics do not fit together.
    """

    name: str
    train: Samples
    test: Samples | None
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    columns: tuple[str, ...] = ()
    domains: tuple[Domain, ...] = ()

    def __post_init__(self) -> None:
        for pool, samples in (("training", self.train), ("test", self.test)):
            if samples is not None:
                _check_pool(f"The {pool} pool of {self.name}", samples, self.num_classes)
        if self.test is not None and _layout(self.test) != _layout(self.train):
            raise DataError(
                f"The training and test pools of {self.name} have different layouts",
                got=f"{_layout(self.train)} and {_layout(self.test)}",
            )
        channels = self.train.inputs.shape[1] if self.is_image or self.mean else 0
        if not len(self.mean) == len(self.std) == channels or not all(s > 0 for s in self.std):
            raise DataError(
                f"The statistics of {self.name} do not fit its {channels} channels",
                got=f"mean {self.mean}, std {self.std}",
            )


def describe(name: str, decoded: Decoded) -> RawDataset:
    """Return the data set with its statistics and fingerprint computed.

    Args:
        name: The data set's name.
        decoded: What its source read.

    Raises:
        DataError: If layouts or labels do not fit together.
    """
    inputs = decoded.train.inputs
    images = inputs.dtype == np.uint8 and inputs.ndim == 4
    mean, std = statistics(inputs) if images or decoded.columns else ((), ())
    return RawDataset(
        name=name,
        train=decoded.train,
        test=decoded.test,
        num_classes=len(decoded.class_names),
        class_names=decoded.class_names,
        mean=mean,
        std=std,
        fingerprint=content_hash(decoded),
        columns=decoded.columns,
        domains=decoded.domains,
    )


def statistics(
    inputs: npt.NDArray[Any], index: IntArray | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of some rows: per channel of images, else per feature.

    Args:
        inputs: uint8 [N, channels, height, width] or float32 [N, F].
        index: The rows to use; None for all.
    """
    measure = channel_statistics if inputs.dtype == np.uint8 else feature_statistics
    return measure(inputs, index)


def feature_statistics(
    features: npt.NDArray[np.float32], index: IntArray | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each feature of a table.

    One that is 0 or 1 everywhere stays as it is (mean 0, deviation 1). One that is constant in
    these rows gets an infinite deviation: nothing is learned of it from them, so it is 0 in all
    others as well, as is a category that only they have.

    Args:
        features: float32 [N, F].
        index: The rows to use; None for all.

    >>> feature_statistics(np.array([[0, 2, 5], [1, 4, 5]], dtype=np.float32))
    ((0.0, 3.0, 5.0), (1.0, 1.0, inf))
    """
    rows = np.asarray(features if index is None else features[index], dtype=np.float64)
    mean, std = rows.mean(axis=0), rows.std(axis=0)
    binary = ((rows == 0) | (rows == 1)).all(axis=0)
    constant = (rows == rows[0]).all(axis=0)
    mean = np.where(constant, rows[0], np.where(binary, 0.0, mean))
    std = np.where(constant, np.inf, np.where(binary, 1.0, std))
    return tuple(mean.tolist()), tuple(std.tolist())


def channel_statistics(
    images: npt.NDArray[np.uint8], index: IntArray | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel on the scale 0 to 1.

    Both come from integer histograms, so they are exact and do not depend on the order of the
    rows. A constant channel gets the deviation 1, which leaves it constant when normalised.

    Args:
        images: uint8 [N, channels, height, width].
        index: The rows to use; None for all.

    >>> channel_statistics(np.array([[[[0, 255]]]], dtype=np.uint8))
    ((0.5,), (0.5,))
    """
    rows = np.arange(len(images)) if index is None else index
    histogram = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(rows), CHUNK):
        chunk = images[rows[start : start + CHUNK]]
        for channel, counts in enumerate(histogram):
            counts += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    weights = histogram / histogram.sum(axis=1, keepdims=True)
    mean = weights @ values
    variance = (weights * (values - mean[:, None]) ** 2).sum(axis=1)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return tuple(mean.tolist()), tuple(std.tolist())


def content_hash(decoded: Decoded) -> str:
    """Return a hash of every value and label; equal content gives equal hashes anywhere."""
    digest = hashlib.blake2b(repr(len(decoded.class_names)).encode(), digest_size=16)
    for samples in (decoded.train, decoded.test):
        for array in () if samples is None else (samples.inputs, samples.labels):
            digest.update(repr((array.dtype.str, array.shape)).encode())
            for start in range(0, len(array), CHUNK):
                digest.update(array[start : start + CHUNK].tobytes())
    return digest.hexdigest()


def _layout(samples: Samples) -> tuple[str, tuple[int, ...]]:
    return samples.inputs.dtype.name, tuple(samples.inputs.shape[1:])


def _check_pool(what: str, samples: Samples, num_classes: int) -> None:
    inputs: npt.NDArray[Any] = samples.inputs
    labels = samples.labels
    if not len(labels):
        raise DataError(f"{what} is empty")
    image = inputs.dtype == np.uint8 and inputs.ndim == 4
    features = inputs.dtype == np.float32 and inputs.ndim >= 2
    if not (image or features or is_text(inputs)):
        raise DataError(
            f"{what} has inputs that fedfuse does not know",
            got=f"{inputs.dtype.name} {list(inputs.shape)}",
            allowed="uint8 images [N, channels, height, width], float32 features [N, ...] or word "
            "numbers int32 [N, words]",
        )
    if not all(inputs.shape[1:]):
        raise DataError(
            f"{what} has inputs without a number in them",
            got=f"{inputs.dtype.name} {list(inputs.shape)}",
            allowed="at least one feature, or pixel, a sample",
        )
    if labels.dtype != np.int64 or labels.shape != (len(inputs),):
        raise DataError(
            f"{what} does not have one integer label per input",
            got=f"{labels.dtype.name} {list(labels.shape)} for {len(inputs)} inputs",
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"{what} has labels outside its {num_classes} classes",
            got=f"labels from {labels.min()} to {labels.max()}",
            allowed=f"0 to {num_classes - 1}",
            next_step="Remove unlabelled samples (often marked -1), or number the classes from 0.",
        )
