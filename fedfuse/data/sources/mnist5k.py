"""The default data: 5,000 real MNIST digits, in a file beside this one."""

from __future__ import annotations

import base64
import json
import zlib
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.types import Samples

SIDE, EACH = 28, 500
FILE = Path(__file__).with_name("mnist5k.json")
"""JSON, because Flower takes no other file with data into the app that it bundles."""


def mnist5k() -> RawDataset:
    """Return 500 digits of each class, grey 28x28, without a test split; nothing is downloaded.

    The digits are MNIST's, under a licence of their own, which the file names.

    Raises:
        DataError: If the file is not as it was installed.
    """
    return cached("mnist5k", cache_key("mnist5k", {}, {FILE.name: FILE}), _decode)


def _decode() -> Decoded:
    try:
        pixels = zlib.decompress(base64.b64decode(json.loads(FILE.read_bytes())["images"]))
        images = np.frombuffer(pixels, dtype=np.uint8).reshape(10 * EACH, 1, SIDE, SIDE)
    except (OSError, KeyError, ValueError, zlib.error) as error:
        raise DataError(
            f"{FILE} is damaged", got=str(error), next_step="Reinstall fedfuse."
        ) from error
    samples = Samples(images, np.repeat(np.arange(10), EACH))
    return Decoded(samples, None, tuple(str(digit) for digit in range(10)))
