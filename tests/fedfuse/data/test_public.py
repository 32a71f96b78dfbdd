import functools
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from fedfuse.data.public import External, HeldOut, Noise
from fedfuse.data.raw import Decoded, describe
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import DataError, FedfuseError
from fedfuse.types import Samples


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def raw():
    return synthetic(num_train=400, num_test=100, num_classes=4)


@pytest.mark.parametrize("draw", ["balanced", "natural", "skewed"])
def test_held_out_rows_come_from_what_is_available(raw, draw):
    available = np.arange(100, 400)
    public, taken = HeldOut(40, draw)(raw, available, rng())
    assert len(public) == len(set(taken.tolist())) == 40
    assert np.isin(taken, available).all()
    np.testing.assert_array_equal(public.inputs, raw.train.inputs[taken])
    np.testing.assert_array_equal(public.labels, raw.train.labels[taken])
    assert draw in public.source
    _, again = HeldOut(40, draw)(raw, available, rng())
    np.testing.assert_array_equal(taken, again)
    _, other = HeldOut(40, draw)(raw, available, rng(1))
    assert not np.array_equal(taken, other)


def test_unlabelled_is_the_same_draw_without_labels(raw):
    known, taken = HeldOut(40, "skewed")(raw, np.arange(400), rng())
    unknown, again = HeldOut(40, "skewed", labelled=False)(raw, np.arange(400), rng())
    np.testing.assert_array_equal(taken, again)
    np.testing.assert_array_equal(known.inputs, unknown.inputs)
    assert unknown.labels is None
    assert unknown.source == f"{known.source}, unlabelled"


def test_balanced_means_equal_counts_up_to_one(raw):
    public, _ = HeldOut(40)(raw, np.arange(400), rng())
    assert np.bincount(public.labels).tolist() == [10] * 4
    public, _ = HeldOut(42)(raw, np.arange(400), rng())
    assert sorted(np.bincount(public.labels).tolist()) == [10, 10, 11, 11]


def test_balanced_refuses_what_a_scarce_class_cannot_give(raw):
    scarce = np.flatnonzero(raw.train.labels != 2)
    scarce = np.sort(np.append(scarce, np.flatnonzero(raw.train.labels == 2)[:3]))
    with pytest.raises(DataError, match=r"3 samples of class 2, allowed: at most 12.*natural"):
        HeldOut(40)(raw, scarce, rng())
    public, _ = HeldOut(12)(raw, scarce, rng())
    assert np.bincount(public.labels).tolist() == [3] * 4


def test_skew_follows_alpha(raw):
    def spread(alpha):
        stds = []
        for seed in range(20):
            public, _ = HeldOut(80, "skewed", alpha)(raw, np.arange(400), rng(seed))
            stds.append(np.bincount(public.labels, minlength=4).std())
        return np.mean(stds)

    assert spread(0.1) > 3 * spread(100)


def test_held_out_cannot_take_everything(raw):
    with pytest.raises(DataError, match=r"public.size=400, allowed: less than the 400.*Lower"):
        HeldOut(400)(raw, np.arange(400), rng())


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: HeldOut(0), "size"),
        (lambda: HeldOut(True), "size"),
        (lambda: HeldOut(10.0), "size"),
        (lambda: HeldOut(draw="even"), "draw"),
        (lambda: HeldOut(alpha=float("nan")), "alpha"),
        (lambda: HeldOut(alpha=float("inf")), "alpha"),
        (lambda: HeldOut(alpha=0), "alpha"),
        (lambda: HeldOut(labelled=0), "labelled"),
        (lambda: External(None), "dataset"),
        (lambda: External(synthetic, size=0), "size"),
        (lambda: External(synthetic, max_overlap=float("nan")), "max_overlap"),
        (lambda: External(synthetic, max_overlap=True), "max_overlap"),
        (lambda: Noise(-1), "size"),
        (lambda: Noise(kind="salt"), "kind"),
    ],
)
def test_bad_parameters_are_refused(make, name):
    with pytest.raises(FedfuseError, match=f"'{name}' parameter"):
        make()


def test_public_sources_are_frozen():
    with pytest.raises(FrozenInstanceError):
        HeldOut().size = 3


@pytest.mark.parametrize("call", [True, False])
def test_external_data_is_matched_in_channels_and_size_without_labels(raw, call):
    other = functools.partial(synthetic, channels=3, image_size=12, seed=5)
    public, taken = External(other if call else other(), size=30)(raw, np.arange(400), rng())
    assert public.inputs.shape == (30, 1, 8, 8)
    assert public.inputs.dtype == np.uint8
    assert public.labels is None
    assert len(taken) == 0
    assert "external" in public.source


def test_an_external_set_that_is_the_private_data_is_refused(raw):
    with pytest.raises(DataError, match=r"30 of 30 public samples are exact copies"):
        External(raw, size=30)(raw, np.arange(400), rng())
    # The same rows in another order under another name have another fingerprint.
    order = rng().permutation(400)
    shuffled = describe(
        "shuffled",
        Decoded(Samples(raw.train.inputs[order], raw.train.labels[order]), None, raw.class_names),
    )
    with pytest.raises(DataError, match=r"shuffled holds the private or test data"):
        External(shuffled, size=30)(raw, np.arange(400), rng())
    # So does its test split.
    test = describe("test", Decoded(raw.test, None, raw.class_names))
    with pytest.raises(DataError, match="holds the private or test data"):
        External(test, size=30)(raw, np.arange(400), rng())


def test_a_few_copies_are_tolerated_up_to_max_overlap(raw):
    other = synthetic(num_train=100, num_test=0, num_classes=4, seed=9)
    inputs = np.array(other.train.inputs)
    inputs[:5] = raw.train.inputs[:5]
    mixed = describe("mixed", Decoded(Samples(inputs, other.train.labels), None, raw.class_names))
    public, _ = External(mixed, size=100, max_overlap=0.05)(raw, np.arange(400), rng())
    assert len(public) == 100
    with pytest.raises(DataError, match="5 of 100"):
        External(mixed, size=100, max_overlap=0.04)(raw, np.arange(400), rng())


def test_an_external_set_that_is_too_small_or_of_another_kind_is_refused(raw):
    with pytest.raises(DataError, match=r"public.size=50, allowed: at most 20"):
        External(synthetic(num_train=20, seed=1), size=50)(raw, np.arange(400), rng())
    with pytest.raises(DataError, match="cannot be matched"):
        External(synthetic(kind="features"), size=50)(raw, np.arange(400), rng())


def test_uniform_noise_fills_the_range(raw):
    public, taken = Noise(200)(raw, np.arange(400), rng())
    assert public.inputs.shape == (200, 1, 8, 8)
    assert public.inputs.dtype == np.uint8
    assert (public.inputs.min(), public.inputs.max()) == (0, 255)
    assert abs(public.inputs.mean() - 127.5) < 2
    assert public.labels is None
    assert len(taken) == 0


def test_gaussian_noise_has_the_moments_of_the_data():
    pixels = rng().normal(100, 20, size=(500, 3, 8, 8)).round().astype(np.uint8)
    pixels[:, 1] += 50
    data = Decoded(Samples(pixels, np.arange(500) % 2), None, ("a", "b"))
    public, _ = Noise(500, "gaussian")(describe("d", data), np.arange(500), rng(1))
    np.testing.assert_allclose(public.inputs.mean(axis=(0, 2, 3)), [100, 150, 100], atol=1)
    np.testing.assert_allclose(public.inputs.std(axis=(0, 2, 3)), [20] * 3, atol=1)


@pytest.mark.parametrize("kind", ["uniform", "gaussian"])
def test_noise_for_features_follows_each_feature(kind):
    raw = synthetic(num_train=500, kind="features", num_features=5)
    scaled = describe(
        "scaled",
        Decoded(
            Samples(raw.train.inputs * np.float32([1, 10, 100, 1, 1]), raw.train.labels),
            None,
            raw.class_names,
        ),
    )
    public, _ = Noise(500, kind)(scaled, np.arange(500), rng())
    assert public.inputs.shape == (500, 5)
    assert public.inputs.dtype == np.float32
    ratio = public.inputs.std(axis=0) / scaled.train.inputs.std(axis=0)
    assert (ratio > 0.7).all()
    assert (ratio < 1.5).all()
