"""Dirichlet label skew, convention (iii): each client draws its classes, sizes are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import numpy.typing as npt

from fedfuse.errors import PartitionError, require
from fedfuse.partition.deal import deal, even_sizes
from fedfuse.partition.request import check_request, class_ids
from fedfuse.partition.simplex import log_dirichlet
from fedfuse.types import IntArray
from fedfuse.validation import require_count, require_number


def inner_counts(
    log_priors: npt.NDArray[np.float64],
    sizes: IntArray,
    class_sizes: IntArray,
    rng: np.random.Generator,
) -> IntArray:
    """Return counts [K, C] with row sums ``sizes``, each row drawn from the client's own prior.

    A class that runs out leaves the prior, which is rescaled over the classes that are left; each
    pass fills the client or empties a class, so at most C passes per client.

    Args:
        log_priors: float64 [K, C], finite.
        sizes: int64 [K], summing to at most N.
        class_sizes: int64 [C].
        rng: Decides the draws and which client chooses first.
    """
    left = class_sizes.copy()
    counts = np.zeros(log_priors.shape, dtype=np.int64)
    for client in rng.permutation(len(sizes)):
        missing = int(sizes[client])
        while missing:
            open_ = np.flatnonzero(left)
            logs = log_priors[client, open_]
            prior = np.exp(logs - logs.max())
            wanted = rng.multinomial(missing, prior / prior.sum())
            taken = np.minimum(wanted, left[open_])
            counts[client, open_] += taken
            left[open_] -= taken
            missing -= int(taken.sum())
    return counts


@dataclass(frozen=True, slots=True)
class DirichletInner:
    """Give each client a class prior from Dirichlet(alpha) and the size that was asked for.

    The convention of Flower's ``InnerDirichletPartitioner``. Clients choose in random order and
    the last ones take what is left; give ``sizes`` that leave samples unused if their priors must
    be kept more closely.

    Args:
        alpha: Concentration, above 0: small is skewed.
        sizes: Number of samples of each client: one for all, or a list; None for equal shares of
            all samples. At the same seed and alpha, clients keep their priors whatever the size.
        min_samples: Least number of samples per client; sizes below it are refused.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = DirichletInner(alpha=0.1, sizes=[300, 200])(labels, 2, np.random.default_rng(0))
    >>> [len(part) for part in parts]
    [300, 200]
    """

    alpha: float = 0.5
    sizes: int | Sequence[int] | None = None
    min_samples: int = 40

    def __post_init__(self) -> None:
        owner = "dirichlet_inner"
        require_number(owner, "alpha", self.alpha, above=0)
        require_count(owner, "min_samples", self.min_samples)
        if self.sizes is None:
            return
        least = f"of at least min_samples={self.min_samples}"
        allowed = f"an integer {least}, a list of such integers, or null"
        given = self.sizes
        listed = isinstance(given, int | Sequence) and not isinstance(given, str)
        require(listed, owner, "sizes", given, allowed)
        for size in [given] if isinstance(given, int) else given:
            ok = isinstance(size, Integral) and not isinstance(size, bool)
            require(ok and size >= self.min_samples, owner, "sizes", given, allowed)
        if not isinstance(given, int):
            object.__setattr__(self, "sizes", tuple(given))

    def __call__(
        self, labels: IntArray, num_clients: int, rng: np.random.Generator
    ) -> list[IntArray]:
        """Return one index array per client; without ``sizes``, every sample is used."""
        check_request("dirichlet_inner", labels, num_clients, self.min_samples)
        sizes = self._sizes(len(labels), num_clients)
        classes, class_sizes = class_ids(labels)
        log_priors = log_dirichlet(self.alpha, num_clients, len(class_sizes), rng)
        return deal(classes, inner_counts(log_priors, sizes, class_sizes, rng), rng)

    def _sizes(self, num_samples: int, num_clients: int) -> IntArray:
        if self.sizes is None:
            return even_sizes(num_samples, num_clients)
        sizes = [self.sizes] * num_clients if isinstance(self.sizes, int) else list(self.sizes)
        if len(sizes) != num_clients or sum(sizes) > num_samples:
            raise PartitionError(
                "The 'sizes' of dirichlet_inner do not fit the data",
                got=f"{len(sizes)} sizes with the sum {sum(sizes)}",
                allowed=f"one size per client, {num_clients}, with a sum of at most {num_samples}",
            )
        return np.array(sizes, dtype=np.int64)
