"""The default table: 569 tumours measured under the microscope, in a file beside this one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fedfuse.data.cache import cache_key, cached
from fedfuse.data.raw import Decoded, RawDataset
from fedfuse.errors import DataError
from fedfuse.types import Samples

FILE = Path(__file__).with_name("breast_cancer.json")
"""JSON, because Flower takes no other file with data into the app that it bundles."""


def breast_cancer() -> RawDataset:
    """Return 569 tumours with 30 measurements, without a test split; nothing is downloaded.

    212 are malignant (class 0) and 357 benign (class 1), numbered as scikit-learn does. The
    file names its source and licence.

    Raises:
        DataError: If the file is not as it was installed.
    """
    return cached("breast_cancer", cache_key("breast_cancer", {}, {FILE.name: FILE}), _decode)


def _decode() -> Decoded:
    try:
        found = json.loads(FILE.read_bytes())
        inputs = np.array(found["rows"], dtype=np.float32)
        labels = np.array(found["labels"], dtype=np.int64)
        return Decoded(
            Samples(inputs, labels), None, tuple(found["classes"]), tuple(found["columns"])
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{FILE} is damaged", got=str(error), next_step="Reinstall fedfuse."
        ) from error
