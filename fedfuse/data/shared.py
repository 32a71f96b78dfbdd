"""What every participant has: the test pool and the public set, and what they leave over."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np

from fedfuse.data.draw import apportion, apportion_rows, draw_by_class, without
from fedfuse.data.public import PublicSource
from fedfuse.data.raw import RawDataset, statistics
from fedfuse.errors import DataError, DataWarning
from fedfuse.rng import Streams
from fedfuse.types import IntArray, PublicSet, Samples
from fedfuse.validation import require_count, require_number

NOTHING: IntArray = np.empty(0, dtype=np.int64)
NOTHING.setflags(write=False)

BALANCED_WITHIN = 1.5
"""A test pool counts as balanced if its largest class is at most this much larger than its
smallest; the published test splits of MNIST (1.27) and its kin then stay whole."""


@dataclass(frozen=True, slots=True)
class Shared:
    """The common part of a federation's data.

    Args:
        pool: The test pool, whole: what the clients' own tests are drawn from.
        test: Its balanced part, which all are tested on.
        public: The public set.
        private: Rows of the training pool that are neither; ascending.
        held: Rows of the training pool that became test samples; none with a test split.
        kept: Rows of ``pool`` that are in ``test``, ascending.
        taken: Rows of the training pool that are in the public set.
        mean: As in :class:`RawDataset`, of the training pool without test samples.
        std: The standard deviation of the same.
    """

    pool: Samples
    test: Samples
    public: PublicSet
    private: IntArray
    held: IntArray
    kept: IntArray
    taken: IntArray
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def fingerprint(self, raw: RawDataset) -> str:
        """Return a hash of all of it, by which hosts check that they share the same."""
        digest = hashlib.blake2b(raw.fingerprint.encode(), digest_size=16)
        for array in (self.held, self.kept, self.taken, self.public.inputs):
            add_array(digest, array)
        return digest.hexdigest()


def share(
    raw: RawDataset,
    public: PublicSource,
    streams: Streams,
    test_fraction: float,
    max_test_samples: int | None,
) -> Shared:
    """Draw the test pool, then the public set, each with a random stream of its own.

    Args:
        raw: The data set.
        public: Where the public set comes from.
        streams: The run's random streams.
        test_fraction: Share of the training pool that becomes the test pool of a data set
            without a test split.
        max_test_samples: Largest size of the balanced test set; None for no limit.

    Raises:
        ParameterError: If a number is out of its range.
        DataError: If the data is too small for what is asked of it.
    """
    require_number("the data split", "test_fraction", test_fraction, above=0, below=1)
    if max_test_samples is not None:
        require_count("the data split", "max_test_samples", max_test_samples)
    available = np.arange(len(raw.train))
    mean, std = raw.mean, raw.std
    held = _held_out(raw, test_fraction, streams)
    if len(held):
        available = without(available, held)
        pool = _rows(raw.train, held)
        if raw.test is not None:  # of the domains that have one
            pool = Samples(
                np.concatenate([raw.test.inputs, pool.inputs]),
                np.concatenate([raw.test.labels, pool.labels]),
            )
        if raw.mean:  # the statistics must not know the test samples
            mean, std = statistics(raw.train.inputs, available)
    else:
        assert raw.test is not None
        pool = raw.test
    rng = streams.numpy("data", "balanced test")
    test, kept = _balance(pool, raw.num_classes, max_test_samples, rng, tested_domains(raw, held))
    public_set, taken = public(raw, available, streams.numpy("data", "public"))
    _check_public(raw, public_set, taken, available)
    private = without(available, taken)
    return Shared(pool, test, public_set, private, held, kept, taken, mean, std)


def _held_out(raw: RawDataset, fraction: float, streams: Streams) -> IntArray:
    """Return the rows of the training pool that become test samples, ascending.

    None where there is a test split; of a union of domains, some of each that has none.
    """
    if not raw.domains:
        stream = streams.numpy("data", "test pool")
        return NOTHING if raw.test is not None else draw_test(raw, fraction, stream)
    begin, held = 0, [NOTHING]
    for number, domain in enumerate(raw.domains):
        rows = np.arange(begin, begin := begin + domain.train)
        if not domain.test:
            rng = streams.numpy("data", "test pool", "domain", number)
            held.append(draw_test(raw, fraction, rng, rows))
    return np.concatenate(held)


def tested_domains(raw: RawDataset, held: IntArray) -> IntArray:
    """Return the domain of each row of the test pool; 0 for all where there are none.

    In the pool come the test splits, one after the other, then what was held out.

    Args:
        raw: The data set.
        held: Rows of the training pool that became test samples.
    """
    if not raw.domains:
        return np.zeros(len(held) if raw.test is None else len(raw.test), dtype=np.int64)
    split = np.repeat(np.arange(len(raw.domains)), [domain.test for domain in raw.domains])
    begins = np.cumsum([domain.train for domain in raw.domains])
    return np.concatenate([split, np.searchsorted(begins, held, side="right")])


def draw_test(
    raw: RawDataset, fraction: float, rng: np.random.Generator, rows: IntArray | None = None
) -> IntArray:
    """Return the rows of the training pool that become the test pool, stratified.

    Args:
        raw: The data set.
        fraction: Share of the rows.
        rng: The stream for this draw.
        rows: Those that may be drawn; None for all.
    """
    rows = np.arange(len(raw.train)) if rows is None else rows
    supply = np.bincount(raw.train.labels[rows], minlength=raw.num_classes)
    counts = apportion(supply, max(1, round(fraction * len(rows))), supply, rng)
    return draw_by_class(raw.train.labels, rows, counts, rng)


def add_array(
    digest: hashlib.blake2b, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> None:
    """Add an array's type, shape and content to a hash."""
    digest.update(repr((array.dtype.str, array.shape)).encode())
    digest.update(array.tobytes())


def _balance(
    pool: Samples,
    num_classes: int,
    limit: int | None,
    rng: np.random.Generator,
    domain: IntArray,
) -> tuple[Samples, IntArray]:
    """Return the pool, cut to equal counts per class if it is not balanced or above ``limit``.

    Of each class as many samples are of one domain as of another, as far as they have them. Classes
    that the pool does not have at all stay missing, with a warning.
    """
    every = np.arange(len(pool))
    supply = np.bincount(pool.labels, minlength=num_classes)
    smallest = int(supply[supply > 0].min())
    if missing := np.flatnonzero(supply == 0).tolist():
        warnings.warn(
            f"The test pool has no samples of the classes {missing}; they are not tested.",
            DataWarning,
            stacklevel=4,
        )
    fits = limit is None or len(pool) <= limit
    if fits and supply.max() <= BALANCED_WITHIN * smallest:
        return pool, every
    if limit is not None:
        smallest = min(smallest, max(1, limit // int((supply > 0).sum())))
    counts, several = np.minimum(supply, smallest), int(domain.max()) + 1
    if several == 1:
        kept = draw_by_class(pool.labels, every, counts, rng)
        return _rows(pool, kept), kept
    cells = pool.labels * several + domain
    there = np.bincount(cells, minlength=num_classes * several).reshape(num_classes, several)
    noise = rng.random(there.shape)
    counts = apportion_rows(np.ones(there.shape), there, totals=counts, noise=noise)
    kept = draw_by_class(cells, every, counts.ravel(), rng)
    return _rows(pool, kept), kept


def _rows(samples: Samples, index: IntArray) -> Samples:
    inputs, labels = samples.inputs[index], np.array(samples.labels[index])
    inputs.setflags(write=False)
    labels.setflags(write=False)
    return Samples(inputs, labels)


def _check_public(raw: RawDataset, public: PublicSet, taken: IntArray, available: IntArray) -> None:
    layout = raw.train.inputs.dtype, raw.train.inputs.shape[1:]
    if not len(public) or (public.inputs.dtype, public.inputs.shape[1:]) != layout:
        raise DataError(
            "The public set does not have the layout of the private data",
            got=f"{public.inputs.dtype.name} {list(public.inputs.shape)}",
            allowed=f"{layout[0].name} [P, {', '.join(map(str, layout[1]))}]",
        )
    if len(np.unique(taken)) != len(taken) or not np.isin(taken, available).all():
        raise DataError("The public set took rows twice, or rows that were not available to it")
