"""Feature shift: deterministic, picklable, as strong as it says."""

import pickle

import numpy as np
import pytest
import torch

from fedfuse.errors import DataError
from fedfuse.partition import FeatureNoise, FeatureRotation
from fedfuse.partition.feature_rotation import Rotation
from fedfuse.protocols import ShiftsFeatures


def images(n=6, channels=1, height=28, width=28):
    raw = torch.randint(0, 256, (n, channels, height, width), generator=torch.Generator())
    return raw.float()


def test_both_are_partitioners_that_shift_features():
    assert isinstance(FeatureNoise(), ShiftsFeatures)
    assert isinstance(FeatureRotation(), ShiftsFeatures)


def test_noise_grows_with_the_client():
    """Mid-grey images, so that little is clipped: the spread is 255 * sigma * (k + 1) / K."""
    grey = torch.full((200, 1, 28, 28), 127.5) + 0.01 * torch.arange(200).reshape(-1, 1, 1, 1)
    for client in range(4):
        noisy = FeatureNoise(sigma=0.1).transform(client, 4, seed=0)(grey)
        spread = (noisy - grey).std().item()
        assert abs(spread / (25.5 * (client + 1) / 4) - 1) < 0.02
        assert abs((noisy - grey).mean().item()) < 0.2


def test_an_image_has_the_same_noise_wherever_it_stands():
    noise = FeatureNoise().transform(2, 4, seed=7)
    x = images()
    once = noise(x)
    assert torch.equal(once, pickle.loads(pickle.dumps(noise))(x))
    order = torch.tensor([4, 1, 3])
    assert torch.equal(once[order], noise(x[order]))
    assert torch.equal(noise(torch.stack([x[0], x[0]]))[0], once[0])
    assert torch.equal(noise(x.byte()), once)


def test_other_images_clients_and_seeds_have_other_noise():
    x = 100.0 + images(2) / 5
    added = [
        FeatureNoise(sigma=0.1).transform(client, 4, seed=seed)(x[i : i + 1]) - x[i : i + 1]
        for client, seed, i in [(3, 0, 0), (3, 0, 1), (2, 0, 0), (3, 1, 0)]
    ]
    for i, a in enumerate(added):
        for b in added[:i]:
            correlation = np.corrcoef(a.flatten(), b.flatten())[0, 1]
            assert abs(correlation) < 0.15  # four standard deviations over 784 pixels


def test_noise_is_clipped_and_leaves_its_input_alone():
    x = images()
    kept = x.clone()
    noisy = FeatureNoise(sigma=2.0).transform(0, 1, seed=0)(x)
    assert torch.equal(x, kept)
    assert noisy.min() == 0
    assert noisy.max() == 255


@pytest.mark.parametrize("quarter", [1, 2, 3, -1])
def test_quarter_turns_are_exact(quarter):
    x = images(3, 3, 9, 9)
    turned = Rotation(90.0 * quarter)(x)
    torch.testing.assert_close(turned, torch.rot90(x, quarter, (2, 3)), atol=1e-2, rtol=0)


def test_a_half_turn_of_a_wide_image_is_exact():
    x = images(2, 1, 5, 11)
    torch.testing.assert_close(Rotation(180.0)(x), x.flip(2, 3), atol=1e-2, rtol=0)


def test_rotation_keeps_lengths_in_a_wide_image():
    """A point 3 pixels right of the centre comes to lie 3 pixels above it."""
    x = torch.zeros(1, 1, 11, 21)
    x[0, 0, 5, 13] = 200.0
    turned = Rotation(90.0)(x)
    assert turned[0, 0, 2, 10].item() == pytest.approx(200.0, abs=1e-2)
    assert turned.sum().item() == pytest.approx(200.0, abs=1e-1)


def test_the_angle_grows_with_the_client():
    angles = [FeatureRotation(max_degrees=60).transform(k, 4, seed=0).degrees for k in range(4)]
    assert angles == [15.0, 30.0, 45.0, 60.0]


def test_no_shift_is_no_transform():
    assert FeatureNoise(sigma=0).transform(0, 3, seed=0) is None
    assert FeatureRotation(max_degrees=0).transform(0, 3, seed=0) is None


@pytest.mark.parametrize("partitioner", [FeatureNoise(), FeatureRotation()])
def test_features_that_are_no_images_are_refused(partitioner):
    transform = partitioner.transform(1, 2, seed=0)
    with pytest.raises(DataError, match=r"feature_.* got inputs of shape \[5, 7\]"):
        transform(torch.zeros(5, 7))
    assert transform(torch.zeros(0, 1, 4, 4)).shape == (0, 1, 4, 4)
