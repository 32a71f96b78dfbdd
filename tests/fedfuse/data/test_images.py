import io

import numpy as np
import pytest
from PIL import Image

from fedfuse.data.images import decode_images, match_images
from fedfuse.errors import DataError, ParameterError


def encode(pixels, mode=None, fmt="PNG"):
    image = Image.fromarray(np.asarray(pixels, dtype=np.uint8))
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, fmt)
    return buffer.getvalue()


def decode(blobs, **kwargs):
    return decode_images(len(blobs), blobs.__getitem__, lambda i: f"image {i}", **kwargs)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("count", [1, 255, 256, 700])
def test_grey_images_come_back_exactly_and_in_order(count):
    pixels = noise(count, 5, 4)
    out = decode([encode(p) for p in pixels])
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, pixels[:, None])


def test_large_images_are_decoded_by_threads_to_the_same():
    pixels = noise(600, 96, 96) // 64
    np.testing.assert_array_equal(decode([encode(p) for p in pixels])[:, 0], pixels)


def test_colour_is_channels_first():
    pixels = noise(3, 5, 4, 3)
    out = decode([encode(p) for p in pixels])
    np.testing.assert_array_equal(out, pixels.transpose(0, 3, 1, 2))


def test_one_colour_image_among_grey_ones_makes_the_set_colour():
    grey, colour = noise(4, 5), noise(4, 5, 3)
    out = decode([encode(grey)] * 300 + [encode(colour)])
    assert out.shape == (301, 3, 4, 5)
    np.testing.assert_array_equal(out[0], np.stack([grey] * 3))
    np.testing.assert_array_equal(out[300], colour.transpose(2, 0, 1))


def test_transparency_is_dropped_and_palettes_become_colour():
    rgba = noise(4, 4, 4)
    np.testing.assert_array_equal(decode([encode(rgba)])[0], rgba[..., :3].transpose(2, 0, 1))
    flat = np.zeros((4, 4, 3), dtype=np.uint8)
    flat[..., 0] = 255
    assert decode([encode(flat, "P")])[0].shape == (3, 4, 4)
    assert decode([encode(noise(4, 4), "LA")]).shape == (1, 1, 4, 4)
    assert set(np.unique(decode([encode(noise(4, 4), "1")]))) <= {0, 255}


def test_different_sizes_need_image_size():
    blobs = [encode(np.full((4, 4), 10)), encode(np.full((6, 8), 20))]
    with pytest.raises(DataError, match=r"4x4 in image 0 and 6x8 in image 1.*image_size"):
        decode(blobs)
    out = decode(blobs, image_size=5)
    assert out.shape == (2, 1, 5, 5)
    assert (out[0] == 10).all()
    assert (out[1] == 20).all()
    with pytest.raises(ParameterError, match="image_size"):
        decode(blobs, image_size=0)


def test_damaged_and_deep_images_are_named():
    good = encode(noise(4, 4))
    with pytest.raises(DataError, match=r"cannot be decoded \(image 1\)"):
        decode([good, good[:30]])
    with pytest.raises(DataError, match=r"cannot be decoded \(image 0\)"):
        decode([b"", good])
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40000, dtype=np.uint16)).save(buffer, "PNG")
    with pytest.raises(DataError, match="not of 8 bits"):
        decode([buffer.getvalue()])


def test_matching_grey_and_colour_by_hand():
    grey = np.array([[[[10, 200]]]], dtype=np.uint8)
    np.testing.assert_array_equal(match_images(grey, 3, 1, 2), np.repeat(grey, 3, axis=1))
    colour = np.array([[[[100]], [[50]], [[200]]]], dtype=np.uint8)
    # 0.299 * 100 + 0.587 * 50 + 0.114 * 200 = 82.05
    assert match_images(colour, 1, 1, 1).item() == 82
    assert match_images(grey, 1, 1, 2) is grey


def test_matching_sizes():
    flat = np.full((2, 3, 32, 32), 77, dtype=np.uint8)
    small = match_images(flat, 1, 28, 28)
    assert small.shape == (2, 1, 28, 28)
    assert np.ptp(small) == 0
    # Halving with an antialiased bilinear filter keeps the mean of a checkerboard.
    board = (np.indices((8, 8)).sum(axis=0) % 2 * 200).astype(np.uint8)[None, None]
    inner = match_images(board, 1, 4, 4)[0, 0, 1:3, 1:3]
    np.testing.assert_allclose(inner, 100, atol=1)
    with pytest.raises(DataError, match="matched in their channels"):
        match_images(np.zeros((1, 2, 4, 4), dtype=np.uint8), 1, 4, 4)
