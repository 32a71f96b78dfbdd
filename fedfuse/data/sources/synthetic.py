"""Seeded data that any model learns quickly: for tests and first steps."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import CHUNK, Decoded, RawDataset, describe
from fedfuse.errors import require
from fedfuse.rng import Streams
from fedfuse.types import Samples
from fedfuse.validation import require_count, require_number, require_one_of

SMALL = 2**24
"""Bytes up to which a set is made anew in every process, in a fraction of a second. Larger ones are
made once and mapped from the cache, so that the processes of a run share their memory."""


def synthetic(
    num_train: int = 2000,
    num_test: int = 500,
    num_classes: int = 10,
    kind: Literal["image", "features"] = "image",
    image_size: int = 8,
    channels: int = 1,
    num_features: int = 16,
    noise: float = 0.25,
    seed: int = 0,
) -> RawDataset:
    """Return one random prototype per class plus Gaussian noise, classes equally frequent.

    A large set goes through the cache, as if it had been read from files.

    Args:
        num_train: Size of the training pool.
        num_test: Size of the test pool; 0 for a data set without a test split.
        num_classes: C.
        kind: ``image`` for uint8 [N, channels, image_size, image_size], ``features`` for float32
            [N, num_features].
        image_size: Height and width.
        channels: 1 or 3.
        num_features: Length of a feature vector.
        noise: Standard deviation of the noise; the prototypes' own is 0.29 for images (on the
            scale 0 to 1) and 1 for features.
        seed: Of prototypes and samples.
    """
    counts = {
        "num_train": (num_train, 1),
        "num_test": (num_test, 0),
        "num_classes": (num_classes, 2),
        "image_size": (image_size, 1),
        "num_features": (num_features, 1),
    }
    for name, (value, least) in counts.items():
        require_count("synthetic", name, value, at_least=least)
    require_one_of("synthetic", "kind", kind, ("image", "features"))
    require(channels in (1, 3), "synthetic", "channels", channels, "1 | 3")
    require_number("synthetic", "noise", noise, at_least=0)

    image = kind == "image"
    shape = (channels, image_size, image_size) if image else (num_features,)

    def make() -> Decoded:
        return _make(num_train, num_test, num_classes, shape, noise, seed)

    name, total = f"synthetic-{kind}", num_train + num_test
    if total * math.prod(shape) * (1 if image else 4) <= SMALL:
        return describe(name, make())
    parameters = {
        "train": num_train,
        "test": num_test,
        "classes": num_classes,
        "kind": kind,
        "shape": shape,
        "noise": noise,
        "seed": seed,
    }
    return cached(name, cache_key("synthetic", parameters, {}), make)


def _make(
    num_train: int,
    num_test: int,
    num_classes: int,
    shape: tuple[int, ...],
    noise: float,
    seed: int,
) -> Decoded:
    """Draw prototypes and samples; images are the three-dimensional ones."""
    rng, image = Streams(seed).numpy("synthetic"), len(shape) == 3
    size = (num_classes, *shape)
    prototypes = rng.uniform(size=size) if image else rng.normal(size=size)
    total = num_train + num_test
    # Each pool by itself runs through the classes, so both are balanced.
    labels = np.concatenate([np.arange(num_train), np.arange(num_test)]) % num_classes
    inputs = np.empty((total, *shape), dtype=np.uint8 if image else np.float32)
    for start in range(0, total, CHUNK):  # in float64 the whole would be eight times as large
        chosen = labels[start : start + CHUNK]
        values = prototypes[chosen] + rng.normal(scale=noise, size=(len(chosen), *shape))
        inputs[start : start + CHUNK] = (values.clip(0, 1) * 255).round() if image else values
    inputs.setflags(write=False)
    labels.setflags(write=False)
    test = Samples(inputs[num_train:], labels[num_train:]) if num_test else None
    names = tuple(str(c) for c in range(num_classes))
    return Decoded(Samples(inputs[:num_train], labels[:num_train]), test, names)
