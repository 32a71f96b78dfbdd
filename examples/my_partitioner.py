"""A partitioner of your own: a function from labels to one array of sample indices per client.

Run it from this folder:

    fedfuse partitioner._target_=my_partitioner.by_halves

Check it in a test:

    from fedfuse.testing import check_partitioner
    check_partitioner(by_halves)
"""

import numpy as np


def by_halves(labels, num_clients, rng):
    """Give the lower classes to the first half of the clients, the higher ones to the others."""
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order] >= np.median(labels), kind="stable")]
    return np.array_split(order, num_clients)
