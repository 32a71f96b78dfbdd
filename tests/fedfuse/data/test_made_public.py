"""Public sets that are made: noise with classes, and noisy copies of a few samples."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fedfuse.data.class_noise import ClassNoise, separability
from fedfuse.data.jitter import Jitter
from fedfuse.data.public import Noise
from fedfuse.data.raw import Decoded, describe
from fedfuse.data.sources.synthetic import synthetic
from fedfuse.errors import DataError, ParameterError
from fedfuse.types import Samples

IMAGES = synthetic(num_train=400, num_test=100, num_classes=4)
FEATURES = synthetic(num_train=400, kind="features", num_features=5, num_classes=4)
EVERYTHING = np.arange(400)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def grey(num: int = 300) -> object:
    """Return images whose Gaussian noise is hardly ever clipped."""
    pixels = rng().normal(120, 12, size=(num, 1, 6, 6)).round().astype(np.uint8)
    return describe("grey", Decoded(Samples(pixels, np.arange(num) % 5), None, tuple("abcde")))


def test_G1_separability_by_hand():
    points = np.array([[0.0], [2.0], [10.0], [12.0]])
    assert separability(points, np.array([0, 0, 1, 1])) == pytest.approx(25, abs=1e-5)
    assert separability(points, np.zeros(4, np.int64)) == 0
    assert separability(np.array([[1.0], [1.0], [3.0]]), np.array([0, 0, 1])) == math.inf
    assert separability(np.ones((3, 2)), np.array([0, 0, 1])) == 0
    whole = points.reshape(4, 1, 1, 1).astype(np.uint8)
    assert separability(whole, np.array([0, 0, 1, 1])) == 25


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
@pytest.mark.parametrize("raw", [IMAGES, FEATURES], ids=["images", "features"])
def test_G1_separation_0_is_gaussian_noise_to_the_bit(raw, covariance):
    made, taken = ClassNoise(100, 0, covariance)(raw, EVERYTHING, rng(3))
    plain, _ = Noise(100, "gaussian")(raw, EVERYTHING, rng(3))
    np.testing.assert_array_equal(made.inputs, plain.inputs)
    assert made.inputs.dtype == raw.train.inputs.dtype
    assert len(taken) == 0
    assert np.bincount(made.labels).tolist() == [25] * 4


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_G1_classes_lie_as_far_apart_as_they_are_told_to(covariance):
    found = []
    for separation in (0.0, 0.5, 1.0, 2.0, 4.0):
        made, _ = ClassNoise(1000, separation, covariance)(grey(), np.arange(300), rng(1))
        found.append(separability(made.inputs, made.labels))
    assert found == sorted(found)
    # By chance the means of samples differ a little; five means vary by (1 - 1/5) of their spread.
    assert found[0] < 0.02
    assert found[2] == pytest.approx(0.8, rel=0.25)
    assert found[4] == pytest.approx(16 * 0.8, rel=0.25)


@pytest.mark.parametrize("separation", [0.5, 3.0])
def test_G1_it_has_the_mean_and_deviation_of_the_data(separation):
    raw = grey()
    made = [ClassNoise(300, separation)(raw, np.arange(300), rng(s))[0].inputs for s in range(20)]
    pixels = np.stack(made).astype(np.float64)
    assert pixels.mean() == pytest.approx(120, abs=1)
    assert pixels.std() == pytest.approx(12, rel=0.1)


def test_G1_a_class_has_variances_of_its_own():
    made, _ = ClassNoise(4000, 1.0)(FEATURES, EVERYTHING, rng(2))
    spread = np.stack([made.inputs[made.labels == c].std(axis=0) for c in range(4)])
    relative = spread / FEATURES.train.inputs.std(axis=0)
    assert relative.std(axis=0).min() > 0.1, "classes differ"
    assert relative.min() < 0.05, "a negative eigenvalue is 0"


def test_G1_other_seeds_are_other_noise_and_the_source_says_how_far_apart_it_is():
    one, two = (ClassNoise(40)(IMAGES, EVERYTHING, rng(seed))[0] for seed in (0, 1))
    assert not np.array_equal(one.inputs, two.inputs)
    again, _ = ClassNoise(40)(IMAGES, EVERYTHING, rng(0))
    np.testing.assert_array_equal(one.inputs, again.inputs)
    np.testing.assert_array_equal(one.labels, again.labels)
    told = f"separability {separability(one.inputs, one.labels):.2f}"
    assert one.source == f"40 samples of class-wise noise, separation 1, {told}"


def test_G1_whole_covariances_are_for_few_features():
    wide = synthetic(num_train=40, num_classes=4, image_size=64)
    with pytest.raises(DataError, match=r"4096 features of 4 classes.*up to 10,000.*diagonal"):
        ClassNoise(20, covariance="full")(wide, np.arange(40), rng())


@pytest.mark.parametrize("draw", ["balanced", "natural"])
def test_G2_jitter_are_copies_of_a_few_samples_that_nobody_else_has(draw):
    made, taken = Jitter(60, seeds=8, noise=0.1, draw=draw)(IMAGES, np.arange(100, 400), rng())
    assert len(made) == 60
    assert len(set(taken.tolist())) == 8
    assert taken.min() >= 100
    seeds = IMAGES.train.inputs[taken].astype(np.float64)
    distance = np.abs(made.inputs[:, None].astype(np.float64) - seeds).mean(axis=(2, 3, 4))
    nearest = distance.argmin(axis=1)
    assert nearest.tolist() == [i % 8 for i in range(60)]
    assert distance.min() > 0, "none is as it was"
    np.testing.assert_array_equal(made.labels, IMAGES.train.labels[taken][nearest])
    if draw == "balanced":
        assert np.bincount(IMAGES.train.labels[taken]).tolist() == [2] * 4


def test_G2_jitter_of_features_is_in_units_of_each_ones_deviation():
    made, taken = Jitter(4000, seeds=2, noise=0.5)(FEATURES, EVERYTHING, rng())
    off = made.inputs - FEATURES.train.inputs[taken][np.arange(4000) % 2]
    spread = off.std(axis=0) / FEATURES.train.inputs.std(axis=0)
    np.testing.assert_allclose(spread, 0.5, rtol=0.05)
    assert made.inputs.dtype == np.float32


def test_G2_jitter_keeps_its_labels_to_itself_if_told_so():
    known, _ = Jitter(30)(IMAGES, EVERYTHING, rng())
    unknown, _ = Jitter(30, labelled=False)(IMAGES, EVERYTHING, rng())
    np.testing.assert_array_equal(known.inputs, unknown.inputs)
    assert unknown.labels is None
    assert unknown.source == f"{known.source}, unlabelled"


def test_G2_jitter_leaves_the_clients_something():
    with pytest.raises(DataError, match=r"public.seeds=20, allowed: less than the 20 training"):
        Jitter(30)(IMAGES, np.arange(20), rng())


@pytest.mark.parametrize(
    ("part", "given"),
    [
        (ClassNoise, {"size": 0}),
        (ClassNoise, {"separation": -1}),
        (ClassNoise, {"separation": math.nan}),
        (ClassNoise, {"separation": True}),
        (ClassNoise, {"covariance": "whole"}),
        (Jitter, {"size": 1.5}),
        (Jitter, {"seeds": 501}),
        (Jitter, {"seeds": True}),
        (Jitter, {"noise": 0}),
        (Jitter, {"noise": math.inf}),
        (Jitter, {"draw": "skewed"}),
        (Jitter, {"labelled": "no"}),
    ],
)
def test_impossible_parameters_are_refused(part, given):
    with pytest.raises(ParameterError, match=f"'{next(iter(given))}' parameter of {part.__name__}"):
        part(**given)
