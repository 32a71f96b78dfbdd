"""The one place that says what a valid partition is."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fedfuse.errors import PartitionError
from fedfuse.types import IntArray

_NAMED = 5  # how many clients an error lists before it only counts them


def validate_partition(parts: object, num_samples: int, num_clients: int) -> list[IntArray]:
    """Return the parts as int64 arrays, or say which promise of a partitioner they break.

    Args:
        parts: What a partitioner returned: one array or list of indices per client.
        num_samples: N, the number of labels that the partitioner was given.
        num_clients: K, the number of clients that it was asked for.

    Returns:
        K one-dimensional int64 arrays, copies, in the order given.

    Raises:
        PartitionError: If there are not K parts, or a part is no list of integers, holds an
            index outside 0 to N-1, shares one with another part, repeats one, or is empty.

    >>> validate_partition([[0, 2], [1]], num_samples=3, num_clients=2)
    [array([0, 2]), array([1])]
    """
    if isinstance(parts, (str, bytes, Mapping)):
        raise PartitionError(
            "The partitioner did not return a list of index arrays",
            got=f"a {type(parts).__name__}",
            allowed="a list with one array of sample indices per client",
        )
    try:
        listed = list(parts)  # type: ignore[call-overload]
    except TypeError:
        raise PartitionError(
            "The partitioner did not return a list of index arrays",
            got="None" if parts is None else f"a {type(parts).__name__}",
            allowed="a list with one array of sample indices per client",
            next_step="Does the function end with a return?" if parts is None else None,
        ) from None
    if len(listed) != num_clients:
        raise PartitionError(
            "The partitioner returned the wrong number of parts",
            got=f"{len(listed)} parts",
            allowed=f"one per client, {num_clients}",
        )
    arrays = [_indices(part, client, num_samples) for client, part in enumerate(listed)]
    empty = [client for client, array in enumerate(arrays) if len(array) == 0]
    if empty:
        more = f" and {len(empty) - _NAMED} more" if len(empty) > _NAMED else ""
        raise PartitionError(
            "The partition leaves clients without any sample",
            got=f"empty clients {', '.join(map(str, empty[:_NAMED]))}{more}",
            allowed="at least one sample per client",
            next_step="Use fewer clients or a less skewed partition.",
        )
    _check_disjoint(arrays, num_samples)
    return arrays


def _indices(part: object, client: int, num_samples: int) -> IntArray:
    """Return one client's part as int64 indices, checked by itself."""
    try:
        array: npt.NDArray[np.generic] = np.asarray(part)
    except ValueError:
        array = np.asarray(None)
    if array.ndim == 1 and array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        mask = array.dtype == np.bool_
        raise PartitionError(
            f"The part of client {client} is not a list of sample indices",
            got=f"an array of {array.dtype} with shape {list(array.shape)}",
            allowed="one-dimensional integers",
            next_step="Turn a mask into indices with numpy.flatnonzero." if mask else None,
        )
    outside = array[(array < 0) | (array >= num_samples)]  # type: ignore[operator]
    if outside.size:
        raise PartitionError(
            f"The part of client {client} holds an index that is no sample",
            got=str(outside[0]),
            allowed=f"0 to {num_samples - 1}",
        )
    return array.astype(np.int64)


def _check_disjoint(arrays: list[IntArray], num_samples: int) -> None:
    """Raise unless no sample appears twice."""
    joined = np.concatenate([np.empty(0, dtype=np.int64), *arrays])
    times = np.bincount(joined, minlength=num_samples)
    if times.max(initial=0) <= 1:
        return
    index = int(times.argmax())
    owners = [client for client, array in enumerate(arrays) if index in array]
    shared = int((times > 1).sum())
    if len(owners) == 1:
        what = f"Client {owners[0]} holds sample {index} {times[index]} times"
    else:
        what = f"Clients {owners[0]} and {owners[1]} both hold sample {index}"
    raise PartitionError(
        what,
        got=f"{shared} repeated sample{'s' if shared > 1 else ''}",
        allowed="each sample at most once over all clients",
    )
