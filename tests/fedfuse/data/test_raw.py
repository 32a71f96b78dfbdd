import numpy as np
import pytest

from fedfuse.data.raw import Decoded, RawDataset, channel_statistics, content_hash, describe
from fedfuse.errors import DataError
from fedfuse.types import Samples


def decoded(n=6, classes=3, seed=0, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    inputs = rng.integers(0, 256, size=(n, 3, 4, 5)).astype(dtype)
    labels = np.arange(n) % classes
    return Decoded(Samples(inputs, labels), None, tuple(map(str, range(classes))))


def test_statistics_equal_the_plain_float64_ones_on_any_rows():
    images = np.random.default_rng(1).integers(0, 256, size=(9000, 3, 3, 2), dtype=np.uint8)
    rows = np.arange(0, 9000, 2)
    scaled = images[rows].astype(np.float64) / 255
    mean, std = channel_statistics(images, rows)
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-9)
    assert channel_statistics(images) != (mean, std)


def test_a_constant_channel_gets_deviation_one():
    images = np.full((3, 2, 2, 2), 51, dtype=np.uint8)
    images[0, 1] = 0
    mean, std = channel_statistics(images)
    assert mean[0] == pytest.approx(0.2)
    assert std[0] == 1.0
    assert std[1] < 1.0


def test_the_fingerprint_sees_one_changed_pixel_label_or_class_and_nothing_else():
    base = decoded()
    same = content_hash(decoded())
    assert content_hash(base) == same
    pixel = decoded()
    pixel.train.inputs[3, 0, 0, 0] ^= 1
    label = decoded()
    label.train.labels[0] = 2
    more = Decoded(base.train, None, ("0", "1", "2", "3"))
    split = Decoded(base.train, base.train, base.class_names)
    assert len({same, *(content_hash(d) for d in (pixel, label, more, split))}) == 5


def test_features_have_no_statistics():
    features = Decoded(
        Samples(np.ones((4, 7), dtype=np.float32), np.array([0, 1, 0, 1])), None, ("a", "b")
    )
    raw = describe("f", features)
    assert raw.mean == raw.std == ()
    assert not raw.is_image
    assert raw.num_classes == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array([0, 1, 2, -1, 0, 1])}, "labels from -1 to 2"),
        ({"labels": np.array([0, 1, 2, 3, 0, 1])}, "allowed: 0 to 2"),
        ({"labels": np.array([0, 1])}, "one integer label per input"),
        ({"labels": np.zeros(6)}, "one integer label per input"),
        ({"inputs": np.zeros((6, 4, 4), dtype=np.uint8)}, "inputs that fedfuse does not know"),
        ({"inputs": np.zeros((6, 4), dtype=np.float64)}, "inputs that fedfuse does not know"),
        ({"inputs": np.zeros((6, 0), dtype=np.float32)}, "inputs without a number in them"),
        ({"inputs": np.zeros((6, 1, 0, 4), dtype=np.uint8)}, "inputs without a number in them"),
        ({"inputs": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}, "is empty"),
    ],
)
def test_a_malformed_pool_is_refused(change, words):
    base = decoded()
    parts = {"inputs": base.train.inputs, "labels": base.train.labels} | change
    with pytest.raises(DataError, match=words):
        describe("bad", Decoded(Samples(**parts), None, base.class_names))


def test_pools_of_different_layout_and_wrong_statistics_are_refused():
    base = decoded()
    other = Samples(base.train.inputs[:, :1], base.train.labels)
    with pytest.raises(DataError, match="different layouts"):
        describe("bad", Decoded(base.train, other, base.class_names))
    with pytest.raises(DataError, match="do not fit its 3 channels"):
        RawDataset("bad", base.train, None, 3, base.class_names, (0.5,), (0.5,), "")
