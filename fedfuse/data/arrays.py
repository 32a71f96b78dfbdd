"""Arrays of the user's own as a data set: pixels and labels from anywhere in a program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.data.classes import CONVERT, numbered, tidy
from fedfuse.data.raw import Decoded, RawDataset, describe
from fedfuse.data.values import finite_float32
from fedfuse.data.words import WORDS, number_words
from fedfuse.errors import DataError
from fedfuse.types import IntArray, Samples

CHANNELS = (1, 3)


def from_arrays(
    x: Any,
    y: Any,
    x_test: Any = None,
    y_test: Any = None,
    *,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
) -> RawDataset:
    """Return arrays, tensors or nested lists as a data set.

    Args:
        x: Inputs, as :func:`as_inputs` takes them.
        y: Their labels, integers from 0, [N] or [N, 1].
        x_test: Inputs of the test pool; None where a test pool is to be drawn from ``x``.
        y_test: Their labels.
        name: The data set's name.
        class_names: A name for each class; None numbers them.

    Raises:
        DataError: If the arrays are no data set: empty, of unequal lengths, with labels that are
            no class ids, or with values that are no finite numbers.

    >>> from_arrays(np.zeros((4, 2)), [0, 1, 0, 1]).num_classes
    2
    """
    if (x_test is None) != (y_test is None):
        raise DataError(
            "A test pool has inputs and labels",
            got=f"{'y_test' if x_test is None else 'x_test'} alone",
            next_step="Give both, or neither: then a share of the samples is held back.",
        )
    train = _samples(x, y, "x", "y")
    test = None if x_test is None else _samples(x_test, y_test, "x_test", "y_test")
    pools = [part.labels for part in (train, test) if part is not None]
    names = numbered(pools, "y") if class_names is None else tidy(class_names, "class_names")
    return describe(name, Decoded(train, test, names))


def _samples(x: Any, y: Any, x_name: str, y_name: str) -> Samples:
    inputs, labels = _array(x, x_name), _array(y, y_name)
    if len(inputs) != len(labels):
        raise DataError(
            f"{x_name} and {y_name} have different lengths",
            got=f"{len(inputs)} inputs and {len(labels)} labels",
            allowed="one label per input",
        )
    if not len(inputs):
        raise DataError(f"{x_name} is empty", allowed="at least one sample of each class")
    return Samples(
        np.ascontiguousarray(as_inputs(inputs, f"Array '{x_name}'")),
        as_labels(labels, f"Array '{y_name}'"),
    )


def _array(values: Any, name: str) -> npt.NDArray[Any]:
    """Return an array, a tensor on any device, or a nested list as an array of its own."""
    try:
        if hasattr(values, "detach"):
            values = values.detach().cpu()
            values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
        array = np.array(values)
    except (ValueError, TypeError, RuntimeError) as error:  # a ragged list, a sparse tensor
        raise DataError(f"{name} is no array", got=str(error).split(".")[0]) from error
    if np.ma.is_masked(values):
        raise DataError(
            f"{name} has masked values, which would count as they are",
            next_step=f"Fill them, or leave their rows out: {name}.filled(0).",
        )
    if array.ndim == 0:
        raise DataError(f"{name} is no array", got=repr(values)[:100], allowed="one row a sample")
    return array


def as_inputs(array: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """Return inputs as a data set holds them.

    Args:
        array: uint8 images [N, height, width], [N, height, width, channels] or [N, channels,
            height, width] with 1 or 3 channels (channels last if both could be meant), or features
            of any float type [N, ...], or texts [N].
        where: The array in words, for messages.

    Returns:
        uint8 [N, channels, height, width], float32 [N, ...], or of texts the numbers of their first
        64 words, int32 [N, 64].

    Raises:
        DataError: If it is something else, or holds values that are no finite numbers.

    >>> as_inputs(np.zeros((5, 28, 28), dtype=np.uint8), "x").shape
    (5, 1, 28, 28)
    """
    if array.ndim == 1 and array.dtype.kind in "UO" and all(isinstance(v, str) for v in array):
        return number_words(array.tolist(), WORDS, where)
    last = array.ndim == 4 and array.shape[3] in CHANNELS
    if np.issubdtype(array.dtype, np.floating) and array.ndim >= 2:
        features = finite_float32(array, where)
        return features.transpose(0, 3, 1, 2) if last else features
    if array.dtype == np.uint8 and array.ndim == 3:
        return array[:, None]
    if array.dtype == np.uint8 and last:
        return array.transpose(0, 3, 1, 2)
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[1] in CHANNELS:
        return array
    raise DataError(
        f"{where} is neither images nor features nor texts",
        got=f"{array.dtype.name} {list(array.shape)}",
        allowed="uint8 images with 1 or 3 channels, floats [N, ...], or texts [N]",
        next_step=f"Convert it: {_advice(array)}.",
    )


def _advice(array: npt.NDArray[Any]) -> str:
    """Return how inputs of another kind become images or features."""
    if array.dtype == np.uint8 and array.ndim == 2:
        return "x.reshape(-1, height, width) for images, x.astype('float32') for features"
    if array.dtype == np.uint8 and array.ndim == 4 and 4 in (array.shape[1], array.shape[3]):
        return "x[..., :3] leaves the transparency out (x[:, :3] with channels first)"
    if array.dtype == np.uint8 and array.ndim > 3:
        return "x.astype('float32') takes volumes for features"
    if array.dtype == np.bool_:
        return "x.astype('uint8') * 255 for images, x.astype('float32') for features"
    if array.dtype.kind == "S":
        return "numpy.char.decode(x, 'utf-8') for texts"
    if array.ndim == 1 and any(isinstance(value, str) for value in array):
        return "leave out the rows that hold no text"
    if array.ndim < 2:
        return "one row a sample, x.reshape(len(y), -1)"
    return "x.astype('uint8') for pixels from 0 to 255, x.astype('float32') for features"


def as_labels(array: npt.NDArray[Any], where: str) -> IntArray:
    """Return class ids as a data set holds them, int64 [N].

    Args:
        array: Integers [N] or [N, 1].
        where: The array in words, for messages.

    Raises:
        DataError: If it is something else.
    """
    flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if not np.issubdtype(flat.dtype, np.integer) or flat.ndim != 1:
        onehot = array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "biuf"
        text = array.dtype.kind in "US"
        if onehot and (array.sum(axis=1) > 1).any() and np.isin(array, (0, 1)).all():
            raise DataError(
                f"{where} holds several labels for a sample",
                got=f"{array.dtype.name} {list(array.shape)} of 0 and 1",
                allowed="one class a sample: integers [N] or [N, 1]",
                next_step="Choose one of the columns: y = y[:, 0].",
            )
        raise DataError(
            f"{where} does not hold integer class ids",
            got=f"{array.dtype.name} {list(array.shape)}",
            allowed="integers [N] or [N, 1]",
            next_step="Convert them: y = y.argmax(axis=1)."
            if onehot
            else f"Convert them: {CONVERT}{'; save names as class_names' if text else ''}.",
        )
    if len(flat) and flat.max() > np.iinfo(np.int64).max:
        raise DataError(f"{where} does not hold class ids", got=str(flat.max()))
    return np.asarray(flat, dtype=np.int64)
