"""Features as float32, refused where that is not a number."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.data.raw import CHUNK, RawDataset
from fedfuse.errors import DataError, DataWarning

LARGE = 1e4
"""A feature above it makes a model's first steps as large as itself."""


def finite_float32(array: npt.NDArray[Any], where: str) -> npt.NDArray[np.float32]:
    """Return the values as float32 [N, ...].

    Args:
        array: Floats of any width [N, ...].
        where: The array in words, for messages.

    Raises:
        DataError: Naming the first row and column whose value is not finite, or too large.
    """
    with np.errstate(over="ignore"):
        values = np.asarray(array, dtype=np.float32)
    for start in range(0, len(values), CHUNK):
        wrong = ~np.isfinite(values[start : start + CHUNK])
        if wrong.any():
            row, *column = (int(i) for i in np.argwhere(wrong)[0])
            row += start
            place = f"row {row}" + (f", column {', '.join(map(str, column))}" if column else "")
            value = array[(row, *column)]
            raise DataError(
                f"{where} holds values that are not finite numbers in float32",
                got=f"{value} in {place}, counted from 0",
                allowed=f"finite numbers up to {np.finfo(np.float32).max:.3g}",
                next_step="Replace or remove them, or scale the column down.",
            )
    return values


def warn_of_scale(raw: RawDataset) -> None:
    """Warn of features so large that training diverges whatever the learning rate.

    Args:
        raw: The data set; images and tables are always scaled, and words are no quantities.
    """
    if raw.mean or raw.is_text:
        return
    largest = np.zeros(raw.train.inputs.shape[1:], dtype=np.float32)
    for start in range(0, len(raw.train), CHUNK):
        rows = raw.train.inputs[start : start + CHUNK]
        largest = np.maximum(largest, np.abs(rows).max(axis=0))
    if largest.max() > LARGE:
        column = ", ".join(str(int(i)) for i in np.unravel_index(largest.argmax(), largest.shape))
        warnings.warn(
            f"The features of '{raw.name}' reach {largest.max():.3g} (column {column}, counted "
            "from 0) and are used as they are: training may diverge at any learning rate. Scale "
            "every column, for example to mean 0 and deviation 1.",
            DataWarning,
            stacklevel=3,
        )
