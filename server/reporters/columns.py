"""Columns of a parquet file without pandas.

``pyarrow.array`` imports pandas to see whether it was given a series: a third of a second on the
way to the first training step. Buffers need no such look.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def numbers(values: npt.ArrayLike, dtype: type[np.generic]) -> Any:
    """Return numbers [N] as a column of that type; an array of the same type is not copied.

    >>> numbers([1, 2], np.int32).to_pylist()
    [1, 2]
    """
    import pyarrow as pa

    array = np.ascontiguousarray(values, dtype=dtype)
    kind = pa.from_numpy_dtype(array.dtype)
    return pa.Array.from_buffers(kind, len(array), [None, pa.py_buffer(array)])


def texts(values: Sequence[str]) -> Any:
    """Return texts as a column.

    >>> texts(["a", "", "bc"]).to_pylist()
    ['a', '', 'bc']
    """
    import pyarrow as pa

    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def choices(codes: npt.NDArray[np.integer], names: Sequence[str]) -> Any:
    """Return the text that each code [N] is the place of.

    >>> choices(np.array([1, 0]), ("no", "yes")).to_pylist()
    ['yes', 'no']
    """
    import pyarrow as pa

    places = numbers(codes, np.int8)
    return pa.DictionaryArray.from_arrays(places, texts(names)).cast(pa.string())
