"""Label-sorted shards, the first non-IID split of federated learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedfuse.errors import PartitionError
from fedfuse.partition.request import check_request
from fedfuse.types import IntArray
from fedfuse.validation import require_count


@dataclass(frozen=True, slots=True)
class Shards:
    """Sort the samples by label, cut them into equal shards and deal these out at random.

    McMahan et al. 2017 (https://arxiv.org/abs/1602.05629) used 2 shards per client. A shard may
    hold the end of one class and the start of the next; shard sizes differ by at most one.

    Args:
        shards_per_client: Number of shards of each client.

    >>> parts = Shards(shards_per_client=1)(np.repeat([0, 1], 4), 2, np.random.default_rng(0))
    >>> sorted(sorted(part.tolist()) for part in parts)
    [[0, 1, 2, 3], [4, 5, 6, 7]]
    """

    shards_per_client: int = 2

    def __post_init__(self) -> None:
        require_count("shards", "shards_per_client", self.shards_per_client)

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; every sample is used."""
        check_request("shards", labels, num_clients)
        num_shards = num_clients * self.shards_per_client
        if num_shards > len(labels):
            raise PartitionError(
                f"shards cannot cut {num_shards} shards",
                got=f"{len(labels)} samples",
                allowed=f"at least {num_shards}",
                next_step="Use fewer clients or a smaller partitioner.shards_per_client.",
            )
        shuffled = rng.permutation(len(labels))
        by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
        shards = np.array_split(by_label, num_shards)
        hands = rng.permutation(num_shards).reshape(num_clients, -1)
        return [rng.permutation(np.concatenate([shards[i] for i in hand])) for hand in hands]
