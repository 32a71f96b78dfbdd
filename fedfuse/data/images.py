"""Encoded images to one uint8 array, and arrays of images to another number of channels or size."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from fedfuse.errors import DataError
from fedfuse.validation import require_count

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = frozenset({"1", "L", "LA", "La"})
COLOUR = frozenset({"P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
THREADED_FROM = 96 * 96
"""Pixels an image from which threads pay: below, they mostly wait for the interpreter's lock
(28x28 decodes twice as fast on one thread as on two)."""
MOST_PIXELS = 2**26
"""Pixels of one image, 8192x8192; what announces more is taken for an attack."""
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601, the weights with which Pillow turns RGB to grey as well."""
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded, all of it within this process. Left to itself Pillow goes by a file's first
bytes, whatever it is called, and starts the program Ghostscript on what looks like EPS."""


ORIENTATION = 0x0112
"""The EXIF tag that says how a camera was held."""
ALPHA = frozenset({"LA", "RGBA"})


class _ColourFoundError(Exception):
    """A set that began grey holds a colour image."""


def decode_images(
    count: int,
    read: Callable[[int], bytes],
    where: Callable[[int], str],
    image_size: int | None = None,
) -> npt.NDArray[np.uint8]:
    """Return the decoded images, uint8 [count, channels, height, width].

    One channel if every image is grey, else three; transparency is dropped, of an animation the
    first frame is taken, and a picture is turned as its EXIF orientation says.

    Args:
        count: Number of images, at least 1.
        read: Returns the encoded bytes of one image; called from several threads.
        where: Says in words where an image comes from, for messages.
        image_size: Stretch every image to this height and width (bilinear); None to keep the
            size, which must then be the same for all.

    Raises:
        DataError: If an image cannot be decoded or has another size than the first.
    """
    if image_size is not None:
        require_count("dataset", "image_size", image_size)
    first = _load(read(0), where(0))
    try:
        return _decode(count, read, where, image_size, first, 1 if first.mode in GREY else 3)
    except _ColourFoundError:
        return _decode(count, read, where, image_size, first, 3)


def match_images(
    images: npt.NDArray[np.uint8], channels: int, height: int, width: int
) -> npt.NDArray[np.uint8]:
    """Return the images with another number of channels and size.

    Grey becomes RGB by repetition, RGB becomes grey by its luma, and sizes are matched by
    bilinear interpolation (antialiased where it shrinks).

    Args:
        images: uint8 [N, 1 or 3, h, w].
        channels: 1 or 3.
        height: In pixels.
        width: In pixels.

    >>> match_images(np.full((2, 1, 4, 4), 7, dtype=np.uint8), 3, 8, 8).shape
    (2, 3, 8, 8)
    """
    have = images.shape[1]
    if (have, channels) not in {(1, 1), (3, 3), (1, 3), (3, 1)}:
        raise DataError(
            "Images cannot be matched in their channels",
            got=f"{have} and {channels}",
            allowed="1 (grey) and 3 (RGB)",
        )
    if images.shape[1:] == (channels, height, width):
        return images
    values = torch.from_numpy(np.array(images, dtype=np.float32))
    if channels < have:
        values = (values * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    if values.shape[2:] != (height, width):
        values = F.interpolate(
            values, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
    values = values.round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1)
    return np.ascontiguousarray(values.numpy())


def _decode(
    count: int,
    read: Callable[[int], bytes],
    where: Callable[[int], str],
    image_size: int | None,
    first: Image,
    channels: int,
) -> npt.NDArray[np.uint8]:
    from PIL.Image import Resampling

    width, height = (image_size, image_size) if image_size else first.size
    size, memory = count * channels * height * width, machine_memory()
    if size > memory:
        raise DataError(
            "The images are larger than this machine's memory once they are decoded",
            got=f"{count} of {height}x{width}, {size} bytes",
            allowed=f"{memory} bytes",
            next_step="Set dataset.image_size to a smaller size.",
        )
    out = np.empty((count, channels, height, width), dtype=np.uint8)
    mode = "L" if channels == 1 else "RGB"

    def fill(start: int) -> None:
        for i in range(start, min(start + 256, count)):
            image = _load(read(i), where(i))
            if channels == 1 and image.mode not in GREY:
                raise _ColourFoundError
            if image_size is None and image.size != (width, height):
                raise DataError(
                    "The images have different sizes",
                    got=f"{height}x{width} in {where(0)} and "
                    f"{image.size[1]}x{image.size[0]} in {where(i)}",
                    next_step="Set dataset.image_size to stretch all of them to one size.",
                )
            image = image if image.mode == mode else image.convert(mode)
            if image.size != (width, height):
                image = image.resize((width, height), Resampling.BILINEAR)
            pixels = np.asarray(image)
            out[i] = pixels if channels == 1 else pixels.transpose(2, 0, 1)

    threads = os.cpu_count() or 1 if first.size[0] * first.size[1] >= THREADED_FROM else 1
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(fill, range(0, count, 256)):
            pass
    return out


def machine_memory() -> int:
    """Return the bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _load(data: bytes, where: str) -> Image:
    from PIL import Image, UnidentifiedImageError

    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        # A header of a few bytes may announce a picture of gigabytes; nothing is decoded yet.
        if image.size[0] * image.size[1] > MOST_PIXELS:
            raise ValueError(f"{image.size[0]}x{image.size[1]} pixels, more than {MOST_PIXELS}")
        image.load()
        image = _upright(image)
    except UnidentifiedImageError as error:
        raise DataError(
            f"An image cannot be decoded ({where})",
            got=f"a file that begins with {data[:8]!r}" if data else "no bytes",
            allowed=", ".join(FORMATS),
            next_step="Convert it to PNG, or remove it.",
        ) from error
    # Pillow's decoders raise all kinds of errors on damaged data.
    except Exception as error:
        raise DataError(
            f"An image cannot be decoded ({where})",
            got=str(error) or type(error).__name__,
            next_step="Replace it by a whole one, or remove it.",
        ) from error
    if image.mode not in GREY | COLOUR:
        raise DataError(
            f"An image is not of 8 bits a channel ({where})",
            got=f"mode {image.mode}",
            allowed="grey or colour with values 0 to 255",
            next_step="Convert the images to 8 bits a channel, all of them by the same scale.",
        )
    _refuse_shape_in_alpha(image, where)
    return image


def _upright(image: Image) -> Image:
    """Return the picture turned and mirrored as its EXIF orientation says."""
    from PIL import ImageOps

    try:
        if image.getexif().get(ORIENTATION, 1) == 1:
            return image
    except Exception:  # damaged metadata of a picture that is whole
        return image
    return ImageOps.exif_transpose(image)


def _refuse_shape_in_alpha(image: Image, where: str) -> None:
    """Refuse a picture of which nothing would be left without its transparency."""
    if image.mode not in ALPHA:
        return
    *colours, alpha = [band.getextrema() for band in image.split()]
    if alpha[0] != alpha[1] and all(low == high for low, high in colours):
        raise DataError(
            f"An image has its shape in its transparency alone, which is dropped ({where})",
            next_step="Paste the images onto a background first (Image.alpha_composite).",
        )
