"""Several data sets of the same classes as one: feature shift between groups of clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.classes import ids_among
from fedfuse.data.raw import Decoded, Domain, RawDataset
from fedfuse.errors import DataError, require
from fedfuse.types import Samples

Source = Callable[[], RawDataset] | RawDataset


def domains(domains: Sequence[Source], name: str | None = None) -> RawDataset:
    """Return the union of several data sets, which remembers whose each row is.

    Each becomes the private data of an even share of the clients, in blocks; its own test split
    (or a share of its rows) is what they are tested on, and the union of those the balanced test.
    Public samples are held out of the union.

    Args:
        domains: At least two data sets, or functions that load one, with inputs of one shape and
            the same classes, perhaps numbered otherwise.
        name: What the union is called; None for the domains' names, joined.

    Raises:
        DataError: If they do not fit together, or cannot be read.
    """
    listed = not isinstance(domains, str) and isinstance(domains, Sequence)
    got = len(domains) if listed else type(domains).__name__
    require(listed and len(domains) > 1, "domains", "domains", got, "two data sets or more")
    raws = [part if isinstance(part, RawDataset) else part() for part in domains]
    names = _names(raws)
    if nested := [name for name, raw in zip(names, raws, strict=True) if raw.domains]:
        raise DataError(
            "A domain is put together from domains itself",
            got=nested[0],
            next_step="Name its domains in dataset.domains.",
        )
    shapes = [f"{raw.train.inputs.dtype.name} {list(raw.train.inputs.shape[1:])}" for raw in raws]
    if len(set(shapes)) > 1:
        raise DataError(
            "The domains do not have inputs of one shape",
            got=", ".join(f"{shape} of {name}" for name, shape in zip(names, shapes, strict=True)),
            next_step="Give images one size (a domain's own dataset.image_size), and all of them "
            "one number of channels.",
        )
    if len({raw.columns for raw in raws}) > 1:
        raise DataError(
            "The domains are tables with other columns or categories",
            got=", ".join(f"{len(raw.columns)} features of {name}"
                          for name, raw in zip(names, raws, strict=True)),
            next_step="Give them the same columns, in the same order.",
        )  # fmt: skip
    ids = [
        ids_among(raw, raws[0], f"The domain {name} has not the classes of {names[0]}", every=True)
        for name, raw in zip(names, raws, strict=True)
    ]
    parts = [
        Domain(name, len(raw.train), 0 if raw.test is None else len(raw.test))
        for name, raw in zip(names, raws, strict=True)
    ]

    def join() -> Decoded:
        train = [Samples(r.train.inputs, i[r.train.labels]) for r, i in zip(raws, ids, strict=True)]
        test = [
            Samples(raw.test.inputs, number[raw.test.labels])
            for raw, number in zip(raws, ids, strict=True)
            if raw.test is not None
        ]
        first = raws[0]
        held = _joined(test) if test else None
        return Decoded(_joined(train), held, first.class_names, first.columns, tuple(parts))

    settings = {"sets": [raw.fingerprint for raw in raws], "ids": [i.tolist() for i in ids]}
    key = cache_key("domains", {**settings, "domains": parts}, {})
    return cached(name or "+".join(names), key, join)


def _joined(pools: Sequence[Samples]) -> Samples:
    return Samples(
        np.concatenate([pool.inputs for pool in pools]),
        np.concatenate([pool.labels for pool in pools]),
    )


def _names(raws: Sequence[RawDataset]) -> list[str]:
    """Return a name for each, the second of the same name with its number behind it."""
    names: list[str] = []
    for number, raw in enumerate(raws, start=1):
        names.append(f"{raw.name}-{number}" if raw.name in names else raw.name)
    return names
