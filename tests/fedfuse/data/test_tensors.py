import warnings

import numpy as np
import pytest
import torch

from fedfuse.data.tensors import gather, normalise, to_inputs, to_raw
from fedfuse.types import Samples


def images(n=6):
    return np.random.default_rng(0).integers(0, 256, size=(n, 3, 4, 5), dtype=np.uint8)


MEAN, STD = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)


def reference(rows):
    x = rows.astype(np.float64) / 255
    for channel in range(3):
        x[:, channel] = (x[:, channel] - MEAN[channel]) / STD[channel]
    return x


def test_images_are_normalised_per_channel():
    out = to_inputs(images(), MEAN, STD)
    assert out.dtype == torch.float32
    np.testing.assert_allclose(out.numpy(), reference(images()), rtol=1e-5, atol=1e-6)


def test_features_pass_through_as_a_copy():
    rows = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    out = to_inputs(rows, (), ())
    np.testing.assert_array_equal(out.numpy(), rows)
    out += 1
    assert not np.array_equal(out.numpy(), rows)


def test_normalising_leaves_its_argument_alone():
    raw = to_raw(images())
    before = raw.clone()
    normalise(raw, MEAN, STD)
    assert torch.equal(raw, before)


def test_gather_reads_rows_of_a_read_only_map_without_a_warning(tmp_path):
    np.save(tmp_path / "x.npy", images())
    np.save(tmp_path / "y.npy", np.arange(6))
    samples = Samples(*(np.load(tmp_path / f"{p}.npy", mmap_mode="r") for p in "xy"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inputs, labels = gather(samples, np.array([4, 1, 1]), MEAN, STD)
        whole = to_inputs(samples.inputs[1:3], MEAN, STD)
    np.testing.assert_allclose(inputs.numpy(), reference(images()[[4, 1, 1]]), rtol=1e-5, atol=1e-6)
    assert torch.equal(whole[0], inputs[1])
    assert labels.tolist() == [4, 1, 1]
    assert labels.dtype == torch.int64
    labels += 1  # a copy: the map is read-only


def test_the_transform_sees_raw_values():
    samples = Samples(images(), np.arange(6))
    seen = []

    def darken(x):
        seen.append(float(x.max()))
        return x * 0

    inputs, _ = gather(samples, np.arange(6), MEAN, STD, darken)
    assert seen == [float(images().max())]
    assert inputs[0, :, 0, 0].tolist() == pytest.approx([-0.5, -0.5 / 0.3, -2.25], rel=1e-5)


def test_an_empty_index_gives_empty_tensors():
    inputs, labels = gather(Samples(images(), np.arange(6)), np.empty(0, dtype=np.int64), MEAN, STD)
    assert inputs.shape == (0, 3, 4, 5)
    assert labels.shape == (0,)


@pytest.mark.parametrize(
    ("pool", "mean", "std"),
    [
        (images(), MEAN, STD),
        (np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), MEAN, STD),
        (np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), (), ()),
        (np.arange(18, dtype=np.int32).reshape(6, 3), (), ()),
    ],
)
def test_gathered_rows_are_those_normalised_apart_and_the_pool_stays_as_it_is(pool, mean, std):
    before, index = pool.copy(), np.array([5, 0, 0])
    inputs, _ = gather(Samples(pool, np.arange(6)), index, mean, std)
    assert torch.equal(inputs, normalise(to_raw(pool[index]), mean, std))
    inputs += 1
    np.testing.assert_array_equal(pool, before)


def test_what_a_transform_keeps_is_not_normalised_under_its_hands():
    kept = torch.full((2, 3, 4, 5), 51.0)
    gather(Samples(images(), np.arange(6)), np.array([0, 1]), MEAN, STD, lambda _: kept)
    assert torch.equal(kept, torch.full((2, 3, 4, 5), 51.0))
