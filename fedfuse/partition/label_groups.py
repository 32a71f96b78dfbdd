"""Planted groups of clients that share their classes: who should find whom is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.errors import PartitionError
from fedfuse.partition.deal import deal, round_shares, share_classes
from fedfuse.partition.request import check_request, class_ids
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number


@dataclass(frozen=True, slots=True)
class LabelGroups:
    """Plant groups of clients; the clients of a group share the same few classes.

    Group g owns the classes g * classes_per_group and the following ones, in ascending order, and
    a consecutive block of clients; classes beyond the last group stay unused. With these groups
    known, the neighbours that a scorer finds can be scored.

    Args:
        num_groups: Number of groups.
        classes_per_group: Number of classes of each group; groups share none.
        leak: Share of every class that is dealt evenly to all clients, 0 (groups are separate) to
            1 (no groups are left).
        samples: Samples of each client at most, its classes in proportion; None deals all.

    >>> LabelGroups(num_groups=2).groups(5)
    [0, 0, 0, 1, 1]
    """

    num_groups: int = 5
    classes_per_group: int = 2
    leak: float = 0.0
    samples: int | None = None

    def __post_init__(self) -> None:
        require_count("label_groups", "num_groups", self.num_groups)
        require_count("label_groups", "classes_per_group", self.classes_per_group)
        require_number("label_groups", "leak", self.leak, at_least=0, at_most=1)
        if self.samples is not None:
            require_count("label_groups", "samples", self.samples)

    def groups(self, num_clients: int) -> list[int]:
        """Return the group of each client.

        Raises:
            PartitionError: If there are more groups than clients.
        """
        if num_clients < self.num_groups:
            raise PartitionError(
                "label_groups needs a client in every group",
                got=f"{self.num_groups} groups and {num_clients} clients",
                allowed=f"at least {self.num_groups} clients",
                next_step="Use more clients or a smaller partitioner.num_groups.",
            )
        return [client * self.num_groups // num_clients for client in range(num_clients)]

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client."""
        check_request("label_groups", labels, num_clients)
        group_of_client = np.array(self.groups(num_clients))
        classes, class_sizes = class_ids(labels)
        used = self.num_groups * self.classes_per_group
        if used > len(class_sizes):
            raise PartitionError(
                f"label_groups needs {self.num_groups} x {self.classes_per_group} classes",
                got=f"{len(class_sizes)} classes in the data",
                allowed=f"at least {used}",
                next_step="Use a smaller partitioner.num_groups or partitioner.classes_per_group.",
            )
        group_of_class = np.arange(len(class_sizes)) // self.classes_per_group
        owns = group_of_client[:, None] == group_of_class[None, :]
        sizes = np.where(np.arange(len(class_sizes)) < used, class_sizes, 0)
        leaked = np.rint(self.leak * sizes).astype(np.int64)
        counts = share_classes(sizes - leaked, owns) + share_classes(leaked, np.ones_like(owns))
        if (counts.sum(axis=1) == 0).any():
            raise PartitionError(
                "label_groups leaves clients without a sample: their group's classes are too small",
                got=f"empty clients {np.flatnonzero(counts.sum(axis=1) == 0).tolist()}",
                next_step="Use fewer clients or more data.",
            )
        if self.samples is not None:
            most = self.samples
            counts = np.stack([round_shares(row, min(most, int(row.sum()))) for row in counts])
        return deal(classes, counts, rng)
