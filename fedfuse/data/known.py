"""Data sets that everybody knows by name: what is called so must look so.

A folder of CIFAR-10 under ``dataset=mnist`` would be trained on, and every table would say MNIST.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from fedfuse.data.raw import RawDataset
from fedfuse.errors import DataError

DIGITS = tuple("0123456789")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True)
class Known:
    """What a published data set looks like.

    Args:
        shape: Of one image: channels, height, width.
        num_classes: C, or what it may be.
        class_names: C names where C is at most ten, else some of them.
        mean: Per-channel mean of the training images on the scale 0 to 1.
    """

    shape: tuple[int, int, int]
    num_classes: tuple[int, ...]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]

    def __str__(self) -> str:
        some = ", ".join(self.class_names[:3])
        counts = " or ".join(map(str, self.num_classes))
        return f"{_size(self.shape)} images of {counts} classes ({some}, ...)"


MNIST = Known((1, 28, 28), (10,), DIGITS, (0.1307,))
KNOWN = {
    "mnist": MNIST,
    "mnist5k": MNIST,
    "fashion_mnist": Known(
        (1, 28, 28),
        (10,),
        (
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        (0.2860,),
    ),
    "cifar10": Known(
        (3, 32, 32),
        (10,),
        (
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        (0.4914, 0.4822, 0.4465),
    ),
    "cifar100": Known(
        (3, 32, 32),
        (100, 20),
        ("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle"),
        (0.5071, 0.4865, 0.4409),
    ),
}
"""By name without its owner, in lower case. Means are those of the published training splits."""

SUPERCLASSES = ("aquatic_mammals", "fish", "flowers", "food_containers")
"""Some of CIFAR-100's 20 coarse classes."""


def check_known(raw: RawDataset, name: str | None, *, resized: bool = False) -> None:
    """Refuse data that bears the name of a known set and is not it.

    Its layout and number of classes must be the known ones; and its class names, or where it has
    only numbers for them the mean of its images, which for a few hundred of them is told apart
    from that of other sets.

    Args:
        raw: The data.
        name: What it is called, such as ``ylecun/mnist``; None if nobody has named it.
        resized: Whether its images were stretched, so that their size says nothing.

    Raises:
        DataError: If it is something else.
    """
    plain = _plain((name or "").rsplit("/", 1)[-1])
    known = next((found for key, found in KNOWN.items() if _plain(key) == plain), None)
    if known is None:
        return
    shape = tuple(raw.train.inputs.shape[1:])
    fits = raw.is_image and (shape[0] == known.shape[0] if resized else shape == known.shape)
    if not fits or raw.num_classes not in known.num_classes:
        raise _other(raw, name, known, "")
    if raw.class_names != tuple(map(str, range(raw.num_classes))):
        if not _named_alike(raw, known):
            raise _other(raw, name, known, "")
    elif _typical(raw):
        reach = 0.03 + 0.5 / math.sqrt(len(raw.train))
        away = max(abs(ours - theirs) for ours, theirs in zip(raw.mean, known.mean, strict=True))
        if away > reach:
            brightness = ", ".join(f"{value:.2f}" for value in raw.mean)
            wanted = ", ".join(f"{value:.2f}" for value in known.mean)
            raise _other(raw, name, known, f", mean {brightness} where it is {wanted}")


def _typical(raw: RawDataset) -> bool:
    """Tell whether every class is there in earnest, so that the mean is that of the whole set."""
    counts = np.bincount(raw.train.labels, minlength=raw.num_classes)
    return bool(counts.min() >= max(10, 0.3 * counts.mean()))


def _named_alike(raw: RawDataset, known: Known) -> bool:
    """Tell whether most of the known class names are among the data's, however they are spelt."""
    ours = {_plain(name) for name in raw.class_names}
    coarse = raw.num_classes != known.num_classes[0]
    wanted = [_plain(name) for name in (SUPERCLASSES if coarse else known.class_names)]
    return sum(name in ours for name in wanted) > len(wanted) / 2


def _plain(name: str) -> str:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for digit, word in zip(DIGITS, WORDS, strict=True):
        if plain in (word, digit + word):
            return digit
    return plain


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _other(raw: RawDataset, name: str | None, known: Known, more: str) -> DataError:
    kind = "images" if raw.is_image else "texts" if raw.is_text else "features"
    names = ", ".join(raw.class_names[:3]) + (", ..." if raw.num_classes > 3 else "")
    shape = _size(tuple(raw.train.inputs.shape[1:]))
    return DataError(
        f"The data is called {name} and is something else",
        got=f"{shape} {kind} of {raw.num_classes} classes ({names}){more}",
        allowed=str(known),
        next_step="Set the path to the right data, or call it by its own name: dataset=hub, npz or "
        "image_folder with dataset.name=NAME.",
    )
