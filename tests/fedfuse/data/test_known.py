"""What is called by the name of a known data set is that set, or refused."""

import numpy as np
import pytest

from fedfuse.data.known import KNOWN, check_known
from fedfuse.data.raw import Decoded, describe
from fedfuse.errors import DataError
from fedfuse.types import Samples

FASHION = (
    *("T - shirt / top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
NUMBERS = tuple("0123456789")


def data(shape, mean, names=NUMBERS, count=1000):
    """Return images that are grey all over, as bright as they should be in the mean."""
    inputs = np.empty((count, *shape), dtype=np.uint8)
    inputs[:] = (np.array(mean) * 255).round().reshape(-1, 1, 1)
    labels = np.arange(count) % len(names)
    return describe("x", Decoded(Samples(inputs, labels), None, tuple(names)))


def like(name, names=None, **changes):
    known = KNOWN[name]
    numbers = tuple(map(str, range(known.num_classes[0])))
    return data(changes.get("shape", known.shape), known.mean, names or numbers)


@pytest.mark.parametrize("name", sorted(KNOWN))
@pytest.mark.parametrize("other", sorted(KNOWN))
def test_each_known_set_passes_for_itself_alone(name, other):
    same = KNOWN[name] is KNOWN[other]
    if same:
        check_known(like(name), other)
    else:
        with pytest.raises(DataError, match=f"The data is called {other} and is something else"):
            check_known(like(name), other)


def test_class_names_tell_before_the_mean_does():
    raw = data((1, 28, 28), (0.13,), FASHION)
    check_known(raw, "zalando-datasets/fashion_mnist")
    check_known(raw, "Fashion-MNIST")
    with pytest.raises(DataError, match=r"got 1x28x28 images of 10 classes \(T - shirt / top, Tr"):
        check_known(raw, "ylecun/mnist")
    words = [f"{digit} - {word}" for digit, word in zip("01", ("zero", "one"), strict=True)]
    check_known(data((1, 28, 28), (0.9,), (*words, *NUMBERS[2:])), "mnist")


def test_a_part_of_a_set_is_not_judged_by_its_mean():
    labels = np.repeat([0, 1], [60, 60])
    inputs = np.full((120, 1, 28, 28), 150, dtype=np.uint8)
    raw = describe("x", Decoded(Samples(inputs, labels), None, NUMBERS))
    check_known(raw, "mnist")
    with pytest.raises(DataError, match=r"mean 0\.59 where it is 0\.13"):
        check_known(data((1, 28, 28), (0.59,)), "mnist")


def test_stretched_images_are_judged_by_their_channels():
    check_known(data((1, 32, 32), (0.13,)), "mnist", resized=True)
    with pytest.raises(DataError, match="1x32x32"):
        check_known(data((1, 32, 32), (0.13,)), "mnist")
    with pytest.raises(DataError, match="3x32x32"):
        check_known(data((3, 32, 32), (0.13,) * 3), "mnist", resized=True)


def test_coarse_classes_are_of_cifar100_too():
    coarse = ["aquatic_mammals", "fish", "flowers", "food_containers", *map(str, range(16))]
    check_known(data((3, 32, 32), KNOWN["cifar100"].mean, coarse), "uoft-cs/cifar100")


def test_other_names_and_no_name_may_be_anything():
    raw = data((3, 5, 5), (0.1, 0.2, 0.3))
    for name in (None, "", "mine", "owner/mnist_corrupted"):
        check_known(raw, name)
