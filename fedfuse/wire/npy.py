"""Read an array from the bytes of a stranger, without allocating a byte on its say-so.

``numpy.load`` allocates what a header announces before it looks for the numbers, and opens zip
archives too. Here the header is believed only if exactly so many bytes follow it, and the result
is a view of them.
"""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from fedfuse.errors import KnowledgeError

_KINDS = "biuf"  # bool, integers, floats: nothing else is exchanged
_LONGEST_HEADER = 1024
_MOST_DIMS = 8


def parse_array(data: bytes, name: str) -> npt.NDArray[Any]:
    """Return the array in the npy format that ``data`` holds, a read-only view of it.

    Args:
        data: The bytes of an npy file, nothing before or behind it.
        name: The array's name, for messages.

    Raises:
        KnowledgeError: If the bytes are something else.

    >>> import io
    >>> file = io.BytesIO()
    >>> np.save(file, np.array([1, 2]))
    >>> parse_array(file.getvalue(), "ids")
    array([1, 2])
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            read = np.lib.format.read_array_header_1_0
        elif version == (2, 0):
            read = np.lib.format.read_array_header_2_0
        else:
            raise ValueError(f"version {version} of the npy format")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # about headers that Python 2 wrote
            shape, in_columns, dtype = read(file, max_header_size=_LONGEST_HEADER)
    # What a malformed header raises depends on where Python's parser stumbles over it.
    except Exception as error:
        raise _refused(name, f"{type(error).__name__}: {error}") from error
    start = file.tell()
    if dtype.kind not in _KINDS or not dtype.isnative:
        raise _refused(name, f"numbers of type {dtype}")
    if len(shape) > _MOST_DIMS or any(type(n) is not int or n < 0 for n in shape):
        raise _refused(name, f"shape {str(shape)[:100]}")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise _refused(name, f"shape {shape} of {dtype} in {len(data) - start} bytes")
    flat = np.frombuffer(data, dtype=dtype, offset=start)
    if dtype.kind == "b" and bool((flat.view(np.uint8) > 1).any()):
        raise _refused(name, "truth values other than 0 and 1")
    return flat.reshape(shape, order="F" if in_columns else "C")


def _refused(name: str, got: str) -> KnowledgeError:
    return KnowledgeError(
        f"'{name}' cannot be read",
        got=got[:200],
        allowed="an array of numbers in the npy format, as long as it says",
    )
