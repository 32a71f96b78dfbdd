"""What every partitioner asks before it deals: are these labels, and are there enough of them?"""

from __future__ import annotations

import numpy as np

from fedfuse.errors import PartitionError
from fedfuse.types import IntArray
from fedfuse.validation import require_count


def check_request(owner: str, labels: IntArray, num_clients: int, min_samples: int = 1) -> None:
    """Raise unless ``labels`` [N] can give ``num_clients`` clients ``min_samples`` each.

    Raises:
        ParameterError: If ``num_clients`` is not a positive integer.
        PartitionError: If the labels are not integers [N], or are too few.
    """
    require_count(owner, "num_clients", num_clients)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise PartitionError(
            f"{owner} deals out samples by their class ids",
            got=f"labels of {labels.dtype} with shape {list(labels.shape)}",
            allowed="one integer per sample",
        )
    if num_clients * min_samples > len(labels):
        each = "one sample" if min_samples == 1 else f"{min_samples} samples"
        fewer = "Use fewer clients" if min_samples == 1 else "Use fewer clients, less min_samples"
        raise PartitionError(
            f"{owner} cannot give each of {num_clients} clients at least {each}",
            got=f"{len(labels)} samples",
            allowed=f"at least {num_clients * min_samples}",
            next_step=f"{fewer} or more data.",
        )


def class_ids(labels: IntArray) -> tuple[IntArray, IntArray]:
    """Return each sample's position among the classes present, [N], and the class sizes, [C].

    >>> class_ids(np.array([7, 3, 7]))
    (array([1, 0, 1]), array([1, 2]))
    """
    _, position, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return position.astype(np.int64), sizes.astype(np.int64)
