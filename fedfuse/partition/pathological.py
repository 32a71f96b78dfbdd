"""A fixed number of classes per client."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedfuse.errors import PartitionError
from fedfuse.partition.deal import deal, fill_evenly, share_classes
from fedfuse.partition.request import check_request, class_ids
from fedfuse.types import IntArray
from fedfuse.validation import require_count


def assign_classes(
    class_sizes: IntArray, num_clients: int, classes_per_client: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Return who owns which class, bool [K, C], each row with ``classes_per_client`` True.

    Classes have as equal numbers of owners as their sizes allow (never more owners than samples).
    Each client takes the classes with most places left, ties at random; taking the fullest first
    always works out (Gale-Ryser).

    Raises:
        PartitionError: If there are not enough classes, or not enough samples in them.
    """
    num_classes = len(class_sizes)
    if classes_per_client > num_classes:
        raise PartitionError(
            f"pathological cannot give {classes_per_client} classes to a client",
            got=f"{num_classes} classes in the data",
            allowed=f"classes_per_client of at most {num_classes}",
        )
    capacity = np.minimum(class_sizes, num_clients)
    places = num_clients * classes_per_client
    if capacity.sum() < places:
        raise PartitionError(
            f"pathological cannot give {classes_per_client} classes to each of {num_clients} "
            "clients, because some classes have too few samples to share",
            got=f"room for {capacity.sum()} client-class pairs",
            allowed=f"at least {places}",
            next_step="Use fewer clients or a smaller partitioner.classes_per_client.",
        )
    shuffled = rng.permutation(num_classes)
    free = np.empty(num_classes, dtype=np.int64)
    free[shuffled] = fill_evenly(capacity[shuffled], places)
    owns = np.zeros((num_clients, num_classes), dtype=np.bool_)
    for client in range(num_clients):
        order = np.lexsort((rng.random(num_classes), -free))
        owns[client, order[:classes_per_client]] = True
        free[order[:classes_per_client]] -= 1
    return owns


@dataclass(frozen=True, slots=True)
class Pathological:
    """Give each client samples of exactly ``classes_per_client`` classes.

    Every class is split evenly over the clients that own it. With fewer places than classes
    (num_clients * classes_per_client < C) some classes stay unused.

    Args:
        classes_per_client: Number of classes of each client.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = Pathological(classes_per_client=2)(labels, 5, np.random.default_rng(0))
    >>> [len(np.unique(labels[part])) for part in parts]
    [2, 2, 2, 2, 2]
    """

    classes_per_client: int = 2

    def __post_init__(self) -> None:
        require_count("pathological", "classes_per_client", self.classes_per_client)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client."""
        check_request("pathological", labels, num_clients)
        classes, class_sizes = class_ids(labels)
        owns = assign_classes(class_sizes, num_clients, self.classes_per_client, rng)
        return deal(classes, share_classes(class_sizes, owns), rng)
