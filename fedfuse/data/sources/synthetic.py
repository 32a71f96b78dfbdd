"""Seeded data that any model learns quickly: for tests and first steps."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fedfuse.data.raw import Decoded, RawDataset, describe
from fedfuse.errors import require
from fedfuse.rng import Streams
from fedfuse.types import Samples


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
        ok = type(value) is int and value >= least
        require(ok, "synthetic", name, value, f"an integer of at least {least}")
    require(kind in ("image", "features"), "synthetic", "kind", kind, "image | features")
    require(channels in (1, 3), "synthetic", "channels", channels, "1 | 3")
    ok = type(noise) in (int, float) and 0 <= noise < math.inf
    require(ok, "synthetic", "noise", noise, "a finite number of at least 0")

    rng = Streams(seed).numpy("synthetic")
    image = kind == "image"
    shape = (channels, image_size, image_size) if image else (num_features,)
    prototypes = (
        rng.uniform(size=(num_classes, *shape)) if image else rng.normal(size=(num_classes, *shape))
    )
    total = num_train + num_test
    # Each pool by itself runs through the classes, so both are balanced.
    labels = np.concatenate([np.arange(num_train), np.arange(num_test)]) % num_classes
    values = prototypes[labels] + rng.normal(scale=noise, size=(total, *shape))
    pixels = (values.clip(0, 1) * 255).round().astype(np.uint8)
    inputs = pixels if image else values.astype(np.float32)
    inputs.setflags(write=False)
    labels.setflags(write=False)
    test = Samples(inputs[num_train:], labels[num_train:]) if num_test else None
    decoded = Decoded(
        Samples(inputs[:num_train], labels[:num_train]),
        test,
        tuple(str(c) for c in range(num_classes)),
    )
    return describe(f"synthetic-{kind}", decoded)
